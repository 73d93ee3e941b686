package cli

import (
	"bytes"
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
