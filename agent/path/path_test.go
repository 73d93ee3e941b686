package path

import (
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/disco"
)

// TestNATs is the grid: which pairs become direct, how soon, and what the others
// say of themselves.
func TestNATs(t *testing.T) {
	tests := []struct {
		a, b   string
		direct bool
		why    [2]Why // as a and as b say it
	}{
		{"none", "none", true, [2]Why{}},
		{"none", "easy", true, [2]Why{}},
		{"none", "hard", true, [2]Why{}},
		{"easy", "easy", true, [2]Why{}},
		{"easy", "hard", false, [2]Why{WhyHardThere, WhyHardHere}}, // the toy filters by port; so do most hard ones
		{"hard", "hard", false, [2]Why{WhyHardNAT, WhyHardNAT}},
		{"none", "blocked", false, [2]Why{WhyUDPThere, WhyUDPBlocked}},
		{"easy", "blocked", false, [2]Why{WhyUDPThere, WhyUDPBlocked}},
	}
	for _, tt := range tests {
		t.Run(tt.a+"-"+tt.b, func(t *testing.T) {
			s := newSim(t, tt.a, tt.b)
			for _, h := range s.hosts {
				if h.nat == "none" {
					h.addr = netip.AddrPortFrom(h.public, h.addr.Port())
				}
			}
			s.introduce()
			s.step(s.hosts[0])
			if r := s.hosts[0].out.Route; r != (Route{Relay: "r1"}) {
				t.Errorf("first route %v; want the relay", r)
			}
			s.run(3*time.Second, true)
			if s.direct() != tt.direct {
				t.Fatalf("direct %v after 3 s; want %v", s.direct(), tt.direct)
			}
			s.run(20*time.Second, true)
			if s.direct() != tt.direct {
				t.Errorf("direct %v after 23 s; want %v", s.direct(), tt.direct)
			}
			s.run(57*time.Second, true)
			for i, h := range s.hosts {
				if got := h.Why(s.now); got != tt.why[i] && got != WhyProbing {
					t.Errorf("host %d: why %q; want %q", i, got, tt.why[i])
				}
			}
		})
	}
}

// TestWhyHasASentence: each reason is said to people, and none as its bare code.
func TestWhyHasASentence(t *testing.T) {
	for _, w := range []Why{WhyNoCandidates, WhyUDPBlocked, WhyUDPThere, WhyLost, WhyProbing, WhyOneWay,
		WhyHardNAT, WhyHardHere, WhyHardThere, WhyNoRelay, WhyNoAnswer} {
		if got := w.Sentence(); got == "" || got == string(w) {
			t.Errorf("%s has no sentence", w)
		}
	}
}

// TestChangesAreRemembered: the route before the last change, for status.
func TestChangesAreRemembered(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.run(10*time.Second, true)
	was, moves := s.hosts[0].Before()
	if was != (Route{Relay: "r1"}) || moves < 2 {
		t.Errorf("before %v after %d changes; want the relay after at least 2", was, moves)
	}
}

func TestDirectWithoutARelay(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.relay = false
	s.introduce()
	s.run(10*time.Second, true)
	if !s.direct() {
		t.Error("two easy NATs did not become direct from the map alone")
	}
}

// TestLostFallsBackAndReturns cuts the direct path for a minute.
func TestLostFallsBackAndReturns(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.run(10*time.Second, true)
	if !s.direct() {
		t.Fatal("not direct")
	}
	s.drop = func(_, _ netip.AddrPort) bool { return true }
	cut := s.now
	for s.hosts[0].out.Route.IsDirect() || s.hosts[1].out.Route.IsDirect() {
		s.run(100*time.Millisecond, true)
		if s.now.Sub(cut) > 5*time.Second+200*time.Millisecond {
			t.Fatalf("still direct %v after the path died", s.now.Sub(cut))
		}
	}
	if why := s.hosts[0].Why(s.now); why != WhyLost {
		t.Errorf("why %q; want %q", why, WhyLost)
	}
	s.run(time.Minute, true)
	before := s.sent
	s.run(time.Minute, true)
	if n := s.sent - before; n > 90 {
		t.Errorf("%d probes in a minute without a path", n)
	}
	s.drop = nil
	s.run(lastRetry+lastRetry/10+3*time.Second, true)
	if !s.direct() {
		t.Error("did not become direct again")
	}
}

