package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"enclave/wire"
	"enclave/wire/names"
)

// never lists what no subnet of a gateway covers, 0.0.0.0/0 least of all: this host
// and this network (RFC 1122), loopback, link-local (among them the metadata services
// of clouds), multicast, broadcast, stand-ins for names, and IPv4 in IPv6 clothes (RFC 4291
// section 2.5.5.2), which a dialler would undress and reach loopback after all.
func never() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
		netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("::/128"),
		netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("::ffff:0:0/96"),
		netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
		names.StandIns(),
	}
}

// DefaultOverlay is what an engine takes for the overlay until SetOverlay says more
// exactly: RFC 6598 shared space and all unique local addresses (RFC 4193).
func DefaultOverlay() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7")}
}

// CheckRoute says why a system may not carry a subnet. The default routes are fine: what
// no gateway reaches is left out of them.
func CheckRoute(r wire.Route, overlay ...netip.Prefix) error {
	if err := r.Check(); err != nil {
		return err
	}
	for _, p := range []netip.Prefix{r.Shown(), r.Subnet} {
		for _, q := range overlay {
			if p.Bits() > 0 && p.Overlaps(q) {
				return fmt.Errorf("subnet %s overlaps the overlay's %s", p, q)
			}
		}
		for _, q := range never() {
			if p.Bits() > 0 && p.Overlaps(q) {
				return fmt.Errorf("subnet %s overlaps %s, which no gateway reaches", p, q)
			}
		}
	}
	if r.As.IsValid() && r.Subnet.Bits() == 0 {
		return fmt.Errorf("%s cannot be shown as another", r.Subnet)
	}
	return nil
}

// gateway is one gateway of a policy and the addresses it carries for it: the subnets
// of its routes, narrowed by the filter, less what is never reached.
type gateway struct {
	id    wire.SystemID
	reach []netip.Prefix

	// The names of the filter, with the addresses that stand for them and the subnets
	// that what they answer with must lie in. None without such a subnet.
	names  []string
	stand  []netip.Prefix
	within []netip.Prefix
}

// carries reports whether s, as the gateway g of a policy, carries a for it; nil is a
// system that is not known.
func (g *gateway) carries(s *system, a netip.Addr) bool {
	if names.StandIns().Contains(a) {
		return covers(g.stand, a) && len(g.answers(s)) > 0
	}
	return covers(g.reach, a) && (s == nil || s.may(a))
}

// answers is where names may lead that s resolves.
func (g *gateway) answers(s *system) []netip.Prefix { return permitted(g.within, s) }

// permitted is what s may carry of reach, less its own addresses.
func permitted(reach []netip.Prefix, s *system) []netip.Prefix {
	if s == nil {
		return reach
	}
	if s.Carries != nil {
		reach = intersect(reach, s.Carries)
	}
	for _, ip := range s.IPs {
		if covers(reach, ip) {
			reach = tidy(subtract(reach, []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}))
		}
	}
	return reach
}

// compileGateways joins the entries of each gateway, in the order of the document. A
// gateway that is left with no address is left out.
func compileGateways(p *wire.Policy, overlay []netip.Prefix) (out []gateway) {
	var filter, stand []netip.Prefix
	var named []string
	for _, f := range p.SubnetFilter {
		prefixes, name, _ := parseFilter(f)
		filter = append(filter, prefixes...)
		if name != "" && !slices.Contains(named, name) {
			named, stand = append(named, name), append(stand, netip.PrefixFrom(names.StandIn(name), 128))
		}
	}
	tidy(stand)
	for _, route := range p.Gateways {
		var reach []netip.Prefix
		for _, s := range route.Subnets {
			if prefix, err := parseSubnet(s); err == nil {
				reach = append(reach, prefix)
			}
		}
		i := slices.IndexFunc(out, func(g gateway) bool { return g.id == route.System })
		if i < 0 {
			i, out = len(out), append(out, gateway{id: route.System})
		}
		if named != nil {
			out[i].within = append(out[i].within, reach...)
		}
		if len(p.SubnetFilter) > 0 {
			reach = intersect(reach, filter)
		}
		out[i].reach = append(out[i].reach, reach...)
	}
	for i := range out {
		g := &out[i]
		g.reach = tidy(subtract(subtract(g.reach, never()), overlay))
		if g.within = tidy(subtract(subtract(g.within, never()), overlay)); len(g.within) > 0 {
			g.names, g.stand = named, stand
		}
	}
	return slices.DeleteFunc(out, func(g gateway) bool { return len(g.reach)+len(g.within) == 0 })
}

