package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"enclave/wire"
	"enclave/wire/names"
)

// maxWords is how many rules or windows a sentence lists.
const maxWords = 4

// list joins the first few of n things, and counts the others.
func list(n int, text func(i int) string) string {
	var out []string
	for i := range min(n, maxWords) {
		out = append(out, text(i))
	}
	if n > maxWords {
		out = append(out, fmt.Sprintf("and %d more", n-maxWords))
	}
	return strings.Join(out, ", ")
}

func hoursText(windows wire.Windows) string {
	return list(len(windows), func(i int) string {
		w := windows[i]
		days := "no day"
		switch n := len(w.Days); {
		case n == len(dayNames):
			days = "every day"
		case n > 0:
			days = strings.Join(w.Days, " ")
		}
		return fmt.Sprintf("%s %s to %s %s", days, w.Start, w.End, w.Zone)
	})
}

func (r *rules) rulesText() string {
	if len(r.acls) == 0 {
		return "the policy has none"
	}
	return "the policy allows " + list(len(r.acls), func(i int) string { return ruleText(r.acls[i].proto, r.acls[i].ports) })
}

// notCarried says why no gateway of r carries an address. When one change to the policy
// would make one carry it, the check gets that fix and the gateway is returned.
func (e *Engine) notCarried(c *check, r *rules, from *system, a netip.Addr) *system {
	c.detail = fmt.Sprintf("no gateway of the policy carries %s", a)
	if names.StandIns().Contains(a) {
		c.detail = fmt.Sprintf("no gateway of the policy resolves %s: its subnet filter does not name it, or its gateways have no route", a)
		return nil
	}
	if covers(never(), a) || covers(e.overlay, a) {
		c.detail += ", and none ever may"
		return nil
	}
	filtered := len(r.doc.SubnetFilter) > 0
	var gate *system
	for _, route := range r.doc.Gateways {
		s := e.systems[route.System]
		if s == nil || s == from || slices.Contains(s.IPs, a) {
			continue
		}
		in := slices.ContainsFunc(route.Subnets, func(text string) bool {
			p, err := parseSubnet(text)
			return err == nil && p.Contains(a)
		})
		if in && !s.may(a) && (!filtered || r.passes(a)) {
			c.detail = fmt.Sprintf("%s is in a subnet that policy %s sends through %s, but %s has no route for it", a, r.id, s.ID, s.ID)
			c.fixes = []fix{{kind: "permit", policy: r.id, peer: s.ID, text: fmt.Sprintf("let %s carry it: enclave system route add %s SUBNET", s.ID, s.ID)}}
			return s
		}
		if in && filtered && !r.passes(a) {
			c.detail = fmt.Sprintf("%s is in a subnet of %s, but outside the policy's subnet filter", a, s.ID)
			c.fixes = []fix{{kind: "filter", policy: r.id, text: fmt.Sprintf("add %s to the subnet filter of policy %s", a, r.id)}}
			return s
		}
		if gate == nil && len(route.Subnets) < MaxSubnets {
			gate = s
		}
	}
	if gate == nil || (filtered && !r.passes(a)) {
		return nil
	}
	c.detail = fmt.Sprintf("%s is in no subnet of the policy's gateways", a)
	c.fixes = []fix{{kind: "route", policy: r.id, peer: gate.ID, text: fmt.Sprintf("let gateway %s of policy %s carry %s", gate.ID, r.id, a)}}
	return gate
}

// passes reports whether the subnet filter of r lets an address through.
func (r *rules) passes(a netip.Addr) bool {
	return slices.ContainsFunc(r.doc.SubnetFilter, func(text string) bool {
		prefixes, _, _ := parseFilter(text)
		return covers(prefixes, a)
	})
}
