package path

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

var (
	listens = netip.MustParseAddrPort("203.0.113.1:443")
	byUDP   = netip.MustParseAddrPort("203.0.113.1:41641")
)

// streamed is a pair whose peer listens for streams, and the instants of its attempts.
func streamed(nat string) (p *Peer, run func(until time.Duration) []time.Duration) {
	s := &sim{}
	now := start
	p = New(now, s.newTx)
	p.SetNATs(nat, "easy")
	p.SetRelay("r1")
	p.SetCandidates(now, []wire.Candidate{{Kind: wire.HostCandidate, Addr: byUDP}, {Kind: wire.TCPCandidate, Addr: listens}})
	return p, func(until time.Duration) (at []time.Duration) {
		for now.Before(start.Add(until)) {
			p.Traffic(now, now)
			out := p.Step(now)
			for _, g := range out.Pings {
				if g.To == listens {
					panic("UDP to an address of TCP")
				}
			}
			if len(out.Dial) > 0 {
				if !slices.Equal(out.Dial, []netip.AddrPort{listens}) {
					panic("dials somebody else")
				}
				at = append(at, now.Sub(start).Round(100*time.Millisecond))
			}
			now = out.Next
		}
		return at
	}
}

func TestAStreamIsSoughtAfterUDP(t *testing.T) {
	_, run := streamed("easy")
	at := run(40 * time.Second)
	if len(at) < 3 || len(at) > 4 || at[0] != streamAfter {
		t.Errorf("attempts at %v, want the first at %v and then ever fewer", at, streamAfter)
	}
	_, run = streamed("blocked")
	if at = run(time.Second); len(at) != 1 || at[0] != 0 {
		t.Errorf("with UDP blocked: attempts at %v, want one at once", at)
	}
}

func TestAStreamIsSoughtByWhoSends(t *testing.T) {
	p, run := streamed("blocked")
	run(time.Second)
	if out := p.Step(start.Add(10 * time.Minute)); len(out.Dial) > 0 {
		t.Error("an idle pair dials")
	}
	now := start.Add(11 * time.Minute)
	p.Traffic(now, now)
	if out := p.Step(now); len(out.Dial) == 0 {
		t.Error("a pair that wakes up does not dial")
	}
}

// TestAStreamBetweenUDPAndTheRelay walks through the ranks: relay, stream, UDP, stream,
// relay.
func TestAStreamBetweenUDPAndTheRelay(t *testing.T) {
	p, run := streamed("blocked")
	run(time.Second)
	now := start.Add(time.Second)
	step := func(what string, want Route) Output {
		t.Helper()
		now = now.Add(time.Millisecond)
		out := p.Step(now)
		if out.Route != want {
			t.Errorf("%s: %+v, want %+v", what, out.Route, want)
		}
		return out
	}
	step("at first", Route{Relay: "r1"})
	p.SetStream(now, listens)
	if out := step("with a stream", Route{Stream: listens, Relay: "r1"}); !out.Changed || p.Why(now) != WhyUDPBlocked {
		t.Errorf("changed %v, why %q", out.Changed, p.Why(now))
	}
	var pings []Ping
	for len(pings) == 0 { // UDP is tried beside it
		out := p.Step(now)
		pings = append(pings, out.Pings...)
		now = out.Next
	}
	p.HearPong(now, pings[0].To, pings[0].Tx)
	step("with UDP", Route{Direct: byUDP, Relay: "r1"})
	now = now.Add(lostActive + keepActive)
	p.Traffic(now, now)
	p.Failed(now, byUDP)
	step("UDP is lost", Route{Stream: listens, Relay: "r1"})
	p.SetRelay("")
	step("no relay", Route{Stream: listens})
	p.SetRelay("r1")
	p.SetStream(now, netip.AddrPort{})
	if out := step("the stream has ended", Route{Relay: "r1"}); len(out.Dial) > 0 {
		t.Error("dials in the same instant")
	}
}