// parseSubnet reads a CIDR without host bits, or one address.
func parseSubnet(s string) (netip.Prefix, error) {
	if a, err := parseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("subnet %.60q: want a CIDR like 192.168.1.0/24", s)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("subnet %.60q has host bits: write %s", s, p.Masked())
	}
	return p, nil
}

// parseAddr reads an address in the one spelling of its family: no zone, no IPv4 in
// IPv6 clothes.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("address %.60q: want an IPv4 or IPv6 address", s)
	}
	return a, nil
}

var (
	namePattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	errFilter   = errors.New("want an address, a CIDR, a range like 10.0.0.1 - 10.0.0.9, or a DNS name")
)

// parseFilter reads one entry of a subnet filter: prefixes, or a DNS name. A name
// matches no address but its stand-in: what it answers with is for the gateway to find out.
func parseFilter(s string) (prefixes []netip.Prefix, name string, err error) {
	if strings.HasPrefix(s, "*.") {
		return nil, "", fmt.Errorf("filter %.90q: no gateway can resolve a wildcard: write each name", s)
	}
	if namePattern.MatchString(s) && len(s) <= 253 {
		return nil, s, nil
	}
	if lo, hi, ok := strings.Cut(s, "-"); ok {
		a, errA := parseAddr(strings.TrimSpace(lo))
		b, errB := parseAddr(strings.TrimSpace(hi))
		switch {
		case errA != nil || errB != nil || a.BitLen() != b.BitLen():
			return nil, "", fmt.Errorf("filter %.90q: %w", s, errFilter)
		case b.Less(a):
			return nil, "", fmt.Errorf("filter %.90q is reversed: write %s - %s", s, b, a)
		}
		return rangePrefixes(a, b), "", nil
	}
	p, err := parseSubnet(s)
	if err != nil {
		if strings.Contains(s, "/") {
			return nil, "", err
		}
		return nil, "", fmt.Errorf("filter %.90q: %w", s, errFilter)
	}
	return []netip.Prefix{p}, "", nil
}

// rangePrefixes covers [a, b] with the fewest prefixes.
func rangePrefixes(a, b netip.Addr) (out []netip.Prefix) {
	for {
		p := netip.PrefixFrom(a, a.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(a, p.Bits()-1)
			if wider.Masked().Addr() != a || b.Less(last(wider)) {
				break
			}
			p = wider
		}
		out = append(out, p)
		end := last(p)
		if end == b {
			return out
		}
		a = end.Next()
	}
}

// last is the highest address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func covers(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// within reports whether all of p lies in q.
func within(p, q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }

func intersect(a, b []netip.Prefix) (out []netip.Prefix) {
	b = tidy(slices.Clone(b))
	for _, p := range tidy(slices.Clone(a)) {
		for _, q := range b {
			if within(p, q) {
				out = append(out, p)
			} else if within(q, p) {
				out = append(out, q)
			}
		}
	}
	return out
}

// subtract removes every address of b from a, splitting prefixes in halves.
func subtract(a, b []netip.Prefix) []netip.Prefix {
	for _, q := range b {
		var out []netip.Prefix
		for _, p := range a {
			out = cut(out, p, q)
		}
		a = out
	}
	return a
}

// cut appends p less q: on the way from p down to q it keeps the half without q.
func cut(out []netip.Prefix, p, q netip.Prefix) []netip.Prefix {
	if within(p, q) {
		return out
	}
	for within(q, p) && p != q {
		left := netip.PrefixFrom(p.Addr(), p.Bits()+1)
		right := netip.PrefixFrom(last(left).Next(), p.Bits()+1)
		if within(q, left) {
			out, p = append(out, right), left
		} else {
			out, p = append(out, left), right
		}
	}
	if p == q {
		return out
	}
	return append(out, p)
}

