package policy

import (
	"math/bits"
	"net/netip"
	"time"

	"enclave/wire"
)

// Packet is one packet between two addresses of the overlay, or from the overlay to an
// address behind a gateway. A Proto that is none of TCP, UDP and ICMP is one that the
// filter cannot parse.
type Packet struct {
	Src, Dst         netip.Addr
	Proto            wire.Proto
	SrcPort, DstPort uint16 // TCP and UDP
	ICMPType         uint8  // counts only when HasType
	ICMPID           uint16
	HasType          bool
	Reply            bool // belongs to a flow that Dst opened before
}

// Verdict is the answer for one packet and its reason, a sentence. When several
// policies allow, the one with the shortest and then lowest ID is named, and its
// first rule that matches.
type Verdict struct {
	Allow   bool
	Policy  wire.PolicyID
	Rule    int           // index into the policy's rules; -1 without one
	Gateway wire.SystemID // the first gateway of the policy that carries the packet
	Why     string
}

// Evaluate says whether the receiver accepts the packet at now. Allowing costs no
// memory; a refusal makes its sentence.
func (e *Engine) Evaluate(q Packet, now time.Time) Verdict {
	f, kind := q, opensFlow
	if q.Reply {
		f, kind = turn(q), answersFlow
		if q.Proto == wire.ICMP && q.HasType {
			v6 := q.Src.Is6()
			switch {
			case icmpIsError(v6, q.ICMPType):
				kind = reportsError
			case !icmpIsReply(v6, q.ICMPType):
				return deny("this type of ICMP message starts an exchange and is a reply to none")
			}
		}
	}
	m := e.match(f, now, kind == reportsError)
	if m.rules == nil {
		return deny(e.whyNot(f, now, kind))
	}
	a := &m.rules.acls[m.rule]
	v := Verdict{Allow: true, Policy: m.rules.id, Rule: m.rule, Gateway: m.gateway}
	v.Why = [...]string{opensFlow: a.why, answersFlow: a.reply, reportsError: a.icmpErr}[kind]
	return v
}

// What a packet wants to be.
const (
	opensFlow = iota
	answersFlow
	reportsError
)

func deny(why string) Verdict { return Verdict{Rule: -1, Why: why} }

// turn gives the packet of the other direction.
func turn(q Packet) Packet {
	q.Src, q.Dst, q.SrcPort, q.DstPort = q.Dst, q.Src, q.DstPort, q.SrcPort
	q.Reply = !q.Reply
	return q
}

// match is a rule that allows a flow, or nothing.
type match struct {
	rules   *rules
	rule    int
	gateway wire.SystemID
}

// match finds the rule by which src may start the flow f; with anyRule, a rule by
// which it may start some flow there.
func (e *Engine) match(f Packet, now time.Time, anyRule bool) (best match) {
	src, dst := e.byAddr[f.Src], e.byAddr[f.Dst]
	if src == nil || src == dst || f.Src.Is4() != f.Dst.Is4() {
		return match{}
	}
	if dst != nil && joinedAt(src, dst, now) {
		return match{rules: e.mutual} // no policy speaks of two untagged systems
	}
	for i, w := range src.slots[senders] {
		if gates := e.viaGates.word(i); dst == nil {
			w &= gates
		} else {
			w &= dst.slots[receivers].word(i) &^ gates
		}
		for ; w != 0; w &= w - 1 {
			r := e.slots[i*64+bits.TrailingZeros64(w)]
			if best.rules != nil && !r.before(best.rules) {
				continue
			}
			if m := e.try(r, src, dst, f, now, anyRule); m.rules != nil {
				best = m
			}
		}
	}
	return best
}

// try matches one policy that names the source as a sender.
func (e *Engine) try(r *rules, src, dst *system, f Packet, now time.Time, anyRule bool) match {
	rule := r.find(f, anyRule)
	if rule < 0 || !r.active(now) || !src.stands(r, senders, now) {
		return match{}
	}
	if !r.gateway {
		if dst.stands(r, receivers, now) {
			return match{rules: r, rule: rule}
		}
		return match{}
	}
	for i := range r.gateways {
		g := &r.gateways[i]
		if s := e.systems[g.id]; s != nil && s != src && g.carries(s, f.Dst) && s.stands(r, receivers, now) {
			return match{rules: r, rule: rule, gateway: g.id}
		}
	}
	return match{}
}

// find returns the first rule that f matches, or -1.
func (r *rules) find(f Packet, anyRule bool) int {
	for i := range r.acls {
		if a := &r.acls[i]; anyRule || a.matches(f) {
			return i
		}
	}
	return -1
}

func (a *rule) matches(f Packet) bool {
	switch a.proto {
	case wire.Any:
		return true
	case wire.TCP, wire.UDP:
		return a.proto == f.Proto && a.ports.Contains(f.DstPort)
	}
	return a.proto == f.Proto
}

// before orders policies for a verdict: p2 before p10.
func (r *rules) before(o *rules) bool {
	if len(r.id) != len(o.id) {
		return len(r.id) < len(o.id)
	}
	return r.id < o.id
}
