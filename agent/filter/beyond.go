package filter

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// This file knows what lies behind gateways. At the sender the remote end of such a flow
// is behind the peer, at the gateway the local end is behind us; either way the flow
// belongs to the peer at the other end of the tunnel, and its packets travel wrapped.

// beyond is a rule for addresses behind its receiver.
type beyond struct {
	rule
	to []span // sorted, disjoint
}

// span is a range of addresses, both ends included.
type span struct{ lo, hi addr }

func newSpans(prefixes []netip.Prefix) (out []span) {
	for _, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			continue
		}
		lo := addr(p.Masked().Addr().As16())
		hi, bits := lo, p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		for i := bits; i < 128; i++ {
			hi[i/8] |= 0x80 >> (i % 8)
		}
		out = append(out, span{lo, hi})
	}
	slices.SortFunc(out, func(a, b span) int { return bytes.Compare(a.lo[:], b.lo[:]) })
	merged := out[:0]
	for _, s := range out {
		if n := len(merged); n > 0 && bytes.Compare(s.lo[:], merged[n-1].hi[:]) <= 0 {
			if bytes.Compare(s.hi[:], merged[n-1].hi[:]) > 0 {
				merged[n-1].hi = s.hi
			}
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

func covers(list []span, a addr) bool {
	i, ok := slices.BinarySearchFunc(list, a, func(s span, a addr) int { return bytes.Compare(s.lo[:], a[:]) })
	return ok || i > 0 && bytes.Compare(a[:], list[i-1].hi[:]) <= 0
}

// behind returns the rule that allows a flow to dst behind the receiver, or nil.
func (r *rules) behind(proto wire.Proto, dst addr, port uint16) *rule {
	for _, b := range r.open {
		switch {
		case b.Proto != proto && b.Proto != wire.Any, !covers(b.to, dst):
		case b.Ports == nil || b.Proto == wire.Any || b.Ports.Contains(port):
			return &b.rule
		}
	}
	return nil
}

// behind returns the rule that allows f now, and whether its peer is still there.
func (t *Table) behind(f *flow) (*rule, bool) {
	dst, known := f.key.local, t.byAddr[f.key.remote] == f.peer
	if f.opener == outbound {
		dst, known = f.key.remote, t.byID[f.peer.id] == f.peer && f.peer.outer.IsValid()
	}
	return f.peer.rules[f.opener].behind(f.proto, dst, f.port()), known
}

func outer(addrs []addr) netip.Addr {
	for _, a := range addrs {
		if isMapped(a) {
			return a.port(0).Addr()
		}
	}
	return netip.Addr{}
}

// Health is what is known of a gateway besides its grants.
type Health struct {
	Down bool          // it does not answer
	RTT  time.Duration // 0 is not known
}

// SetHealth says how the gateways are. New flows prefer one that is up, and so does a
// flow that has no answer yet from one that is not. Open TCP flows stay where they are.
func (t *Table) SetHealth(health map[wire.SystemID]Health) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.health = health
}

// Gateways lists the peers that grant us what lies behind them.
func (t *Table) Gateways() (out []wire.SystemID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.gates {
		out = append(out, p.id)
	}
	return out
}

// Via returns the gateway that a new flow to dst would take now.
func (t *Table) Via(proto wire.Proto, dst netip.AddrPort, now time.Time) (wire.SystemID, bool) {
	a, valid := unicast(dst.Addr())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	if !valid || t.byAddr[a] != nil {
		return "", false
	}
	p, v := t.choose(proto, a, dst.Port(), 0)
	if p == nil || v != Accept {
		return "", false
	}
	return p.id, true
}

// choose picks the gateway for a new flow to dst: of the policy that comes first among
// those with a gateway that is up, the one that its priority says. With all of them down
// it picks as if all were up: what is known may be wrong. spread is the flow's own.
func (t *Table) choose(proto wire.Proto, dst addr, port uint16, spread uint64) (best *peer, v Verdict) {
	v = UnknownPeer
	var with *rule
	for _, p := range t.gates {
		t.refresh(p)
		r := p.rules[outbound].behind(proto, dst, port)
		switch {
		case r == nil:
			if v == UnknownPeer && slices.ContainsFunc(p.rules[outbound].open, func(b *beyond) bool { return covers(b.to, dst) }) {
				v = NoRule
			}
		case best == nil || t.prefers(p, r, best, with, spread):
			best, with, v = p, r, Accept
		}
	}
	return best, v
}

// prefers reports whether a by the rule x comes before b by the rule y.
func (t *Table) prefers(a *peer, x *rule, b *peer, y *rule, spread uint64) bool {
	ha, hb := t.health[a.id], t.health[b.id]
	if ha.Down != hb.Down {
		return hb.Down
	}
	if c := strings.Compare(string(x.Policy), string(y.Policy)); c != 0 {
		return c < 0
	}
	switch {
	case x.Priority == wire.PriorityOrdered && x.Order != y.Order:
		return x.Order < y.Order
	case x.Priority == wire.PriorityNearest && ha.RTT != hb.RTT:
		return hb.RTT == 0 || ha.RTT != 0 && ha.RTT < hb.RTT
	case x.Priority == wire.PriorityOrdered || x.Priority == wire.PriorityNearest:
		return false // the lower ID, which comes first
	}
	return t.draw(a, spread) > t.draw(b, spread)
}

// draw is rendezvous hashing: each flow draws a number for each gateway, so that one
// that goes or comes moves no flow between the others.
func (t *Table) draw(p *peer, spread uint64) uint64 {
	return maphash.Comparable(t.flows.seed, drawn{p.id, spread})
}

type drawn struct {
	id     wire.SystemID
	spread uint64
}

// spread tells flows apart for balancing.
func (p *packet) spread() uint64 { return uint64(p.sport)<<16 | uint64(p.dport) }

// port is the port that rules are asked about.
func (p *packet) port() uint16 {
	if p.kind != kindPorts {
		return 0
	}
	return p.dport
}

// peerAround checks a wrapped packet that belongs to no flow: it must be from a peer, to
// us, and inside it from the same peer to what is nobody's address.
func (t *Table) peerAround(p *packet, d direction) (*peer, Verdict) {
	if d == outbound {
		return nil, Malformed // the local stack wraps nothing
	}
	from := t.byAddr[p.from]
	switch {
	case from == nil:
		return nil, Spoofed
	case !slices.Contains(t.ours, p.to):
		return from, NotForUs
	case slices.Contains(t.ours, p.dst) && t.byAddr[p.src] == nil:
		return from, Unsolicited // from behind a gateway; nothing there starts a flow
	case t.byAddr[p.src] != from:
		return from, Spoofed
	case slices.Contains(t.ours, p.dst) || t.byAddr[p.dst] != nil:
		return from, NotForUs
	}
	return from, Accept
}

// across checks that a packet of a flow came the way of that flow: wrapped, from its
// peer. Otherwise another gateway could speak for the one that was chosen.
func (t *Table) across(p *packet, d direction, f *flow) Verdict {
	switch {
	case d == outbound && p.wrapped:
		return Malformed
	case d == outbound:
		return Accept
	case !f.beyond || !p.wrapped:
		return NotForUs
	case t.byAddr[p.from] != f.peer:
		return Spoofed
	case !slices.Contains(t.ours, p.to):
		return NotForUs
	}
	return Accept
}

// quoted reports whether an error about a flow goes to somebody else than the one end
// of that flow that it may go to, the opposite of the one that it came over.
func (t *Table) quoted(p *packet, d direction, f *flow) bool {
	end := f.key.local
	if d == outbound {
		end = f.key.remote
	}
	return p.dst != end
}

// lost reports whether f waits for a gateway that is down while another is up: then a
// packet of its opener starts it anew. TCP is only moved before it has opened.
func (t *Table) lost(p *packet, d direction, f *flow) bool {
	if d == inbound || f.opener == inbound || f.dead || !t.health[f.peer.id].Down ||
		f.proto == wire.TCP && (f.state != halfOpen || !p.opensTCP()) {
		return false
	}
	other, _ := t.choose(f.proto, f.key.remote, f.port(), p.spread())
	return other != nil && other != f.peer
}

// wrap marks an accepted packet of f for wrapping.
func (t *Table) wrap(f *flow, p *packet, d direction) {
	if f.beyond && d == outbound {
		p.via = f.peer
	}
}

func (t *Table) wrapAll(pkts [][]byte, to netip.Addr) {
	self := outer(t.ours)
	for i, pkt := range pkts {
		if !self.IsValid() || !to.IsValid() {
			pkts[i] = nil
			continue
		}
		pkts[i] = AppendWrap(make([]byte, 0, wrapLen+len(pkt)), pkt, self, to)
	}
}