// tidy sorts and drops prefixes that lie in another.
func tidy(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	out := list[:0]
	for _, p := range list {
		if n := len(out); n == 0 || !within(p, out[n-1]) {
			out = append(out, p)
		}
	}
	return out
}

// ParseSubnet reads a subnet as policies and routes write it: a CIDR without host bits,
// or one address.
func ParseSubnet(s string) (netip.Prefix, error) { return parseSubnet(s) }

// Lacking lists the subnets of a policy's gateways that those may not carry, by gateway.
func (e *Engine) Lacking(id wire.PolicyID) map[wire.SystemID][]netip.Prefix {
	r := e.policies[id]
	if r == nil {
		return nil
	}
	return lacking(r.gateways, func(id wire.SystemID) []netip.Prefix {
		if s := e.systems[id]; s != nil {
			return s.Carries
		}
		return nil
	})
}

// Lacking is [Engine.Lacking] of a document, for whom carries says what a system may carry;
// nil is one of which that is not known.
func Lacking(p *wire.Policy, overlay []netip.Prefix, carries func(wire.SystemID) []netip.Prefix) map[wire.SystemID][]netip.Prefix {
	return lacking(compileGateways(p, overlay), carries)
}

func lacking(gateways []gateway, carries func(wire.SystemID) []netip.Prefix) map[wire.SystemID][]netip.Prefix {
	out := make(map[wire.SystemID][]netip.Prefix)
	for _, g := range gateways {
		may := carries(g.id)
		if may == nil {
			continue
		}
		if rest := tidy(subtract(slices.Concat(g.reach, g.within), may)); len(rest) > 0 {
			out[g.id] = rest
		}
	}
	return out
}

// Names reports whether the subnet filter of some policy names a DNS name.
func (e *Engine) Names(name string) bool {
	for _, r := range e.policies {
		if slices.Contains(r.doc.SubnetFilter, name) {
			return true
		}
	}
	return false
}

// CheckReach names what a gateway policy says that can have no effect with these ranges of
// the overlay: subnets that overlap them, entries of the filter that lie out of reach of
// every gateway, and subnets given twice. An engine leaves all that out without a word,
// since a policy that stands must not stop counting when the overlay's ranges change.
func CheckReach(p *wire.Policy, path string, overlay ...netip.Prefix) []wire.Problem {
	var l problems
	out := append(never(), overlay...)
	lost := func(q netip.Prefix) bool {
		return slices.ContainsFunc(out, func(r netip.Prefix) bool { return within(q, r) })
	}
	for i, g := range p.Gateways {
		for j, text := range g.Subnets {
			at := index(field(index(field(path, "gateways"), i), "subnets"), j)
			q, err := parseSubnet(text)
			if err != nil {
				continue // Validate says so
			}
			over := slices.IndexFunc(overlay, func(r netip.Prefix) bool { return q.Bits() > 0 && q.Overlaps(r) })
			switch {
			case over >= 0:
				l.add(at, "subnet %s overlaps the overlay's %s, which no gateway reaches", q, overlay[over])
			case lost(q):
				l.add(at, "no gateway reaches subnet %s", q)
			case slices.Contains(g.Subnets[:j], text):
				l.add(at, "subnet %s is given twice", q)
			}
		}
	}
	for i, text := range p.SubnetFilter {
		at := index(field(path, "subnet_filter"), i)
		prefixes, name, _ := parseFilter(text)
		switch {
		case name == "" && len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(q netip.Prefix) bool { return !lost(q) }):
			l.add(at, "no gateway reaches %s", text)
		case slices.Contains(p.SubnetFilter[:i], text):
			l.add(at, "%s is given twice", text)
		}
	}
	return l
}

// Filtered lists the DNS names of the subnet filter of a policy.
func (e *Engine) Filtered(id wire.PolicyID) (list []string) {
	r := e.policies[id]
	if r == nil {
		return nil
	}
	for _, text := range r.doc.SubnetFilter {
		if _, name, _ := parseFilter(text); name != "" {
			list = append(list, name)
		}
	}
	return list
}
