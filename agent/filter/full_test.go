package filter

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
)

// crowded is a table of 100 flows with two peers that may do anything.
func crowded(t *testing.T) *bench {
	b := &bench{t, New(Config{Self: us, Addrs: []netip.Addr{us4, us6}, MaxFlows: 100}), start}
	b.Update([]Peer{
		{ID: them, Addrs: []netip.Addr{them4}, Grants: []wire.Grant{{From: them, To: us, Proto: wire.Any}, {From: us, To: them, Proto: wire.Any}}},
		{ID: third, Addrs: []netip.Addr{third4}, Grants: []wire.Grant{{From: third, To: us, Proto: wire.Any}}},
	}, "", b.now)
	return b
}

func syn(from netip.Addr, sport uint16) spec {
	return spec{proto: protoTCP, src: from, dst: us4, sport: sport, dport: 80, flags: tcpSYN}
}

// establish opens a TCP flow and lets both ends speak.
func (b *bench) establish(from netip.Addr, sport uint16) {
	b.Helper()
	s := syn(from, sport)
	b.in(s, Accept)
	s.flags |= tcpACK
	b.out(s.reversed(), Accept)
	s.flags = tcpACK
	b.in(s, Accept)
}

func (b *bench) held(id wire.SystemID) int {
	return b.byID[id].flows
}

func TestAFloodDoesNotPushOutEstablishedFlows(t *testing.T) {
	b := crowded(t)
	for i := range uint16(20) {
		b.establish(third4, i)
		b.establish(them4, i)
	}
	for i := range uint16(5000) {
		b.in(syn(them4, 1000+i), Accept)
	}
	b.flows(100)
	for i := range uint16(20) {
		for _, from := range []netip.Addr{third4, them4} {
			s := syn(from, i)
			s.flags = tcpACK
			b.in(s, Accept)
		}
	}
	if n := b.Stats().Evicted; n != 4940 {
		t.Errorf("%d gave way, want 4940", n)
	}
	checkInvariants(t, b.Table)
}

func TestOnePeerCannotKeepTheTable(t *testing.T) {
	b := crowded(t)
	for i := range uint16(100) {
		b.establish(them4, i)
	}
	b.in(syn(them4, 200), TableFull) // its own busy flows do not give way to it
	for i := range uint16(50) {
		b.establish(third4, i) // one at a time: what is half open gives way first
	}
	b.in(syn(third4, 200), TableFull) // its share is full of busy flows as well
	if n := b.held(them); n != 50 {
		t.Errorf("the first peer holds %d flows, want half", n)
	}
	b.flows(100)
	checkInvariants(t, b.Table)
}

func TestSilentFlowsGiveWayToTheirOwnPeer(t *testing.T) {
	b := crowded(t)
	for i := range uint16(100) {
		b.establish(them4, i)
	}
	b.now = b.now.Add(3 * time.Minute)
	s := syn(them4, 7)
	s.flags = tcpACK
	b.in(s, Accept) // this one is in use
	for i := range uint16(50) {
		b.establish(them4, 1000+i)
	}
	b.in(s, Accept)
	b.flows(100)
	for i := range uint16(1000) {
		b.in(syn(them4, 2000+i), Accept)
	}
	silent := 0
	for _, f := range b.list {
		if f.state == open && f.last < int64(time.Minute) {
			silent++
		}
	}
	if silent < 30 { // a sample misses the first few
		t.Errorf("%d silent flows are left, want what is half open to go first", silent)
	}
}

func TestAPeerOverItsShareKeepsItsBusyFlows(t *testing.T) {
	b := crowded(t)
	for i := range uint16(20) {
		b.establish(third4, i)
	}
	for i := range uint16(80) {
		b.establish(them4, i)
	}
	b.in(syn(them4, 200), TableFull)
	if b.held(them) != 80 {
		t.Errorf("it lost flows to itself: %d left", b.held(them))
	}
}

func TestWhoAsksGivesWayBeforeOthers(t *testing.T) {
	b := crowded(t)
	for i := range uint16(10) {
		b.out(syn(them4, i).reversed(), Accept) // half open, and the oldest
	}
	for i := range uint16(40) {
		b.establish(them4, 100+i)
	}
	for i := range uint16(2000) {
		b.in(syn(third4, i), Accept)
	}
	if n := b.held(them); n != 50 {
		t.Errorf("%d flows of the other peer are left, want all 50", n)
	}
}

func TestADeadFlowIsReportedEvenWhenFull(t *testing.T) {
	b := crowded(t)
	g := wire.Grant{From: them, To: us, Proto: wire.Any, NotAfter: start.Add(time.Second)}
	b.Update([]Peer{
		{ID: them, Addrs: []netip.Addr{them4}, Grants: []wire.Grant{g}},
		{ID: third, Addrs: []netip.Addr{third4}, Grants: []wire.Grant{{From: third, To: us, Proto: wire.Any}}},
	}, "", b.now)
	for i := range uint16(100) {
		b.in(syn(them4, i), Accept)
	}
	b.now = g.NotAfter
	for i := range uint16(100) {
		b.in(syn(them4, i), Expired)
	}
	b.in(syn(third4, 1), TableFull)
	if cuts, _ := b.Expire(b.now); len(cuts) != 100 {
		t.Errorf("%d cuts, want 100", len(cuts))
	}
	b.in(syn(third4, 1), Accept)
}

