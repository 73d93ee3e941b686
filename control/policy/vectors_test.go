package policy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// A section of a vector file: "-- name --" on a line, then its text.
type section struct{ name, text string }

func readSections(data string) (comment string, out []section) {
	for _, line := range strings.SplitAfter(data, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "-- "); ok && strings.HasSuffix(name, " --") {
			out = append(out, section{name: strings.TrimSuffix(name, " --")})
		} else if len(out) == 0 {
			comment += line
		} else {
			out[len(out)-1].text += line
		}
	}
	return comment, out
}

// TestVectors answers the questions of testdata/*.txtar: a section is a question, or
// several, and the section "answer" after it is what must come out, verdict and reason.
// Questions of files whose name begins with timeline are timelines.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		comment, sections := readSections(string(data))
		out := comment
		for i, s := range sections {
			if s.name == "answer" {
				continue
			}
			want := ""
			if i+1 < len(sections) && sections[i+1].name == "answer" {
				want = sections[i+1].text
			}
			var got bytes.Buffer
			opts := Options{Timeline: strings.HasPrefix(filepath.Base(file), "timeline")}
			if _, err := Answer(strings.NewReader(s.text), &got, opts); err != nil {
				t.Fatal(err)
			}
			if !*update && got.String() != want {
				t.Errorf("%s: %s\n got %s\nwant %s", file, s.name, got.String(), want)
			}
			out += "-- " + s.name + " --\n" + s.text + "-- answer --\n" + got.String()
		}
		if *update {
			if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
