package discovery

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"enclave/wire"
)

// digest stands for everything that an agent was told of a peer. It is cut from SHA-256
// and not from a faster hash: a system chooses parts of what its peers are told, and
// must not find two of them between which a change would pass for none.
type digest [16]byte

// hasher makes digests; it keeps its buffer from one to the next.
type hasher struct{ buf []byte }

// peer digests a peer. The ticket counts by its end, which says which one it is.
func (h *hasher) peer(p *wire.Peer, tickets Tickets) (d digest) {
	h.buf = h.buf[:0]
	h.text(string(p.ID))
	h.text(p.Name)
	h.addr(p.IPv4)
	h.addr(p.IPv6)
	h.buf = append(h.buf, p.WireGuard[:]...)
	h.buf = append(h.buf, p.Disco[:]...)
	h.count(len(p.SVID))
	for _, c := range p.SVID {
		h.text(string(c))
	}
	h.text(string(p.KeySignature))
	h.reach(&p.Reach)
	h.count(len(p.Names))
	for _, n := range p.Names {
		h.text(n)
	}
	h.count(len(p.Forwards))
	for _, f := range p.Forwards {
		h.text(f.Zone)
		h.count(len(f.Resolvers))
		for _, r := range f.Resolvers {
			h.addr(r.Addr())
			h.count(int(r.Port()))
		}
	}
	if tickets != nil {
		h.instant(tickets.Until(p.ID))
	}
	h.count(len(p.Grants))
	for i := range p.Grants {
		h.grant(&p.Grants[i])
	}
	sum := sha256.Sum256(h.buf)
	return digest(sum[:len(d)])
}

func (h *hasher) reach(r *wire.Reach) {
	h.count(len(r.Candidates))
	for _, c := range r.Candidates {
		h.text(string(c.Kind))
		h.addr(c.Addr.Addr())
		h.count(int(c.Addr.Port()))
	}
	h.text(string(r.Relay))
	h.text(r.NAT)
	h.count(len(r.Unreachable))
	for _, id := range r.Unreachable {
		h.text(string(id))
	}
}

// grant digests instants, not their representation: the same instant read from the
// store may stand in another zone. Nil ports, which are all ports, differ from an empty
// list, which is none. What the policy is called does not count: a new name is no reason
// to send every pair again (docs/decisions/0113).
func (h *hasher) grant(g *wire.Grant) {
	h.text(string(g.From))
	h.text(string(g.To))
	h.count(int(g.Proto))
	if g.Ports == nil {
		h.count(-1)
	} else {
		h.count(len(g.Ports))
	}
	for _, p := range g.Ports {
		h.count(int(p.Lo))
		h.count(int(p.Hi))
	}
	h.count(len(g.Subnets))
	for _, s := range g.Subnets {
		h.addr(s.Addr())
		h.count(s.Bits())
	}
	h.count(len(g.Names))
	for _, n := range g.Names {
		h.text(n)
	}
	h.count(len(g.Within))
	for _, s := range g.Within {
		h.addr(s.Addr())
		h.count(s.Bits())
	}
	h.text(g.Priority)
	h.count(g.Order)
	h.text(string(g.Policy))
	h.count(g.Rule)
	h.instant(g.NotBefore)
	h.instant(g.NotAfter)
	h.text(string(g.Ends))
}

// text appends bytes behind their length, so that no two lists of texts run together.
func (h *hasher) text(s string) {
	h.count(len(s))
	h.buf = append(h.buf, s...)
}

func (h *hasher) count(n int) { h.buf = binary.AppendVarint(h.buf, int64(n)) }

func (h *hasher) addr(a netip.Addr) {
	b := a.AsSlice()
	h.count(len(b))
	h.buf = append(h.buf, b...)
	h.text(a.Zone())
}

func (h *hasher) instant(t time.Time) {
	h.count(int(t.Unix()))
	h.count(t.Nanosecond())
}
