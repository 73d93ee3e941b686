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

// policyFlags are the fields of a policy as flags. Each that is given replaces its field,
// and an empty value empties it.
type policyFlags struct {
	from, to, allow, hours, trust, recvTrust []string
	gateways, filter                         []string
	notes, priority                          string
	end                                      expiring
}

func (p *policyFlags) flags(a *app, c *cobra.Command) *cobra.Command {
	f := c.Flags()
	f.StringArrayVar(&p.from, "from", nil, "`TAG` of the systems that may start flows; may be given several times")
	f.StringArrayVar(&p.to, "to", nil, "`TAG` of the systems that answer; may be given several times")
	f.StringArrayVar(&p.allow, "allow", nil, "`RULE`: tcp/80, tcp/22,8000-8100, udp, icmp, any; may be given several times")
	f.StringArrayVar(&p.hours, "hours", nil, "active hours, \"mon-fri 08:00-18:00 Europe/London\": `WINDOW`; may be given several times")
	f.StringArrayVar(&p.trust, "trust", nil, "`REQUIREMENT` that senders must meet; may be given several times")
	f.StringArrayVar(&p.recvTrust, "receiver-trust", nil, "`REQUIREMENT` that receivers must meet; may be given several times")
	f.StringArrayVar(&p.gateways, "gateway", nil, "`SYSTEM=SUBNET,...` that carries flows to these subnets, SYSTEM alone for all it may; makes a gateway policy; may be given several times, in order")
	f.StringArrayVar(&p.filter, "subnet-filter", nil, "`ENTRY` that gateways are narrowed to: address, CIDR, range \"10.0.0.1 - 10.0.0.9\", DNS name; may be given several times")
	f.StringVar(&p.priority, "priority", "", "which gateway new flows take: `HOW`, balanced, ordered or nearest")
	f.StringVar(&p.notes, "notes", "", "free `TEXT`")
	p.end.flags(c)
	return completing(c, map[string]completion{"from": a.completeTags(), "to": a.completeTags(), "priority": words("balanced", "ordered", "nearest"), "allow": words("tcp/", "udp/", "icmp", "any"),
		"trust": a.completeRequirements(), "receiver-trust": a.completeRequirements()})
}

// set puts what the flags say into doc and returns every mistake in it, of form and
// meaning.
func (p *policyFlags) set(c *cobra.Command, doc *wire.Policy) mistakes {
	var bad mistakes
	given := c.Flags().Changed
	if given("from") {
		doc.SenderTags = each(&bad, "--from", p.from, wire.ParseTag)
	}
	if given("to") {
		doc.ReceiverTags = each(&bad, "--to", p.to, wire.ParseTag)
	}
	if given("allow") {
		doc.ACLs = each(&bad, "--allow", p.allow, parseAllow)
	}
	if given("hours") {
		doc.ActiveHours = each(&bad, "--hours", p.hours, parseHours)
	}
	word := func(s string) (string, error) { return s, nil }
	if given("trust") {
		doc.SenderTrust = each(&bad, "--trust", p.trust, word)
	}
	if given("receiver-trust") {
		doc.RecvTrust = each(&bad, "--receiver-trust", p.recvTrust, word)
	}
	if given("subnet-filter") {
		doc.SubnetFilter = each(&bad, "--subnet-filter", p.filter, word)
	}
	if given("priority") {
		doc.Priority = p.priority
	}
	if given("notes") {
		doc.Notes = p.notes
	}
	if given("expires") || given("expiry-action") {
		var err error
		doc.ExpiresAt, doc.ExpiresLocal, doc.ExpiryAction, err = p.end.read(time.Now())
		bad.add("--expires", err)
	}
	return append(bad, policy.Validate(doc, "")...)
}

