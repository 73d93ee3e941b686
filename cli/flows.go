package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) flows() *cobra.Command {
	var denied bool
	c := &cobra.Command{Use: "flows", Short: "Show the live flows, each with the rule that allows it",
		Long: `Asks the connected agents which flows live, or with --denied what they have refused of late:
packets that came or were to leave, dials through an agent's proxies and forwards, and names
of the overlay that were dialled, or asked for by DNS, and stand for nobody there: "enclave
resolve NAME --as SYSTEM" tells whether there is no such name or no policy. "enclave flows
cut" ends a flow.`, Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if denied {
				return a.denied(c)
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Flows(c.Context())
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) { flowTable(w, list) })
		}}
	c.Flags().BoolVar(&denied, "denied", false, "show what was refused of late")
	c.AddCommand(a.flowsCut())
	return c
}

func flowTable(w io.Writer, list []api.LiveFlow) {
	rows := [][]string{{"FROM", "TO", "FLOW", "POLICY", "RULE", "SINCE", "BYTES"}}
	for _, f := range list {
		rows = append(rows, []string{clean(first(f.Names[0], string(f.From))), clean(first(f.Names[1], string(f.To))), f.Flow.String(), clean(first(f.PolicyName, string(f.Policy))), num(f.Rule), f.Since.Format(time.RFC3339), num(int(f.Bytes))})
	}
	table(w, rows...)
}

func (a *app) denied(c *cobra.Command) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	list, err := cl.Denied(c.Context())
	if err != nil {
		return err
	}
	return a.print(list, func(w io.Writer) {
		rows := [][]string{{"AT", "FROM", "TO", "PROTOCOL", "REASON", "COUNT", "LAST"}}
		for _, d := range list {
			way := "out"
			if d.Inbound {
				way = "in"
			}
			rows = append(rows, []string{clean(first(d.AtName, string(d.At))) + ", " + way, clean(first(d.Names[0], d.Src.String())), clean(first(d.Names[1], d.Dst.Addr().String())),
				service(d.Proto, d.Dst.Port()), clean(d.Reason), num(int(d.Count)), d.Last.Format(time.RFC3339)})
		}
		table(w, rows...)
	})
}

func service(p wire.Proto, port uint16) string {
	if port == 0 {
		return p.String()
	}
	return fmt.Sprintf("%s/%d", p, port)
}

func (a *app) flowsCut() *cobra.Command {
	var wish client.Wish
	c := &cobra.Command{Use: "cut FROM TO [PROTOCOL[/PORT]]", Short: "End live flows from one system to another, at both ends",
		Long: `Ends the live flows that FROM has opened to TO, a gateway for what lies behind one: all of
them, or those of a protocol and port. Both ends are reset. No policy changes: what is still
allowed may be opened again at once, so disable the policy first to keep it closed.`,
		Example: "  enclave flows cut laptop db tcp/5432 --reason \"looks odd\"\n  enclave flows cut laptop db --dry-run",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 3 {
				return exactly("FROM", "TO")(c, args)
			}
			return nil
		}, ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			in := api.CutFlows{From: args[0], To: args[1]}
			if len(args) == 3 {
				acl, err := parseAllow(args[2])
				if err != nil {
					return err
				}
				if len(acl.Ports) > 1 || len(acl.Ports) == 1 && acl.Ports[0].Lo != acl.Ports[0].Hi {
					return usage("%s: name one port", args[2])
				}
				if in.Proto = acl.Proto; len(acl.Ports) == 1 {
					in.Port = acl.Ports[0].Lo
				}
				if in.Proto == wire.Any {
					in.Proto = 0
				}
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.With(wish).CutFlows(c.Context(), in)
			if err != nil {
				return err
			}
			return a.print(out, func(o io.Writer) {
				flowTable(o, out.Flows)
				if wish.DryRun {
					fmt.Fprintf(o, "%s would be cut\n", wire.Count(len(out.Flows), "flow"))
					return
				}
				fmt.Fprintf(o, "%d cut; %d of %d ends have said so. What is still allowed may be opened again.\n", len(out.Flows), out.Ends, 2*len(out.Flows))
			})
		}}
	c.Flags().BoolVar(&wish.DryRun, "dry-run", false, "show which flows it would end and end none")
	c.Flags().StringVar(&wish.Reason, "reason", "", "why, for the audit trail: `TEXT`")
	return c
}

func (a *app) systemPeers() *cobra.Command {
	return &cobra.Command{Use: "peers SYSTEM", Short: "Show how a system reaches its peers, and why not directly", Args: exactly("SYSTEM"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Paths(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				rows := [][]string{{"PEER", "ROUTE", "VIA", "LATENCY", "HANDSHAKE", "RECEIVED", "SENT", "WHY NOT DIRECT"}}
				for _, p := range list {
					rtt := "-"
					if p.RTT > 0 {
						rtt = p.RTT.Round(100 * time.Microsecond).String()
					}
					way, at := api.Way(p.Route, p.Via)
					rows = append(rows, []string{clean(p.Name), way, clean(orDash(at)), rtt, when(&p.LastHandshake), num(int(p.Received)), num(int(p.Sent)), clean(orDash(p.Why))})
				}
				table(w, rows...)
			})
		}}
}

func (a *app) systemAccess() *cobra.Command {
	var at string
	c := &cobra.Command{Use: "access SYSTEM", Short: "Show what a system may open, and who may open what to it", Args: exactly("SYSTEM"), ValidArgsFunction: a.completeSystems(),
		RunE: func(c *cobra.Command, args []string) error {
			when, err := instantAny(at)
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.Access(c.Context(), args[0], when)
			if err != nil {
				return err
			}
			if out.More {
				a.warn([]string{"there is more than an answer holds"})
			}
			return a.print(out, func(w io.Writer) {
				rows := [][]string{{"FROM", "TO", "WHAT", "POLICY", "RULE"}}
				for _, x := range out.Items {
					rows = append(rows, []string{clean(first(x.Names[0], string(x.From))), clean(first(x.Names[1], string(x.To))), clean(x.What()), clean(first(x.PolicyName, string(x.Policy))), num(x.Rule)})
				}
				table(w, rows...)
			})
		}}
	c.Flags().StringVar(&at, "at", "", "the instant, `WHEN`: RFC 3339, a duration from now, or a wall clock (\"2026-12-24 18:00 Europe/Berlin\"; default now)")
	return c
}
