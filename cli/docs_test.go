package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	fence  = regexp.MustCompile("(?ms)^```(?:sh)?\n(.*?)^```")
	inline = regexp.MustCompile("`([^`\n]+)`")
	// shellJoin is between commands of a line; shellEnd is where the last one ends.
	shellJoin = regexp.MustCompile(`\||\$\(|&&`)
	shellEnd  = regexp.MustCompile(`\s#\s|[|;)>&]`)
	// label is what is signed or derived under, such as "enclave pair ticket v1".
	label    = regexp.MustCompile(` v\d+$`)
	flagWord = regexp.MustCompile(`^\[?--([a-z][a-z0-9-]*)`)
)

// TestDocumentedCommandsExist reads every command line of the documents: its verbs and its
// flags are there.
func TestDocumentedCommandsExist(t *testing.T) {
	root := (&app{}).root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	var lines int
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, line := range commandLines(root, string(text)) {
			lines++
			if wrong := misspelt(root, line); wrong != "" {
				t.Errorf("%s: %q: %s", path, line, wrong)
			}
		}
		return nil
	})
	if err != nil || lines < 100 {
		t.Fatalf("%d command lines, %v", lines, err)
	}
}

// commandLines are what follows "enclave " in the fenced parts and in the spans of a
// document, and spans that begin with a verb and have a flag.
func commandLines(root *cobra.Command, text string) (out []string) {
	take := func(s string) {
		for _, name := range []string{"./enclave ", "enclave ", "go run . "} {
			if rest, found := strings.CutPrefix(s, name); found && !strings.HasPrefix(rest, "-") && !label.MatchString(s) {
				out = append(out, shellEnd.Split(rest+" ", 2)[0])
				return
			}
		}
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(m[1], "\\\n", " ")) {
			for _, part := range shellJoin.Split(line, -1) {
				take(strings.TrimSpace(part))
			}
		}
	}
	for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		take(m[1])
		if verb, rest, _ := strings.Cut(m[1], " "); strings.Contains(rest, "--") {
			if c, _, err := root.Find([]string{verb}); err == nil && c != root {
				out = append(out, shellEnd.Split(m[1]+" ", 2)[0])
			}
		}
	}
	return out
}

// misspelt says what of a command line is not there.
func misspelt(root *cobra.Command, line string) string {
	words := shellWords(strings.TrimSpace(line))
	c := root
	for _, w := range words {
		next := child(c, w)
		if next == nil {
			if c.HasSubCommands() && strings.Trim(w, "abcdefghijklmnopqrstuvwxyz-") == "" && !strings.HasPrefix(w, "-") {
				return c.CommandPath() + " has no command " + w
			}
			break
		}
		c = next
	}
	for _, w := range words {
		m := flagWord.FindStringSubmatch(w)
		if m != nil && m[1] != "help" && c.Flag(m[1]) == nil {
			return c.CommandPath() + " has no flag --" + m[1]
		}
	}
	return ""
}

func child(c *cobra.Command, name string) *cobra.Command {
	for _, sub := range c.Commands() {
		if sub.Name() == name || sub.HasAlias(name) {
			return sub
		}
	}
	return nil
}