// via puts the gateways that the flags name into doc, which asks who they are.
func (p *policyFlags) via(c *cobra.Command, a *app, doc *wire.Policy) error {
	if !c.Flags().Changed("gateway") {
		return nil
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	routes, bad := gatewayRoutes(c.Context(), cl, p.gateways)
	doc.Gateways = routes
	if len(routes) > 0 {
		doc.Kind = wire.Gateway
	}
	return bad.refuse("the policy")
}

// each parses the values of a flag that may be given several times. Empty ones count for
// nothing: one alone empties the list.
func each[T any](bad *mistakes, flag string, args []string, parse func(string) (T, error)) []T {
	list := []T{}
	for _, s := range args {
		if s == "" {
			continue
		}
		v, err := parse(s)
		if bad.add(flag, err); err == nil {
			list = append(list, v)
		}
	}
	return list
}

// refuse is the error of mistakes; nil when there are none.
func (m mistakes) refuse(what string) error {
	if len(m) == 0 {
		return nil
	}
	return &failure{exit: exitUsage, Code: api.CodeInvalid, Message: what + " has mistakes", Problems: m}
}

func (a *app) policyCreate() *cobra.Command {
	var (
		w        changing
		p        policyFlags
		disabled bool
		file     string
	)
	c := w.flags(&cobra.Command{Use: "create NAME --from TAG --to TAG --allow RULE", Short: "Create a policy",
		Long: `Creates a policy between systems (--from, --to) or, with --gateway, one through gateways:
then senders start flows to what lies behind these. "enclave system route add" lets a system
be one.`,
		Example: "  enclave policy create \"Web for laptops\" --from laptops --to servers --allow tcp/8080 --wait\n" +
			"  enclave policy create \"Maintenance\" --from admins --to db --allow tcp/22 --hours \"sat 22:00-02:00 Europe/London\"\n" +
			"  enclave policy create \"Audit week\" --from audit --to db --allow tcp/5432 --expires \"2026-12-24 18:00 Europe/Berlin\"\n" +
			"  enclave policy create \"Office\" --from laptops --gateway office=192.168.1.0/24 --allow tcp/443 --allow icmp --wait\n" +
			"  enclave policy create \"From a file\" --file policy.json",
		Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			doc := wire.Policy{Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{}, ACLs: []wire.ACL{}}
			if file != "" {
				if err := readPolicy(a.In, file, &doc); err != nil {
					return err
				}
				doc.ID = "" // the server gives it
			}
			doc.Name, doc.Enabled = args[0], doc.Enabled && !disabled
			if err := p.via(c, a, &doc); err != nil {
				return err
			}
			if err := p.set(c, &doc).refuse("the policy"); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			out, err := cl.With(w.wish).CreatePolicy(c.Context(), doc)
			if err != nil {
				return a.trial(err)
			}
			a.warn(out.Warnings)
			if err := a.done(c.Context(), cl, w, api.Changed{Revision: out.Version}, out, "created "+args[0]+" ("+string(out.ID)+", "+out.State+")"); err != nil {
				return err
			}
			if !a.json && doc.Kind == wire.Direct && (len(doc.ACLs) == 0 || len(doc.SenderTags) == 0 || len(doc.ReceiverTags) == 0) {
				a.printf("It introduces nobody: that takes --from, --to and --allow.\n")
			}
			return nil
		}})
	c.Flags().StringVar(&file, "file", "", "read the policy from a JSON or YAML `FILE` first (- for standard input)")
	c.Flags().BoolVar(&disabled, "disabled", false, "create it disabled")
	return p.flags(a, c)
}

func (a *app) policyUpdate() *cobra.Command {
	var (
		w    changing
		p    policyFlags
		name string
	)
	c := w.flags(&cobra.Command{Use: "update POLICY", Short: "Change fields of a policy; the others stay",
		Long: `Each flag that is given replaces its field; an empty value empties it (--hours "").
The policy is read, changed and written back if nobody has changed it meanwhile.`,
		Example: "  enclave policy update \"Web for laptops\" --allow tcp/443 --allow icmp --dry-run\n" +
			"  enclave policy update \"Web for laptops\" --expires 8h --wait\n" +
			"  enclave policy update \"Web for laptops\" --expires never --hours \"\"",
		Args: exactly("POLICY"), ValidArgsFunction: a.completePolicies(),
		RunE: func(c *cobra.Command, args []string) error {
			changes := false
			for _, f := range []string{"name", "from", "to", "allow", "hours", "trust", "receiver-trust", "notes", "expires", "expiry-action", "gateway", "subnet-filter", "priority"} {
				changes = changes || c.Flags().Changed(f)
			}
			if !changes {
				return usage("nothing to change").hint("see \"" + c.CommandPath() + " --help\"; \"enclave policy edit\" opens an editor")
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			old, err := cl.Policy(c.Context(), args[0])
			if err != nil {
				return err
			}
			doc := document(&old)
			if c.Flags().Changed("name") {
				doc.Name = name
			}
			if c.Flags().Changed("expiry-action") && !c.Flags().Changed("expires") {
				return usage("--expiry-action goes with --expires")
			}
			if err := p.via(c, a, &doc); err != nil {
				return err
			}
			if err := p.set(c, &doc).refuse("the policy"); err != nil {
				return err
			}
			return a.replace(c, cl, w, doc, old.Version, "updated "+args[0])
		}})
	c.Flags().StringVar(&name, "name", "", "another `NAME`")
	return p.flags(a, c)
}

// document is a policy as it is written: of an expiry on a wall clock, without the
// instant that the view shows beside it.
func document(p *api.Policy) wire.Policy {
	doc := p.Policy
	if doc.ExpiresLocal != nil {
		doc.ExpiresAt = nil
	}
	return doc
}

// replace writes a policy back over the version that was read.
func (a *app) replace(c *cobra.Command, cl *client.Client, w changing, doc wire.Policy, version wire.Revision, said string) error {
	out, err := cl.With(w.wish).UpdatePolicy(c.Context(), string(doc.ID), doc, version)
	if err != nil {
		return a.trial(err)
	}
	a.warn(out.Warnings)
	return a.done(c.Context(), cl, w, api.Changed{Revision: out.Version}, out, said+" ("+strings.TrimSpace(out.State)+")")
}
