package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestFlagsHaveTheirWords: what a flag of text takes is named in capitals, and a flag that
// several verbs have is explained in the same words, but for what differs by intent.
func TestFlagsHaveTheirWords(t *testing.T) {
	differ := map[string]bool{"dry-run": true, "at": true, "level": true, "ca-fingerprint": true, "control": true, "key-file": true, "name": true,
		"tag": true, "timeout": true, "expires": true, "listen": true, "stun": true, "out": true, "from": true, "to": true, "trust": true,
		"tools": true, "token-file": true, "since": true, "until": true, "file": true, "full": true, "proxy": true, "size": true,
		"gateway": true, "system": true, "all": true, "recipient": true, "witness": true, "checkpoint": true, "relay": true, "as": true, "advertise-stun": true, "advertise": true}
	said := map[string]string{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			if name, _ := pflag.UnquoteUsage(f); f.Value.Type() == "string" && (name == "string" || name != strings.ToUpper(name) && !strings.ContainsAny(name, "/.")) {
				t.Errorf("%s --%s: what it takes is called %q", c.CommandPath(), f.Name, name)
			}
			if was, known := said[f.Name]; known && was != f.Usage && !differ[f.Name] {
				t.Errorf("%s --%s: %q, elsewhere %q", c.CommandPath(), f.Name, f.Usage, was)
			}
			said[f.Name] = f.Usage
			if takes, _ := pflag.UnquoteUsage(f); takes != "" && takes != "FILE" && takes != "PATH" {
				if _, offers := c.GetFlagCompletionFunc(f.Name); !offers {
					t.Errorf("%s --%s: %s is completed by the names of files", c.CommandPath(), f.Name, takes)
				}
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
}
