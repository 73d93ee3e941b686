package terminal

import (
	"bytes"
	"flag"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/hinshun/vt10x"
)

var update = flag.Bool("update", false, "draw the pictures anew")

// root is where tapes name their pictures from.
const root = "../.."

// TestTapes plays every tape against a demo of its own, in a shell as a person would, and
// holds the pictures of docs/pictures against what is on the screen now.
func TestTapes(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/tapes/*.tape"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tapes: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".tape"), func(t *testing.T) {
			f, err := os.Open(file)
			must(t, err)
			defer f.Close()
			tape, err := ParseTape(f)
			must(t, err)
			if testing.Short() {
				t.Skip("plays against a whole demo")
			}
			bin, err := binary()
			must(t, err)
			cmd := exec.Command("/bin/sh")
			cmd.Env = []string{"PS1=$ ", "TERM=xterm-256color", "LANG=C.UTF-8", "HOME=" + t.TempDir(), "PATH=" + filepath.Dir(bin) + ":/usr/bin:/bin"}
			term, err := Start(cmd, tape.W, tape.H)
			must(t, err)
			defer term.Close()
			must(t, term.WaitFor(`\$`, soon))
			must(t, tape.Play(term, soon, func(name string) error { picture(t, term, name); return nil }))
		})
	}
}

// picture holds the picture of a name against the screen. Figures and random names differ
// from run to run, so what counts is the words: nearly all of them have to be the same.
func picture(t *testing.T, term *Terminal, name string) {
	t.Helper()
	file := filepath.Join(root, name+".svg")
	draw := func() string {
		term.Settle(soon)
		return term.SVG("enclave: " + filepath.Base(name))
	}
	if *update {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(draw()), 0o644))
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v (run with -update)", err)
		return
	}
	common, all := 0, 0
	for range 20 { // the last readings may still be on their way to the screen
		if common, all = alike(words(string(kept)), words(draw())); all > 0 && common*100 >= all*85 {
			return
		}
	}
	t.Errorf("%s is stale: %d of %d words are still on the screen (run with -update and look at it); the screen:\n%s", file, common, all, term.Text())
}

// alike counts the words that two pictures have in common, and all of both.
func alike(was, is map[string]bool) (common, all int) {
	for w := range is {
		if was[w] {
			common++
		}
	}
	return common, len(was) + len(is) - common
}

var tags = regexp.MustCompile(`<[^>]*>`)

// words are the words of a picture that are the same in every run.
func words(svg string) map[string]bool {
	out := make(map[string]bool)
	for w := range strings.FieldsSeq(html.UnescapeString(tags.ReplaceAllString(svg, " "))) {
		w = strings.TrimFunc(w, func(r rune) bool { return !unicode.IsLetter(r) })
		if len(w) >= 3 && !strings.ContainsFunc(w, unicode.IsDigit) {
			out[w] = true
		}
	}
	return out
}

// TestAPictureIsTheSameEachTime draws a small screen.
func TestAPictureIsTheSameEachTime(t *testing.T) {
	screen := func() string {
		vt := vt10x.New(vt10x.WithSize(20, 3))
		_, _ = vt.Write([]byte("\x1b[1mbold\x1b[0m \x1b[32m● live\x1b[0m\r\n<a & b>\r\n\x1b[7mchosen\x1b[0m"))
		return draw("a & b", 20, 3, vt.Cell)
	}
	got := screen()
	if got != screen() {
		t.Error("two pictures of one screen differ")
	}
	for _, want := range []string{`font-weight="bold">bold</text>`, `fill="#7fbf6a">● live</text>`, "&lt;a &amp; b&gt;", `fill="#d0d4da"/>`, "<title>a &amp; b</title>"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestATapeNamesItsMistakes(t *testing.T) {
	_, err := ParseTape(strings.NewReader("Type hello\nSleep 1h\nJump\nWait+Screen /(/\nScreenshot x.gif\n# terminal 1x1\nDown 101"))
	for _, want := range []string{"line 1: want Type", "line 2: want Sleep", `line 3: "Jump"`, "line 4: error parsing", "line 5: want Screenshot", "line 6: a terminal", "line 7: at most"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func FuzzParseTape(f *testing.F) {
	f.Add([]byte("# terminal 100x30\nType \"enclave demo\"\nEnter\nWait+Screen /a.b/\nCtrl+N 3\nSleep 1s\nScreenshot a.png\n"))
	f.Add([]byte("Set Width 3\nHide\nType `x`\nDown\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tape, err := ParseTape(bytes.NewReader(b))
		if err == nil && (tape.W < 20 || tape.H < 5 || len(tape.Steps) > maxLines) {
			t.Errorf("took %+v", tape)
		}
	})
}