// FuzzCrowd keeps a tiny table full and holds it to its invariants.
func FuzzCrowd(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 200, 7, 9, 255, 0, 0, 1, 1, 2, 90, 80, 70})
	f.Fuzz(func(t *testing.T, input []byte) {
		table := New(Config{Self: us, Addrs: ourAddrs, MaxFlows: 3})
		s, now := &script{b: input}, start
		for len(s.b) > 0 {
			switch s.pick(8) {
			case 0:
				table.Update(s.peers(now), "", now)
			case 1:
				now = now.Add(one(s, time.Second, time.Minute, time.Hour))
				table.Expire(now)
			default:
				if p, ours := s.packet(); ours {
					table.Out(p.bytes(), now)
				} else {
					table.In(p.bytes(), now)
				}
			}
			if n := len(table.list); n > 3 {
				t.Fatalf("%d flows", n)
			}
		}
		checkInvariants(t, table)
	})
}

func seqOf(pkt []byte) uint32 { return binary.BigEndian.Uint32(pkt[24:]) }

// TestResetFitsWhateverTheFarEndSent lets the far end send numbers far outside the
// window: one reset must still lie in what the local end announced.
func TestResetFitsWhateverTheFarEndSent(t *testing.T) {
	b := newBench(t, toUs(wire.TCP))
	s := tcpIn(tcpSYN)
	s.seq, s.options = 1000, []byte{2, 4, 5, 0, 3, 3, 7, 0}
	b.in(s, Accept)
	s = tcpIn(tcpSYN | tcpACK).reversed()
	s.seq, s.ack, s.window, s.options = 500, 1001, 8000, []byte{1, 3, 3, 4}
	b.out(s, Accept) // announces 8000: the window of a SYN is not scaled
	s = tcpIn(tcpACK)
	s.seq, s.ack = 1001, 501
	b.in(s, Accept)
	if w := b.list[0].end[outbound].advertised(&b.list[0].end[inbound]); w != 8000 {
		t.Errorf("window %d, want 8000", w)
	}
	s = tcpIn(tcpACK).reversed()
	s.seq, s.ack, s.window = 501, 1001, 600
	b.out(s, Accept)
	s = tcpIn(tcpACK)
	s.seq, s.payload = 1<<30, []byte("junk")
	b.in(s, Accept)
	cuts := b.grant()
	if len(cuts) != 1 {
		t.Fatalf("%d cuts", len(cuts))
	}
	fits := map[uint32]bool{}
	for _, pkt := range cuts[0].Local {
		fits[seqOf(pkt)] = true
	}
	if !fits[1001] || !fits[1001+600<<4-1] || !fits[1<<30+4] {
		t.Errorf("resets at %v", fits)
	}
	if seq := seqOf(cuts[0].Remote[0]); seq != 501 {
		t.Errorf("reset to the far end at %d, want 501", seq)
	}
}

func TestAnswersToRefusals(t *testing.T) {
	b := newBench(t)
	at := func(pkt []byte) (p packet) {
		if v := p.parse(pkt); v != Accept {
			t.Fatalf("answer %x: %v", pkt, v)
		}
		return p
	}
	s := tcpIn(tcpSYN).reversed()
	if p := at(b.RejectOut(s.bytes(), NoRule, b.now)); p.flags != tcpRST|tcpACK || p.ack != s.seq+1 || p.dport != s.sport || p.dst != s.src.As16() {
		t.Errorf("to a SYN: %+v", p)
	}
	s = tcpIn(tcpACK)
	if p := at(b.RejectIn(s.bytes(), Unsolicited, b.now)); p.flags != tcpRST || p.seq != s.ack || p.dst != s.src.As16() {
		t.Errorf("to a later segment: %+v", p)
	}
	for _, u := range []spec{udpIn().reversed(), {proto: protoUDP, src: us4, dst: them4, sport: 1, dport: 2, payload: make([]byte, 1200)}} {
		p, sent := at(b.RejectOut(u.bytes(), NoRule, b.now)), at(u.bytes())
		if p.kind != kindError || p.quote != sent.tuple || p.size > 576+20 {
			t.Errorf("to a datagram: %+v", p)
		}
	}
	for name, got := range map[string][]byte{
		"opening refused by the receiver": b.RejectIn(tcpIn(tcpSYN).bytes(), NoRule, b.now),
		"datagram from a peer":            b.RejectIn(udpIn().bytes(), Unsolicited, b.now),
		"reset":                           b.RejectIn(tcpIn(tcpRST).bytes(), Unsolicited, b.now),
		"spoofed":                         b.RejectOut(tcpIn(tcpSYN).bytes(), Spoofed, b.now),
		"echo":                            b.RejectOut(echo(8, 1).reversed().bytes(), NoRule, b.now),
		"nothing":                         b.RejectOut(nil, NoRule, b.now),
	} {
		if got != nil {
			t.Errorf("%s: answered by %x", name, got)
		}
	}
	n := 0
	for range 1000 {
		if b.RejectIn(s.bytes(), Unsolicited, b.now) != nil {
			n++
		}
	}
	if n >= answerBurst {
		t.Errorf("%d answers at once, want fewer than %d", n, answerBurst)
	}
	if b.now = b.now.Add(time.Second); b.RejectIn(s.bytes(), Unsolicited, b.now) == nil {
		t.Error("no answer a second later")
	}
}
