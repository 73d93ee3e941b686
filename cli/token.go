package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/admin"
	"enclave/wire/api"
)

func (a *app) token() *cobra.Command {
	var w changing
	return a.group("token", "Manage tokens for the API", a.tokenCreate(), a.tokenList(),
		trying(&cobra.Command{Use: "revoke TOKEN", Short: "End a token at once", Args: exactly("TOKEN"), ValidArgsFunction: a.completeTokens(),
			RunE: func(c *cobra.Command, args []string) error {
				return a.change(c, w, "revoked "+args[0], func(cl *client.Client) (api.Changed, error) { return cl.RevokeToken(c.Context(), args[0]) })
			}}, &w.wish))
}

// scopes are what --scope takes.
func scopes() (out []string) {
	for _, s := range admin.Scopes() {
		out = append(out, string(s))
	}
	return out
}

func (a *app) tokenCreate() *cobra.Command {
	var t api.TokenCreate
	var expires, file string
	var wish client.Wish
	c := &cobra.Command{Use: "create NAME --scope SCOPE", Short: "Create a token; its secret is shown this once, or goes into a file",
		Example: "  enclave token create ci --scope read --scope policies --expires 90d --out ci.token\n" +
			"  enclave login https://192.0.2.7:8443 --ca-fingerprint sha256:… --token-file ci.token",
		Args: exactly("NAME"), RunE: func(c *cobra.Command, args []string) error {
			t.Name = args[0]
			if len(t.Scopes) == 0 {
				return usage("a token needs a scope: %s", strings.Join(scopes(), ", ")).hint("add --scope read")
			}
			for _, s := range t.Scopes {
				if !slices.Contains(scopes(), s) {
					return usage("--scope %.40q: want %s", s, strings.Join(scopes(), ", "))
				}
			}
			if at, err := instant(expires, time.Now()); err != nil {
				return err
			} else if !at.IsZero() {
				t.ExpiresAt = &at
			}
			var keep *newFile
			if file != "" {
				// Before it is made: a secret that cannot be kept would be lost.
				var err error
				if keep, err = createFile(file); err != nil {
					return usage("--out: %v", err).hint("choose a FILE that does not exist yet, in a directory that you can write to")
				}
				defer keep.Close()
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.With(wish).CreateToken(c.Context(), t)
			if err != nil {
				return a.trial(err)
			}
			if file != "" {
				if err := keep.keep([]byte(out.Secret + "\n")); err != nil {
					return fmt.Errorf("token %s was created and its secret is lost; revoke it: %w", out.ID, err)
				}
				out.Secret = ""
			}
			return a.print(out, func(io.Writer) {
				if file != "" {
					a.printf("created %s (%s); its secret is in %s\n", clean(out.Name), out.ID, file)
					return
				}
				a.printf("%s\n", out.Secret)
				a.printf("This secret is shown once. Put it in a file and name that in ENCLAVE_TOKEN_FILE.\n")
			})
		}}
	f := c.Flags()
	f.StringArrayVar(&t.Scopes, "scope", nil, "what it may do, `SCOPE`: "+strings.Join(scopes(), ", ")+"; may be given several times")
	f.StringVar(&expires, "expires", "", "when it ends: a duration (24h, 90d) or an instant, `WHEN` (default never)")
	f.StringVar(&file, "out", "", "put the secret into a `FILE` that only you can read, and print none")
	_ = c.MarkFlagFilename("out")
	return completing(trying(c, &wish), map[string]completion{"scope": words(scopes()...)})
}

func (a *app) tokenList() *cobra.Command {
	return listing(a, "List tokens, without their secrets", (*client.Client).Tokens, []string{"ID", "NAME", "SCOPES", "CREATED", "EXPIRES"}, func(t api.Token) []string {
		return []string{t.ID, orDash(t.Name), join(t.Scopes), when(&t.CreatedAt), when(t.ExpiresAt)}
	})
}
