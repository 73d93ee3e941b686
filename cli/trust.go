package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) trust() *cobra.Command {
	return a.group("trust", "Manage trust requirements, and mark them as met by systems or not",
		a.trustList(), a.trustSet(), a.trustDelete(), a.trustMet(), a.trustUnmet())
}

func (a *app) trustList() *cobra.Command {
	return listing(a, "List trust requirements", (*client.Client).Requirements, []string{"ID", "KIND", "AUTHORITY", "CONDITIONS", "DESCRIPTION"}, func(r api.Requirement) []string {
		return []string{clean(r.ID), string(r.Kind), orDash(r.Authority), conditions(&r.Requirement), orDash(r.Description)}
	})
}

// conditions shows what a requirement asks for in a line.
func conditions(r *wire.Requirement) string {
	var s []string
	sign := func(blocked bool, what string) string {
		if blocked {
			return "not " + what
		}
		return what
	}
	for _, c := range r.Claims {
		s = append(s, c.Claim+"="+c.Value)
	}
	for _, c := range r.Ranges {
		s = append(s, sign(c.Blocked, c.Range))
	}
	for _, c := range r.Countries {
		s = append(s, sign(c.Blocked, c.Country))
	}
	return orDash(strings.Join(s, ", "))
}

func (a *app) trustSet() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "set FILE", Short: "Create or replace a trust requirement from a JSON file",
		Example: `  echo '{"id":"office","kind":"public-ip","ranges":[{"range":"192.0.2.0/24"}]}' | enclave trust set -`,
		Args:    exactly("FILE"), RunE: func(c *cobra.Command, args []string) error {
			var r wire.Requirement
			if err := readDocument(a.In, args[0], &r); err != nil {
				return err
			}
			if bad := policy.ValidateRequirement(&r, ""); len(bad) > 0 {
				return &failure{exit: exitUsage, Code: api.CodeInvalid, Message: args[0] + " has mistakes", Problems: bad}
			}
			return a.change(c, w, "set "+r.ID, func(cl *client.Client) (api.Changed, error) { return cl.SetRequirement(c.Context(), r) })
		}})
}

func (a *app) trustDelete() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "delete REQUIREMENT", Short: "Remove a trust requirement that nothing asks for", Args: exactly("REQUIREMENT"), ValidArgsFunction: a.completeRequirements(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "removed "+args[0], func(cl *client.Client) (api.Changed, error) { return cl.DeleteRequirement(c.Context(), args[0]) })
		}})
}

func (a *app) trustMet() *cobra.Command {
	var w changing
	var until string
	var claims []string
	c := w.flags(&cobra.Command{Use: "met SYSTEM REQUIREMENT", Short: "Mark a requirement as met by a system", Args: exactly("SYSTEM", "REQUIREMENT"), ValidArgsFunction: a.completeTrust(),
		RunE: func(c *cobra.Command, args []string) error {
			end, err := instant(until, time.Now())
			if err != nil {
				return err
			}
			have := make(map[string][]string)
			for _, text := range claims {
				name, value, ok := strings.Cut(text, "=")
				if !ok || name == "" {
					return usage("--claim %.60q: want NAME=VALUE", text)
				}
				have[name] = append(have[name], value)
			}
			return a.change(c, w, "marked "+args[0]+": "+args[1]+" is met", func(cl *client.Client) (api.Changed, error) {
				return cl.SetTrust(c.Context(), args[0], args[1], end, have)
			})
		}})
	c.Flags().StringVar(&until, "until", "", "how long it counts: a duration, an instant or a wall clock, `WHEN` (default: until taken away)")
	c.Flags().StringArrayVar(&claims, "claim", nil, "`NAME=VALUE` of the sign-in that met it; may be given several times")
	return c
}

func (a *app) trustUnmet() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "unmet SYSTEM REQUIREMENT", Short: "Take such a mark from a system; flows that need it are cut", Args: exactly("SYSTEM", "REQUIREMENT"), ValidArgsFunction: a.completeTrust(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "marked "+args[0]+": "+args[1]+" is not met", func(cl *client.Client) (api.Changed, error) {
				return cl.DropTrust(c.Context(), args[0], args[1])
			})
		}})
}
