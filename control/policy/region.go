package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"enclave/wire"
	"enclave/wire/names"
)

// region is a set of flows between two systems: a protocol, ports, and addresses behind
// the receiver, or with none the receiver itself. Any is here what no other name covers.
// Where to stands for DNS names, leads are the addresses that they may lead to.
type region struct {
	proto     wire.Proto
	ports     []portSpan
	to, leads []netip.Prefix
}

// portSpan includes both ends; int lets an end lie outside of what ports there are.
type portSpan struct{ lo, hi int }

func regions(grants []wire.Grant) (out []region) {
	for _, g := range grants {
		r := region{proto: g.Proto, ports: []portSpan{{0, 65535}}}
		if g.Ports != nil {
			r.ports = nil
			for _, p := range g.Ports {
				r.ports = append(r.ports, portSpan{int(p.Lo), int(p.Hi)})
			}
			r.ports = merge(r.ports)
		}
		protos := []wire.Proto{g.Proto}
		if g.Proto == wire.Any {
			protos = append(protos, wire.TCP, wire.UDP, wire.ICMP)
		}
		for _, r.proto = range protos {
			if len(g.Names) == 0 {
				r.to = g.Subnets
				out = append(out, r)
				continue
			}
			plain, stand := standIns(g.Subnets)
			if len(plain) > 0 {
				r.to, r.leads = plain, nil
				out = append(out, r)
			}
			r.to, r.leads = stand, g.Within
			out = append(out, r)
		}
	}
	return out
}

// standIns divides addresses into those that stand for themselves and for names.
func standIns(list []netip.Prefix) (plain, stand []netip.Prefix) {
	all := names.StandIns()
	for _, p := range list {
		if all.Contains(p.Addr()) {
			stand = append(stand, p)
		} else {
			plain = append(plain, p)
		}
	}
	return plain, stand
}

func merge(in []portSpan) []portSpan {
	slices.SortFunc(in, func(a, b portSpan) int { return cmp.Compare(a.lo, b.lo) })
	out := in[:0]
	for _, p := range in {
		if n := len(out); n > 0 && p.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, p.hi)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (r region) equal(o region) bool {
	return r.proto == o.proto && slices.Equal(r.ports, o.ports) && slices.Equal(r.to, o.to) && slices.Equal(r.leads, o.leads)
}

// list is the ports as a rule writes them.
func (r region) list() (out wire.Ports) {
	for _, p := range r.ports {
		if p == (portSpan{0, 65535}) {
			return nil
		}
		out = append(out, wire.PortRange{Lo: uint16(max(p.lo, 1)), Hi: uint16(p.hi)})
	}
	return out
}

func minus(regions, covered []region) []region {
	for _, c := range covered {
		var rest []region
		for _, r := range regions {
			rest = r.less(rest, c)
		}
		regions = rest
	}
	return regions
}

// less appends r less c: other ports to the same addresses, the same ports to others, the
// same names where they lead elsewhere.
func (r region) less(out []region, c region) []region {
	if r.proto != c.proto || (len(r.to) == 0) != (len(c.to) == 0) {
		return append(out, r)
	}
	var same, other []portSpan
	for _, p := range r.ports {
		at := p.lo
		for _, q := range c.ports {
			if lo, hi := max(p.lo, q.lo), min(p.hi, q.hi); lo <= hi {
				same = append(same, portSpan{lo, hi})
				if at < lo {
					other = append(other, portSpan{at, lo - 1})
				}
				at = hi + 1
			}
		}
		if at <= p.hi {
			other = append(other, portSpan{at, p.hi})
		}
	}
	if other = slices.DeleteFunc(other, func(p portSpan) bool { return p.hi == 0 }); len(other) > 0 {
		out = append(out, region{r.proto, other, r.to, r.leads})
	}
	if len(same) > 0 && len(r.to) > 0 {
		if to := tidy(subtract(r.to, c.to)); len(to) > 0 {
			out = append(out, region{r.proto, same, to, r.leads})
		}
		both := intersect(r.to, c.to)
		if leads := subtract(r.leads, c.leads); len(both) > 0 && len(leads) > 0 {
			out = append(out, region{r.proto, same, both, tidy(slices.Clone(leads))})
		}
	}
	return out
}
