package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// whyNot finds the sentence for a flow that nothing allows: the cause that is nearest
// to allowing it.
func (e *Engine) whyNot(f Packet, now time.Time, kind int) string {
	why := e.whyNotFlow(f, now)
	if kind == opensFlow {
		return why
	}
	return "there is no flow to belong to: " + why
}

func (e *Engine) whyNotFlow(f Packet, now time.Time) string {
	src, dst := e.byAddr[f.Src], e.byAddr[f.Dst]
	switch {
	case src == nil && dst != nil && e.behind(f.Src):
		return fmt.Sprintf("%s is behind a gateway, and nothing behind a gateway starts a flow", f.Src)
	case src == nil:
		return fmt.Sprintf("no system has the address %s", f.Src)
	case f.Src.Is4() != f.Dst.Is4():
		return "the addresses are of two families"
	case src == dst:
		return fmt.Sprintf("%s is both ends: the overlay carries nothing from a system to itself", src.ID)
	}
	if why := src.whyOut(now); why != "" {
		return why
	}
	if dst == nil {
		return e.whyNotBehind(src, f, now)
	}
	if why := dst.whyOut(now); why != "" {
		return why
	}
	var nearest *rules
	for slot := range common(src, dst).all() {
		if r := e.slots[slot]; !r.gateway && (nearest == nil || e.nearer(r, nearest, src, dst, now)) {
			nearest = r
		}
	}
	if nearest != nil {
		return e.whyPolicy(nearest, src, dst, f, now)
	}
	if e.opens(dst, src, now) {
		return fmt.Sprintf("no policy lets %s start flows to %s, only the other way", src.ID, dst.ID)
	}
	if why := whyApart(src, dst); why != "" {
		return why
	}
	return fmt.Sprintf("no policy introduces %s to %s", src.ID, dst.ID)
}

// whyOut says why a system takes part in nothing.
func (s *system) whyOut(now time.Time) string {
	switch {
	case s.Revoked:
		return fmt.Sprintf("system %s is revoked", s.ID)
	case !s.Approved:
		return fmt.Sprintf("system %s is not approved", s.ID)
	case !s.Enabled:
		return fmt.Sprintf("system %s is disabled", s.ID)
	case over(s.ExpiresAt, now):
		return fmt.Sprintf("system %s expired", s.ID)
	}
	return ""
}

// distance counts how far a policy is from introducing the two.
func (e *Engine) distance(r *rules, src, dst *system, now time.Time) (n int) {
	for _, ok := range []bool{
		r.enabled, !over(r.expires, now), len(r.acls) > 0, r.hours.active(now),
		src.stands(r, senders, now), dst == nil || dst.stands(r, receivers, now),
	} {
		if !ok {
			n++
		}
	}
	return n
}

func (e *Engine) nearer(r, o *rules, src, dst *system, now time.Time) bool {
	a, b := e.distance(r, src, dst, now), e.distance(o, src, dst, now)
	return a < b || (a == b && r.before(o))
}

// whyPolicy says what keeps one policy that names both sides from allowing f.
func (e *Engine) whyPolicy(r *rules, src, dst *system, f Packet, now time.Time) string {
	if state := e.State(r.id, now); state != Active {
		return fmt.Sprintf("policy %s is %s", r.id, state)
	}
	if why := src.whyAside(r, senders, now); why != "" {
		return why
	}
	if dst != nil {
		if why := dst.whyAside(r, receivers, now); why != "" {
			return why
		}
	}
	return fmt.Sprintf("no rule of policy %s allows %s", r.id, packetText(f))
}

// whyAside says which trust keeps s off a side that its tags would put it on.
func (s *system) whyAside(r *rules, side int, now time.Time) string {
	if s.stands(r, side, now) {
		return ""
	}
	for _, q := range r.trust[side] {
		if until, met := s.Trust[q]; !met || over(until, now) {
			return fmt.Sprintf("system %s does not meet %q, which policy %s requires", s.ID, q, r.id)
		}
	}
	for _, t := range s.tags {
		for _, q := range t.trust {
			if until, met := s.Trust[q]; t.slots[side].has(r.slot) && (!met || over(until, now)) {
				return fmt.Sprintf("system %s does not meet %q, which tag %s requires", s.ID, q, t.name)
			}
		}
	}
	return fmt.Sprintf("system %s does not count", s.ID)
}

func (e *Engine) whyNotBehind(src *system, f Packet, now time.Time) string {
	var nearest *rules
	for slot := range src.slots[senders].all() {
		r := e.slots[slot]
		carried := slices.ContainsFunc(r.gateways, func(g gateway) bool { return e.carried(g, f.Dst) })
		if carried && (nearest == nil || e.nearer(r, nearest, src, nil, now)) {
			nearest = r
		}
	}
	if nearest == nil {
		return fmt.Sprintf("no system has the address %s, and no gateway carries it for %s", f.Dst, src.ID)
	}
	if r := nearest; e.distance(r, src, nil, now) == 0 && r.find(f, false) >= 0 {
		return fmt.Sprintf("no gateway of policy %s that carries %s counts", r.id, f.Dst)
	}
	return e.whyPolicy(nearest, src, nil, f, now)
}

// carried reports whether the policy of g sends a through it and its system may carry it.
func (e *Engine) carried(g gateway, a netip.Addr) bool {
	return g.carries(e.systems[g.id], a)
}

// behind reports whether some gateway carries the address.
func (e *Engine) behind(a netip.Addr) bool {
	for slot := range e.viaGates.all() {
		for _, g := range e.slots[slot].gateways {
			if e.carried(g, a) {
				return true
			}
		}
	}
	return false
}

func packetText(f Packet) string {
	switch f.Proto {
	case wire.TCP, wire.UDP:
		return fmt.Sprintf("%s port %d", f.Proto, f.DstPort)
	case wire.ICMP:
		return "icmp"
	}
	return "a protocol that only any matches"
}
