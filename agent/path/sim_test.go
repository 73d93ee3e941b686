package path

import (
	"container/heap"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/disco"
)

// sim is two peers, each behind a toy NAT, and the time.
type sim struct {
	t     *testing.T
	now   time.Time
	queue events
	hosts [2]*host
	relay bool // whether the relay carries call-me
	wire  time.Duration
	drop  func(from, to netip.AddrPort) bool
	fits  func(size int) bool // nil: all do
	sent  int
	txs   uint64
}

// host is one side: a socket at addr, seen as public through its NAT.
type host struct {
	*Peer
	s      *sim
	addr   netip.AddrPort
	nat    string // none, easy, hard, blocked
	public netip.Addr
	maps   map[netip.AddrPort]netip.AddrPort // destination -> public source (hard), or zero key (easy)
	open   map[[2]netip.AddrPort]bool        // public source, remote: what may come in
	out    Output
	due    time.Time
	calls  int
}

type event struct {
	at  time.Time
	seq uint64
	do  func()
}
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func newSim(t *testing.T, natA, natB string) *sim {
	s := &sim{t: t, now: start, relay: true, wire: 20 * time.Millisecond}
	s.hosts[0] = s.host("192.168.1.10:41641", "198.51.100.1", natA)
	s.hosts[1] = s.host("192.168.2.20:41641", "203.0.113.1", natB)
	s.introduce()
	return s
}

func (s *sim) newTx() (tx disco.TxID) {
	s.txs++
	binary.LittleEndian.PutUint64(tx[4:], s.txs)
	tx[0] = byte(s.txs * 37)
	return tx
}

func (s *sim) host(addr, public, nat string) *host {
	h := &host{s: s, addr: netip.MustParseAddrPort(addr), nat: nat, public: netip.MustParseAddr(public)}
	h.forgetNAT()
	h.Peer = New(s.now, s.newTx)
	h.SetLocal([]netip.Addr{h.addr.Addr()})
	h.due = s.now
	return h
}

func (h *host) forgetNAT() {
	h.maps = make(map[netip.AddrPort]netip.AddrPort)
	h.open = make(map[[2]netip.AddrPort]bool)
}

// reach is what the host tells control: its interface, and what STUN said.
func (h *host) reach() []wire.Candidate {
	c := []wire.Candidate{{Kind: wire.HostCandidate, Addr: h.addr}}
	if h.nat == "easy" || h.nat == "hard" {
		c = append(c, wire.Candidate{Kind: wire.ObservedCandidate, Addr: h.source(netip.MustParseAddrPort("192.0.2.1:3478"))})
	}
	return c
}

func (s *sim) introduce() {
	a, b := s.hosts[0], s.hosts[1]
	for _, h := range s.hosts {
		if s.relay {
			h.SetRelay("r1")
		} else {
			h.SetRelay("")
		}
	}
	a.SetCandidates(s.now, b.reach())
	b.SetCandidates(s.now, a.reach())
	a.SetNATs(a.nat, b.nat)
	b.SetNATs(b.nat, a.nat)
}

// source is the public source of a packet to dst; it makes the mapping.
func (h *host) source(dst netip.AddrPort) netip.AddrPort {
	key := netip.AddrPort{}
	if h.nat == "hard" {
		key = dst
	}
	if _, ok := h.maps[key]; !ok {
		h.maps[key] = netip.AddrPortFrom(h.public, uint16(20000+len(h.maps)*7))
	}
	return h.maps[key]
}

func (s *sim) after(d time.Duration, do func()) {
	s.txs++
	heap.Push(&s.queue, event{s.now.Add(d), s.txs, do})
}

// send carries a packet from h to dst and calls got with the source it shows.
func (s *sim) send(h *host, dst netip.AddrPort, got func(to *host, from netip.AddrPort)) {
	s.sent++
	to := s.hosts[0]
	if h == to {
		to = s.hosts[1]
	}
	if near(dst.Addr(), h.addr.Addr()) { // one LAN
		if dst == to.addr && !(s.drop != nil && s.drop(h.addr, dst)) {
			s.after(time.Millisecond, func() { got(to, h.addr) })
		}
		return
	}
	src := h.addr
	switch h.nat {
	case "blocked":
		return
	case "easy", "hard":
		src = h.source(dst)
		h.open[[2]netip.AddrPort{src, dst}] = true
	}
	if s.drop != nil && s.drop(src, dst) {
		return
	}
	s.after(s.wire, func() {
		switch {
		case to.nat == "none" && dst == to.addr, to.nat != "blocked" && to.open[[2]netip.AddrPort{dst, src}]:
			got(to, src)
		}
	})
}

// step lets h act on its output.
func (s *sim) step(h *host) {
	h.out = h.Step(s.now)
	if !h.out.Next.After(s.now) {
		s.t.Fatalf("next %v is not after now %v", h.out.Next, s.now)
	}
	h.due = h.out.Next
	for _, p := range h.out.Pings {
		if s.fits != nil && !s.fits(max(p.Size, 123)) {
			s.sent++
			continue
		}
		s.send(h, p.To, func(to *host, from netip.AddrPort) {
			to.HearPing(s.now, from)
			s.send(to, from, func(back *host, from netip.AddrPort) {
				back.HearPong(s.now, from, p.Tx)
				s.step(back)
			})
			s.step(to)
		})
	}
	if h.out.CallMe && s.relay {
		h.calls++
		var addrs []netip.AddrPort
		for _, c := range h.reach() {
			addrs = append(addrs, c.Addr)
		}
		to := s.hosts[0]
		if h == to {
			to = s.hosts[1]
		}
		s.after(3*s.wire, func() {
			to.HearCallMe(s.now, addrs)
			s.step(to)
		})
	}
	if d := h.out.Route.Direct; d.IsValid() {
		if c := h.find(d); c == nil || s.now.Sub(c.pong) >= Consent {
			s.t.Fatalf("%v: route %v has no consent", s.now.Sub(start), d)
		}
	}
}

// run lets d pass. While busy, both sides send data.
func (s *sim) run(d time.Duration, busy bool) {
	end := s.now.Add(d)
	for _, h := range s.hosts {
		if busy {
			h.Traffic(s.now, s.now)
			h.due = s.now
		}
	}
	for {
		next, who := end, -1
		for i, h := range s.hosts {
			if h.due.Before(next) {
				next, who = h.due, i
			}
		}
		if len(s.queue) > 0 && !s.queue[0].at.After(next) && s.queue[0].at.Before(end) {
			e := heap.Pop(&s.queue).(event)
			s.now = e.at
			e.do()
			continue
		}
		s.now = next
		if who < 0 {
			return
		}
		if busy {
			s.hosts[who].Traffic(s.now, s.now)
		}
		s.step(s.hosts[who])
	}
}

// direct reports whether both sides are.
func (s *sim) direct() bool {
	return s.hosts[0].out.Route.IsDirect() && s.hosts[1].out.Route.IsDirect()
}
