package filter

import (
	"testing"
	"time"

	"enclave/wire"
)

func TestFragmentsFollowTheirFirst(t *testing.T) {
	for _, s := range []spec{
		{proto: protoUDP, src: them4, dst: us4, sport: 5, dport: 53, payload: make([]byte, 40)},
		{proto: protoUDP, src: them6, dst: us6, sport: 5, dport: 53, payload: make([]byte, 40)},
	} {
		b := newBench(t, toUs(wire.UDP, port(53)))
		check := func(pkt []byte, want Verdict) {
			b.Helper()
			if got := b.In(pkt, b.now); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
		p := s.pieces(1, 16)
		check(p[1], FragmentOrphan)
		check(p[0], Accept)
		check(p[1], Accept)
		check(p[2], Accept)
		check(s.pieces(2, 16)[1], FragmentOrphan) // another datagram
		denied := s
		denied.dport = 54
		check(denied.pieces(3, 16)[0], NoRule)
		check(denied.pieces(3, 16)[1], FragmentOrphan)
		check(s.piece(1, 8, make([]byte, 8), true), BadFragment) // over the first
		check(p[1], FragmentOrphan)                              // and the datagram is lost
		check(p[0], Accept)
		b.now = b.now.Add(10 * time.Second)
		check(p[1], FragmentOrphan)
		check(p[0], Accept)
		b.grant()
		check(p[1], FragmentOrphan)
		end := toUs(wire.UDP, port(53))
		end.NotAfter = b.now.Add(time.Second)
		b.grant(end)
		check(p[0], Accept)
		b.now = end.NotAfter
		check(p[1], Expired) // no cut has been reported yet
	}
}

func TestFragmentsOfAFlowWhoseMemoryIsUsedAgain(t *testing.T) {
	b := newBench(t, toUs(wire.UDP))
	s := spec{proto: protoUDP, src: them6, dst: us6, sport: 5, dport: 53, payload: make([]byte, 40)}
	b.In(s.pieces(1, 16)[0], b.now)
	b.grant()
	b.grant(toUs(wire.UDP))
	b.in(udpIn(), Accept) // in the memory of the flow that was cut
	if v := b.In(s.pieces(1, 16)[1], b.now); v != FragmentOrphan {
		t.Errorf("%v, want an orphan", v)
	}
}

func TestARepeatedFirstFragmentDoesNotMoveTheLine(t *testing.T) {
	b := newBench(t, toUs(wire.UDP))
	s := spec{proto: protoUDP, src: them6, dst: us6, sport: 5, dport: 53, payload: make([]byte, 64)}
	b.In(s.pieces(1, 32)[0], b.now)
	b.In(s.pieces(1, 16)[0], b.now)
	if v := b.In(s.piece(1, 16, make([]byte, 8), true), b.now); v != BadFragment {
		t.Errorf("%v, want an overlap", v)
	}
}

func TestFragmentMemoryIsBounded(t *testing.T) {
	b := newBench(t, toUs(wire.UDP), fromUs(wire.UDP))
	s := spec{proto: protoUDP, src: them6, dst: us6, sport: 5, dport: 53, payload: make([]byte, 40)}
	for id := range uint32(4 * maxFragments) {
		b.In(s.pieces(id, 16)[0], b.now)
	}
	if n := len(b.frags.by); n != fragmentsPerPeer {
		t.Errorf("%d remembered, want %d", n, fragmentsPerPeer)
	}
	if v := b.In(s.pieces(4*maxFragments-1, 16)[1], b.now); v != Accept {
		t.Errorf("the youngest: %v", v)
	}
}
