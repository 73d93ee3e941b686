// Package frame compares what a model shows with a file, the golden frame: text without
// colour, exactly w by h. Run tests with -update to write the files anew, and read the
// difference before committing it.
package frame

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

var update = flag.Bool("update", false, "write the golden frames anew")

// Golden sizes the model and compares its view with testdata/name.golden.
func Golden(t *testing.T, name string, m tea.Model, w, h int) {
	t.Helper()
	m, _ = m.Update(tea.WindowSizeMsg{Width: w, Height: h})
	got := ansi.Strip(m.View())
	Check(t, got, w, h)
	file := filepath.Join("testdata", name+".golden")
	var b strings.Builder
	for line := range strings.SplitSeq(got, "\n") {
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update)", err)
	}
	if b.String() != string(want) {
		t.Errorf("%s differs.\ngot:\n%s\nwant:\n%s", file, b.String(), want)
	}
}

// Check fails unless text is exactly h lines of w cells.
func Check(t *testing.T, text string, w, h int) {
	t.Helper()
	lines := strings.Split(text, "\n")
	if len(lines) != h {
		t.Errorf("%d lines, want %d", len(lines), h)
	}
	for i, line := range lines {
		if n := ansi.StringWidth(line); n != w {
			t.Errorf("line %d has %d cells, want %d: %q", i+1, n, w, line)
		}
	}
}