// TestRebinding loses all NAT state of one side, as a router that restarts does.
func TestRebinding(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.run(10*time.Second, true)
	h := s.hosts[0]
	h.public = netip.MustParseAddr("198.51.100.77")
	h.forgetNAT()
	s.run(12*time.Second, true)
	if !s.direct() || s.hosts[1].out.Route.Direct.Addr() != h.public {
		t.Errorf("routes %v and %v; want direct, by way of %v", h.out.Route, s.hosts[1].out.Route, h.public)
	}
}

func TestIdleIsQuietAndStaysDirect(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.run(activeFor+10*time.Second, false)
	before := s.sent
	s.run(10*time.Minute, false)
	if !s.direct() {
		t.Error("an idle pair lost its path")
	}
	perMinute := float64(s.sent-before) / 10
	if perMinute > 12 || perMinute < 8 {
		t.Errorf("%.1f packets a minute; want about 11: a ping and a pong every %v from either side", perMinute, keepIdle)
	}
}

func TestIdleRelayedIsQuiet(t *testing.T) {
	s := newSim(t, "hard", "hard")
	s.run(10*time.Minute, false)
	before := s.sent
	s.run(10*time.Minute, false)
	if n := s.sent - before; n > 70 {
		t.Errorf("%d packets in ten idle minutes", n)
	}
	before = s.sent
	s.run(2*time.Second, true)
	if s.sent == before {
		t.Error("traffic started no round")
	}
}

// TestRanks checks that the address in the same network wins over the one
// across the NAT, and over IPv6, even when these answer first.
func TestRanks(t *testing.T) {
	now := start
	s := &sim{}
	p := New(now, s.newTx)
	p.SetLocal([]netip.Addr{netip.MustParseAddr("192.168.1.10")})
	v4, v6, lan := netip.MustParseAddrPort("203.0.113.5:1"), netip.MustParseAddrPort("[2001:db8::5]:1"), netip.MustParseAddrPort("192.168.1.20:1")
	answer := func(a netip.AddrPort, rtt time.Duration) Route {
		t.Helper()
		c := p.add(now, a)
		tx := s.newTx()
		c.ping(tx, now.Add(-rtt))
		if _, ok := p.HearPong(now, a, tx); !ok {
			t.Fatal("pong refused")
		}
		return p.Step(now).Route
	}
	for _, step := range []struct {
		from netip.AddrPort
		rtt  time.Duration
		want netip.AddrPort
	}{
		{v4, 10 * time.Millisecond, v4},
		{v6, 12 * time.Millisecond, v6},
		{v4, 2 * time.Millisecond, v6},
		{lan, 15 * time.Millisecond, lan},
		{v6, 1 * time.Millisecond, lan},
	} {
		if r := answer(step.from, step.rtt); r.Direct != step.want {
			t.Errorf("after %v answered: route %v; want %v", step.from, r.Direct, step.want)
		}
	}
}

func TestHysteresis(t *testing.T) {
	s := &sim{}
	p := New(start, s.newTx)
	a := &candidate{addr: netip.MustParseAddrPort("203.0.113.5:1"), rtt: 40 * time.Millisecond}
	b := &candidate{addr: netip.MustParseAddrPort("203.0.113.5:2")}
	for rtt, want := range map[time.Duration]bool{39: false, 36: false, 33: false, 31: true, 10: true} {
		b.rtt = rtt * time.Millisecond
		if got := p.better(b, a); got != want {
			t.Errorf("leaving 40 ms for %v: %v; want %v", b.rtt, got, want)
		}
	}
	a.losses, a.proof, a.pong = 2, 2, start
	if a.answers(start) {
		t.Error("lost twice, answered twice: usable")
	}
	if a.proof++; !a.answers(start) {
		t.Error("lost twice, answered three times: not usable")
	}
}

