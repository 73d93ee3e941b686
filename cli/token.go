package cli

import (
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
	var expires string
	var secret secretFile
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
			if err := secret.open(); err != nil {
				return err
			}
			defer secret.Close()
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.With(wish).CreateToken(c.Context(), t)
			if err != nil {
				return a.trial(err)
			}
			if err := secret.keep(&out.Secret, "token "+out.ID); err != nil {
				return err
			}
			return a.print(out, func(io.Writer) {
				a.printSecret(&secret, out.Secret, out.Name, out.ID, "Put it in a file and name that in ENCLAVE_TOKEN_FILE.")
			})
		}}
	f := c.Flags()
	f.StringArrayVar(&t.Scopes, "scope", nil, "what it may do, `SCOPE`: "+strings.Join(scopes(), ", ")+"; may be given several times")
	f.StringVar(&expires, "expires", "", "when it ends: a duration (24h, 90d), an instant or a wall clock, `WHEN` (default never)")
	secret.flags(c)
	return completing(trying(c, &wish), map[string]completion{"scope": words(scopes()...)})
}

func (a *app) tokenList() *cobra.Command {
	return listing(a, "List tokens, without their secrets", (*client.Client).Tokens, []string{"ID", "NAME", "SCOPES", "CREATED", "EXPIRES"}, func(t api.Token) []string {
		return []string{t.ID, orDash(t.Name), join(t.Scopes), when(&t.CreatedAt), when(t.ExpiresAt)}
	})
}
