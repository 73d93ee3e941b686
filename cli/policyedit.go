package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
)

// editHelp stands at the end of what an editor opens.
const editHelp = `
# What may stand here besides:
# receiver_tags: [servers]
# acls: [{protocol: tcp, ports: "22,8000-8100", description: web}, {protocol: icmp}]
# active_hours: {tz: Europe/London, days: [mon, tue, wed, thu, fri], start: "08:00", end: "18:00"}
# expires_at: 2026-12-24T18:00:00Z
# expires_local: {time: 2026-12-24T18:00, tz: Europe/Berlin}   # in place of expires_at
# expiry_action: delete
# trust_requirements: [mfa]      # of senders
# receiver_trust: [office]
# notes: free text
`

func (a *app) policyEdit() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "edit POLICY", Short: "Change a policy in $EDITOR",
		Long: `Opens the policy as YAML in $VISUAL, $EDITOR or vi. What comes back is checked as a
whole; with mistakes the editor opens again and names them. The change is shown and, without
--dry-run, made, if nobody has changed the policy meanwhile. An unchanged or empty text
changes nothing.`,
		Args: exactly("POLICY"), ValidArgsFunction: a.completePolicies(),
		RunE: func(c *cobra.Command, args []string) error {
			if !a.Terminal || !a.TerminalIn {
				return usage("an editor needs a terminal").hint("\"enclave policy update\" changes single fields, \"enclave policy apply\" whole sets")
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			old, err := cl.Policy(c.Context(), args[0])
			if err != nil {
				return err
			}
			before := document(&old)
			doc, err := a.edit(c, before, fmt.Sprintf("# Policy %q, version %d.\n", clean(old.Name), old.Version))
			if err != nil || doc == nil {
				return err
			}
			if doc.ID = before.ID; sameDocument(&before, doc) {
				return a.print(old, func(w io.Writer) { fmt.Fprintln(w, "nothing changed") })
			}
			if !w.wish.DryRun && !a.json {
				wish := w.wish
				wish.DryRun = true
				_, err := cl.With(wish).UpdatePolicy(c.Context(), string(doc.ID), *doc, old.Version)
				var t *client.Trial
				if !errors.As(err, &t) {
					return err
				}
				impactText(a.Out, &t.Impact)
			}
			return a.replace(c, cl, w, *doc, old.Version, "updated "+args[0])
		}})
}

func sameDocument(a, b *wire.Policy) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// edit lets a person change a policy until it has no mistakes; nil is a person who has
// changed nothing. The text is in a directory that nobody else may enter.
func (a *app) edit(c *cobra.Command, p wire.Policy, head string) (*wire.Policy, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	body, err := yamlOf(raw)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "enclave-edit-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "policy.yaml")
	for text := head + body + editHelp; ; {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		if err := a.openEditor(c, file); err != nil {
			return nil, err
		}
		got, err := readAll(nil, file, wire.MaxRequestBody)
		if err != nil {
			return nil, err
		}
		if string(got) == text || len(bytes.TrimSpace(got)) == 0 {
			fmt.Fprintln(a.Err, "nothing changed")
			return nil, nil
		}
		var doc wire.Policy
		err = readPolicy(nil, file, &doc)
		if err == nil {
			return &doc, nil
		}
		f := explain(err)
		var says strings.Builder
		fmt.Fprintf(&says, "# ! %s\n", clean(strings.ReplaceAll(f.Message, file, "the policy")))
		for _, p := range f.Problems {
			fmt.Fprintf(&says, "# ! %s\n", clean(p.Error()))
		}
		rest := string(got)
		for strings.HasPrefix(rest, "# ! ") { // what was said last time
			_, rest, _ = strings.Cut(rest, "\n")
		}
		text = says.String() + rest
	}
}

func (a *app) openEditor(c *cobra.Command, file string) error {
	words := strings.Fields(first(a.Getenv("VISUAL"), a.Getenv("EDITOR"), "vi"))
	if len(words) == 0 {
		words = []string{"vi"}
	}
	cmd := exec.CommandContext(c.Context(), words[0], append(words[1:], file)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.raw.In, a.raw.Out, a.raw.Err
	if err := cmd.Run(); err != nil {
		return usage("editor %s: %v", words[0], err).hint("set EDITOR; nothing was changed")
	}
	return nil
}
