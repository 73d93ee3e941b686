package terminal

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Tape is a script of keys and of what has to be on the screen in between: the part of
// VHS's language (github.com/charmbracelet/vhs) that docs/tapes uses, so VHS can film the
// same file. What VHS sets in pixels does not count here; the size in cells stands in a
// comment, "# terminal 100x30".
type Tape struct {
	W, H  int
	Steps []Command
}

// Command is one line of a tape.
type Command struct {
	Line int
	Verb string // Type, Key, Sleep, Wait, Screenshot
	Text string // what to type, the key, the pattern, or the file
	N    int    // how often a key
}

// The limits of a tape.
const (
	maxTape  = 64 << 10
	maxLines = 500
	maxTimes = 100
)

var (
	sizeLine = regexp.MustCompile(`^# terminal (\d{1,3})x(\d{1,3})$`)
	waitLine = regexp.MustCompile(`^Wait\+Screen(?:@\d+m?s)? /(.+)/$`)
	keyLine  = regexp.MustCompile(`^(Enter|Escape|Tab|Space|Backspace|Up|Down|Left|Right|Ctrl\+[A-Z])(?: (\d{1,3}))?$`)
)

// ParseTape reads a tape and returns every mistake by its line.
func ParseTape(r io.Reader) (*Tape, error) {
	t := &Tape{W: 80, H: 24}
	lines := bufio.NewScanner(io.LimitReader(r, maxTape+1))
	var mistakes []string
	n, size := 0, 0
	for lines.Scan() {
		n++
		if size += len(lines.Bytes()) + 1; n > maxLines || size > maxTape {
			return nil, fmt.Errorf("more than %d lines or %d bytes", maxLines, maxTape)
		}
		if err := t.line(n, strings.TrimSpace(lines.Text())); err != nil {
			mistakes = append(mistakes, fmt.Sprintf("line %d: %v", n, err))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(mistakes) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(mistakes, "; "))
	}
	return t, nil
}

func (t *Tape) line(n int, text string) error {
	add := func(verb, what string, times int) { t.Steps = append(t.Steps, Command{n, verb, what, times}) }
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "":
		return nil
	case "#":
		if m := sizeLine.FindStringSubmatch(text); m != nil {
			t.W, _ = strconv.Atoi(m[1])
			t.H, _ = strconv.Atoi(m[2])
			if t.W < 20 || t.H < 5 {
				return fmt.Errorf("a terminal of %dx%d is too small", t.W, t.H)
			}
		}
		return nil
	case "Output", "Require", "Set", "Hide", "Show": // VHS's own business
		return nil
	case "Type":
		if len(rest) < 2 || !strings.ContainsRune("\"'`", rune(rest[0])) || rest[len(rest)-1] != rest[0] {
			return fmt.Errorf("want Type \"text\"")
		}
		add("Type", rest[1:len(rest)-1], 1)
		return nil
	case "Sleep":
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > 10*time.Second {
			return fmt.Errorf("want Sleep with up to 10s")
		}
		add("Sleep", rest, 1)
		return nil
	case "Screenshot":
		if !strings.HasSuffix(rest, ".png") {
			return fmt.Errorf("want Screenshot FILE.png")
		}
		add("Screenshot", strings.TrimSuffix(rest, ".png"), 1)
		return nil
	}
	if m := waitLine.FindStringSubmatch(text); m != nil {
		if _, err := regexp.Compile(m[1]); err != nil {
			return err
		}
		add("Wait", m[1], 1)
		return nil
	}
	if m := keyLine.FindStringSubmatch(text); m != nil {
		times := 1
		if m[2] != "" {
			times, _ = strconv.Atoi(m[2])
		}
		if times > maxTimes {
			return fmt.Errorf("at most %d times", maxTimes)
		}
		key := strings.ToLower(m[1])
		if key == "escape" {
			key = "esc"
		}
		add("Key", key, times)
		return nil
	}
	return fmt.Errorf("%.40q is no command that is known here", text)
}

// Play plays the tape on t. A Sleep is for people who watch and is left out; what has to
// have happened is a Wait. shot is called with the name of each screenshot.
func (t *Tape) Play(on *Terminal, within time.Duration, shot func(name string) error) error {
	for _, c := range t.Steps {
		var err error
		switch c.Verb {
		case "Type":
			err = on.Type(c.Text)
		case "Key":
			for range c.N {
				if err = on.Press(c.Text); err != nil {
					break
				}
			}
		case "Wait":
			err = on.WaitFor(c.Text, within)
		case "Screenshot":
			err = shot(c.Text)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", c.Line, err)
		}
	}
	return nil
}
