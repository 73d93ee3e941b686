package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelpFitsATerminal: every help of every verb, on 80 columns.
func TestHelpFitsATerminal(t *testing.T) {
	a := &app{}
	root := a.root()
	root.InitDefaultCompletionCmd()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if strings.HasPrefix(c.CommandPath(), "enclave completion") {
			return // cobra's own words
		}
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil {
			t.Errorf("%s: %v", c.CommandPath(), err)
		}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimRight(line, "\n")
			if n := len([]rune(line)); n > helpWidth {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), n, line)
			}
		}
	}
	walk(root)
}

func TestFoldText(t *testing.T) {
	for in, want := range map[string]string{
		"one two three four":                         "one two\nthree four",
		"one\ntwo three\n\n  as it is, however long": "one two\nthree\n\n  as it \\\n      is, \\\n      however \\\n      long",
		"  run --flag 'a b c' end":                   "  run \\\n      --flag 'a b c' \\\n      end",
		"  short":                                    "  short",
		"":                                           "",
	} {
		if got := foldText(in, 12); got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", in, got, want)
		}
	}
}

// TestExamplesAreGiven: every verb has an example, and each is a command line that this
// verb takes.
func TestExamplesAreGiven(t *testing.T) {
	root := (&app{}).root()
	used := map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		name := strings.TrimPrefix(c.CommandPath(), "enclave ")
		used[name] = true
		if !c.HasSubCommands() && c.Example == "" && !c.Hidden && c.Runnable() && c.Name() != "help" && !strings.HasPrefix(name, "completion") {
			t.Errorf("%s has no example", name)
		}
		for line := range strings.Lines(strings.ReplaceAll(c.Example, "\\\n", " ")) {
			_, line, ok := strings.Cut(line, "enclave ")
			if !ok {
				continue // what goes before, such as a file that is made
			}
			line, _, _ = strings.Cut(line, " > ")
			line, _, _ = strings.Cut(line, " | ")
			line = strings.ReplaceAll(line, " … ", " ")
			found, rest, err := root.Find(shellSplit(line))
			if err != nil || !found.Runnable() || found == root {
				t.Errorf("%s: %q is no command: %v", name, line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %q: %v", name, line, err)
			} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %q: %v", name, line, err)
			}
		}
	}
	walk(root)
	for name := range examples {
		if !used[name] {
			t.Errorf("an example of %s, which does not exist", name)
		}
	}
}

// shellSplit cuts a command line as a shell does.
func shellSplit(line string) (out []string) {
	var quote rune
	word, any := "", false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '"' || r == '\'':
			quote, any = r, true
		case r == ' ' || r == '\n':
			if word != "" || any {
				out = append(out, word)
			}
			word, any = "", false
		default:
			word += string(r)
		}
	}
	return out
}

// TestExitCodesAreTold: each is told, in its place.
func TestExitCodesAreTold(t *testing.T) {
	s := newShell(t)
	var list []exitMeaning
	if err := json.Unmarshal([]byte(s.ok("exit-codes", "--json")), &list); err != nil || len(list) != exitDamaged+1 {
		t.Fatalf("%+v, %v", list, err)
	}
	help := s.ok("help", "exit-codes")
	for i, e := range list {
		if e.Code != i || !strings.Contains(help, fmt.Sprintf("  %d  %s\n", e.Code, e.Meaning)) {
			t.Errorf("%+v in\n%s", e, help)
		}
	}
}
