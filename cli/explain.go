package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) explain() *cobra.Command {
	var at string
	c := &cobra.Command{Use: "explain FROM TO PROTO[/PORT]", Short: "Say why a flow passes or not, and what would allow it",
		Example: "  enclave explain laptop web tcp/8080\n  enclave explain laptop web tcp/22 --at 2026-05-02T02:00:00Z",
		Args:    exactly("FROM", "TO", "PROTO[/PORT]"), ValidArgsFunction: a.completePair(),
		RunE: func(c *cobra.Command, args []string) error {
			acl, err := parseAllow(args[2])
			if err != nil {
				return err
			}
			var port uint16
			switch len(acl.Ports) {
			case 0:
			case 1:
				if port = acl.Ports[0].Lo; port != acl.Ports[0].Hi {
					return usage("%s: ask about one port at a time", args[2])
				}
			default:
				return usage("%s: ask about one port at a time", args[2])
			}
			when, err := instantAny(at)
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			e, err := cl.Explain(c.Context(), args[0], args[1], acl.Proto, port, when)
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) {
				explainText(w, &e, args)
				if e.Allow && at == "" {
					away(c.Context(), w, cl, args[:2])
				}
			})
		}}
	c.Flags().StringVar(&at, "at", "", "the instant, `WHEN`: RFC 3339, a duration from now, or a wall clock (\"2026-12-24 18:00 Europe/Berlin\"; default now)")
	return c
}

// instantAny is instant without the rule that it must lie ahead.
func instantAny(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return instant(s, time.Now())
}

func explainText(w io.Writer, e *api.Explanation, args []string) {
	verdict := "DENY"
	if e.Allow {
		verdict = "ALLOW"
	}
	fmt.Fprintf(w, "%s  %s → %s %s at %s\n      %s\n", verdict, args[0], args[1], args[2], e.At.Format(time.RFC3339), clean(e.Why))
	last := wire.PolicyID("\x00")
	for _, s := range e.Chain {
		if s.Policy != last {
			last = s.Policy
			if s.Policy != "" {
				fmt.Fprintf(w, "  policy %s\n", clean(first(s.Name, string(s.Policy))))
			}
		}
		mark := "no"
		if s.OK {
			mark = "ok"
		}
		fmt.Fprintf(w, "    %s  %-8s %s\n", mark, s.Check, clean(s.Detail))
	}
	if len(e.Fixes) > 0 {
		fmt.Fprintln(w, "  any one of these would allow it:")
		for _, f := range e.Fixes {
			fmt.Fprintf(w, "    - %s\n", clean(f))
		}
	}
}

func (a *app) graph() *cobra.Command {
	var at, format, from, to string
	c := &cobra.Command{Use: "graph", Short: "Show who reaches whom", Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		when, err := instantAny(at)
		if err != nil {
			return err
		}
		render := map[string]func(api.Graph) string{"text": policy.Text, "dot": policy.DOT, "mermaid": policy.Mermaid}[format]
		if render == nil {
			return usage("--format %.20q: want text, dot or mermaid", format)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		g, err := cl.Graph(c.Context(), when, wire.Tag(from), wire.Tag(to))
		if err != nil {
			return err
		}
		if g.More {
			a.warn([]string{"there is more than an answer holds: narrow it with --from-tag and --to-tag"})
		}
		return a.print(g, func(w io.Writer) { fmt.Fprint(w, render(g)) })
	}}
	c.Flags().StringVar(&at, "at", "", "the instant, `WHEN`: RFC 3339, a duration from now, or a wall clock (\"2026-12-24 18:00 Europe/Berlin\"; default now)")
	c.Flags().StringVar(&format, "format", "text", "`FORMAT`: text, dot or mermaid")
	c.Flags().StringVar(&from, "from-tag", "", "only what systems with this `TAG` may open")
	c.Flags().StringVar(&to, "to-tag", "", "only what may be opened to systems with this `TAG`")
	completing(c, map[string]completion{"from-tag": a.completeTags(), "to-tag": a.completeTags()})
	return c
}

// readAll reads a file, or standard input for "-", up to a limit.
func readAll(in io.Reader, file string, most int) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("%v", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, int64(most)+1))
	if err == nil && len(raw) > most {
		err = usage("%s is larger than %d bytes", file, most)
	}
	return raw, err
}

// away tells which ends of a flow that may pass are not connected to the control plane: then
// policy is not what is in its way. What cannot be asked goes unsaid.
func away(ctx context.Context, w io.Writer, cl *client.Client, ends []string) {
	for _, name := range ends {
		if s, err := cl.System(ctx, name); err == nil && s.State == wire.Disconnected {
			fmt.Fprintf(w, "  %s is not connected to the control plane (last seen: %s); look whether its agent runs\n", clean(s.Name), when(s.LastSeen))
		}
	}
}
