package cli

import (
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) policy() *cobra.Command {
	verb := func(verb, short, past string) *cobra.Command {
		var w changing
		return w.flags(&cobra.Command{Use: verb + " POLICY", Short: short, Args: exactly("POLICY"), ValidArgsFunction: a.completePolicies(),
			RunE: func(c *cobra.Command, args []string) error {
				return a.change(c, w, past+" "+args[0], func(cl *client.Client) (api.Changed, error) {
					if verb == "delete" {
						return cl.DeletePolicy(c.Context(), args[0])
					}
					return cl.PolicyDo(c.Context(), args[0], verb)
				})
			}})
	}
	return a.group("policy", "Manage policies, and ask what they mean",
		a.policyCreate(), a.policyUpdate(), a.policyEdit(), a.policyList(), a.policyShow(),
		verb("enable", "Enable a policy", "enabled"),
		verb("disable", "Disable a policy; flows that only it allows are cut", "disabled"),
		verb("delete", "Remove a policy; flows that only it allows are cut", "removed"),
		a.policyApply(), a.policyDiff(), a.policyCompare(), a.policyConfirm(), a.policyExport(), a.policyHistory(), a.policyRestore(),
		a.policyTest(), a.policyEval(),
	)
}

// parseAllow reads a rule as the command line has it: tcp/80, tcp/22,8000-8100,
// udp, icmp, any.
func parseAllow(s string) (wire.ACL, error) {
	name, ports, hasPorts := strings.Cut(s, "/")
	proto, err := wire.ParseProto(name)
	if err != nil {
		return wire.ACL{}, usage("rule %.60q: %v", s, err)
	}
	acl := wire.ACL{Proto: proto}
	if hasPorts {
		if acl.Ports, err = wire.ParsePorts(ports); err != nil {
			return wire.ACL{}, usage("rule %.60q: %v", s, err)
		}
	}
	return acl, nil
}

// parseHours reads a window as the command line has it:
// "mon-fri 08:00-18:00 Europe/London", days separated by commas.
func parseHours(s string) (wire.Window, error) {
	bad := func() (wire.Window, error) {
		return wire.Window{}, usage("hours %.60q: want \"mon,tue 08:00-18:00 Europe/London\"", s)
	}
	f := strings.Fields(s)
	if len(f) != 3 {
		return bad()
	}
	start, end, ok := strings.Cut(f[1], "-")
	if !ok {
		return bad()
	}
	week := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	w := wire.Window{Zone: f[2], Start: start, End: end}
	for part := range strings.SplitSeq(f[0], ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		i, j := indexOf(week, from), indexOf(week, to)
		if i < 0 || j < 0 {
			return bad()
		}
		for ; ; i = (i + 1) % 7 {
			w.Days = append(w.Days, week[i])
			if i == j {
				break
			}
		}
		if len(w.Days) > len(week) {
			return bad()
		}
	}
	return w, nil
}

func indexOf(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return -1
}

// mistakes collects what is wrong with several flags, so that all is said at once.
type mistakes []wire.Problem

func (m *mistakes) add(path string, err error) {
	if err != nil {
		*m = append(*m, wire.Problem{Path: path, Message: err.Error()})
	}
}

// readDocument reads a strict JSON document from a file or standard input.
func readDocument(in io.Reader, file string, v any) error {
	raw, err := readAll(in, file, wire.MaxRequestBody)
	if err != nil {
		return err
	}
	if err := wire.Unmarshal(raw, v); err != nil {
		return usage("%s: %v", file, err)
	}
	return nil
}

func (a *app) policyList() *cobra.Command {
	return listing(a, "List policies", (*client.Client).Policies, []string{"ID", "NAME", "STATE", "FROM", "TO", "ALLOWS", "EXPIRES"}, func(p api.Policy) []string {
		return []string{string(p.ID), clean(p.Name), p.State, join(p.SenderTags), join(p.ReceiverTags), rules(p.ACLs), ends(p.ExpiresAt, p.ExpiresLocal, p.ExpiryAction)}
	})
}

// rules shows rules the way --allow takes them.
func rules(acls []wire.ACL) string {
	var s []string
	for _, r := range acls {
		text := r.Proto.String()
		if r.Ports != nil {
			text += "/" + r.Ports.String()
		}
		s = append(s, text)
	}
	return orDash(strings.Join(s, " "))
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{Use: "show POLICY", Short: "Show one policy", Args: exactly("POLICY"), ValidArgsFunction: a.completePolicies(),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			p, err := cl.Policy(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) {
				rows := [][]string{
					{"ID", string(p.ID)}, {"name", clean(p.Name)}, {"kind", string(p.Kind)}, {"state", p.State},
					{"from", join(p.SenderTags)}, {"to", join(p.ReceiverTags)}, {"allows", rules(p.ACLs)},
					{"trust", "senders " + join(p.SenderTrust) + ", receivers " + join(p.RecvTrust)}, {"expires", ends(p.ExpiresAt, p.ExpiresLocal, p.ExpiryAction)},
				}
				for _, g := range p.Gateways {
					rows = append(rows, []string{"gateway", string(g.System) + " for " + strings.Join(g.Subnets, ", ")})
				}
				if len(p.Gateways) > 1 {
					rows = append(rows, []string{"priority", first(p.Priority, wire.PriorityBalanced)})
				}
				if len(p.SubnetFilter) > 0 {
					rows = append(rows, []string{"only", clean(strings.Join(p.SubnetFilter, ", "))})
				}
				for _, h := range p.ActiveHours {
					rows = append(rows, []string{"hours", strings.Join(h.Days, ",") + " " + h.Start + "-" + h.End + " " + h.Zone})
				}
				table(w, rows...)
			})
		}}
}

func (a *app) policyEval() *cobra.Command {
	var timeline bool
	c := &cobra.Command{Use: "eval FILE", Short: "Answer questions about policies without a server",
		Long: `Reads questions as JSON (one object, or JSON lines): systems, policies, an instant and
packets. Answers one JSON object a line with the pairs that are introduced and a verdict
for each packet. A question with mistakes is answered with all of them and does not stop
the others; the exit code is 2 when there was one. FILE may be - for standard input.`,
		Args: exactly("FILE"), RunE: func(c *cobra.Command, args []string) error {
			in := a.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usage("%v", err)
				}
				defer f.Close()
				in = f
			}
			refused, err := policy.Answer(in, newGuard(a.raw.Out, always), policy.Options{Timeline: timeline})
			if err != nil {
				return err
			}
			if refused > 0 {
				return usage("%s with mistakes; each is answered with all of its own", wire.Count(refused, "question"))
			}
			return nil
		}}
	c.Flags().BoolVar(&timeline, "timeline", false, "the questions are timelines: a flow table persists across their steps")
	return c
}