// TestPongs checks which answers count.
func TestPongs(t *testing.T) {
	now := start
	s := &sim{}
	addr, other := netip.MustParseAddrPort("203.0.113.5:1"), netip.MustParseAddrPort("203.0.113.6:1")
	p := New(now, s.newTx)
	p.SetCandidates(now, []wire.Candidate{{Addr: addr}, {Addr: other}})
	out := p.Step(now)
	if len(out.Pings) != 1 || out.Pings[0].To != addr {
		t.Fatalf("pings %v; want one to %v", out.Pings, addr)
	}
	tx := out.Pings[0].Tx
	now = now.Add(50 * time.Millisecond)
	if _, ok := p.HearPong(now, other, tx); ok {
		t.Error("a pong from another address counted")
	}
	if _, ok := p.HearPong(now, addr, disco.TxID{0xff}); ok {
		t.Error("a pong nobody asked for counted")
	}
	if rtt, ok := p.HearPong(now, addr, tx); !ok || rtt != 50*time.Millisecond {
		t.Errorf("the pong: %v, %v", rtt, ok)
	}
	if _, ok := p.HearPong(now, addr, tx); ok {
		t.Error("a replayed pong counted")
	}
	if p.Step(now); p.route == nil {
		t.Error("not direct")
	}
	if p.Failed(now, other); p.route == nil {
		t.Error("a failure elsewhere cost the route")
	}
	if p.Failed(now, addr); p.Step(now).Route.IsDirect() {
		t.Error("a route that the system refuses to send to is still one")
	}
}

// TestBetterAddressTakesOver makes before it breaks: there is no step in between.
func TestBetterAddressTakesOver(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.run(10*time.Second, true)
	// Both move into one network; the old path stays up meanwhile.
	s.hosts[1].addr = netip.MustParseAddrPort("192.168.1.20:41641")
	s.introduce()
	for range 300 {
		s.run(10*time.Millisecond, true)
		if !s.hosts[0].out.Route.IsDirect() {
			t.Fatal("a relay in between")
		}
	}
	if r := s.hosts[0].out.Route; r.Direct != s.hosts[1].addr {
		t.Errorf("route %v; want %v", r, s.hosts[1].addr)
	}
}

func TestMoved(t *testing.T) {
	s := newSim(t, "easy", "easy")
	s.run(70*time.Second, false) // idle by now
	s.drop = func(_, _ netip.AddrPort) bool { return true }
	s.hosts[0].Moved(s.now)
	s.hosts[0].due = s.now
	s.run(lostIdle+100*time.Millisecond, false)
	if s.hosts[0].out.Route.IsDirect() {
		t.Error("moved, unanswered, and still direct")
	}
}

// TestLossyPath drops a fifth of all packets, which a path is not left for.
func TestLossyPath(t *testing.T) {
	s := newSim(t, "easy", "easy")
	n := 0
	s.drop = func(_, _ netip.AddrPort) bool { n++; return n*7919%100 < 20 }
	s.run(10*time.Second, true)
	if !s.direct() {
		t.Fatal("not direct")
	}
	changes := 0
	for range 6000 {
		s.run(100*time.Millisecond, true)
		if s.hosts[0].since.Equal(s.now) {
			changes++
		}
	}
	if changes > 8 {
		t.Errorf("%d route changes in ten minutes with a fifth of packets lost", changes)
	}
}

func TestCandidatesAreBounded(t *testing.T) {
	s := &sim{}
	p := New(start, s.newTx)
	var many []wire.Candidate
	for i := range 100 {
		many = append(many, wire.Candidate{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 1)})
	}
	p.SetCandidates(start, many)
	forgotten := 0
	for i := range 5000 {
		now := start.Add(time.Duration(i) * time.Millisecond)
		p.HearPing(now, netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), uint16(i+1)))
		forgotten += len(p.Step(now).Forgotten)
	}
	if len(p.cands) > maxCandidates {
		t.Errorf("%d candidates", len(p.cands))
	}
	if want := 5000 + wire.MaxCandidates - len(p.cands); forgotten != want {
		t.Errorf("%d forgotten; want %d", forgotten, want)
	}
	for _, c := range many[:wire.MaxCandidates] {
		if p.find(c.Addr) == nil {
			t.Errorf("%v, which the map names, made room for a stranger", c.Addr)
		}
	}
	p.HearPing(start, netip.MustParseAddrPort("224.0.0.1:5"))
	if p.find(netip.MustParseAddrPort("224.0.0.1:5")) != nil {
		t.Error("a multicast address became a candidate")
	}
	out := p.Step(start.Add(time.Hour))
	if len(p.cands) != wire.MaxCandidates {
		t.Errorf("%d candidates an hour later (%d forgotten); want the named ones", len(p.cands), len(out.Forgotten))
	}
}
