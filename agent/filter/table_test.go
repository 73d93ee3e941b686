package filter

import (
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
)

const (
	us   = wire.SystemID("AAAAA")
	them = wire.SystemID("BBBBB")
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bench is one table with one peer, and a clock that the test moves.
type bench struct {
	*testing.T
	*Table
	now time.Time
}

func newBench(t *testing.T, grants ...wire.Grant) *bench {
	b := &bench{t, New(Config{Self: us, Addrs: []netip.Addr{us4, us6}}), start}
	b.grant(grants...)
	return b
}

func (b *bench) grant(grants ...wire.Grant) []Cut {
	return b.Update([]Peer{{ID: them, Addrs: []netip.Addr{them4, them6}, Grants: grants}}, "changed", b.now)
}

func (b *bench) in(s spec, want Verdict) {
	b.Helper()
	if got := b.In(s.bytes(), b.now); got != want {
		b.Errorf("in %v: %v, want %v", s, got, want)
	}
}

func (b *bench) out(s spec, want Verdict) {
	b.Helper()
	if got := b.Out(s.bytes(), b.now); got != want {
		b.Errorf("out %v: %v, want %v", s, got, want)
	}
}

func (b *bench) flows(want int) {
	b.Helper()
	if got := len(b.Flows()); got != want {
		b.Errorf("%d flows, want %d", got, want)
	}
}

func toUs(proto wire.Proto, ports ...wire.PortRange) wire.Grant {
	return wire.Grant{From: them, To: us, Proto: proto, Ports: ports, Policy: "p"}
}

func fromUs(proto wire.Proto, ports ...wire.PortRange) wire.Grant {
	g := toUs(proto, ports...)
	g.From, g.To = us, them
	return g
}

func port(n uint16) wire.PortRange { return wire.PortRange{Lo: n, Hi: n} }

func tcpIn(flags uint8) spec {
	return spec{proto: protoTCP, src: them4, dst: us4, sport: 5000, dport: 80, flags: flags, seq: 100, ack: 200}
}

func udpIn() spec { return spec{proto: protoUDP, src: them6, dst: us6, sport: 5000, dport: 53} }

func TestNothingPassesByDefault(t *testing.T) {
	b := newBench(t)
	b.in(tcpIn(tcpSYN), NoRule)
	b.in(udpIn(), NoRule)
	b.out(udpIn().reversed(), NoRule)
	b.Update(nil, "", b.now)
	b.in(udpIn(), Spoofed)
	b.out(udpIn().reversed(), UnknownPeer)
}

func TestTheSenderStartsAndTheReceiverAnswers(t *testing.T) {
	b := newBench(t, toUs(wire.TCP, port(80)), toUs(wire.UDP, port(53)))
	b.out(tcpIn(tcpSYN|tcpACK).reversed(), Unsolicited)
	b.in(tcpIn(tcpACK), Unsolicited) // mid-stream
	b.in(tcpIn(tcpSYN), Accept)
	b.out(tcpIn(tcpSYN).reversed(), BadState) // the answer to a SYN is not a SYN
	b.out(tcpIn(tcpSYN|tcpACK).reversed(), Accept)
	b.in(tcpIn(tcpACK), Accept)
	other := tcpIn(tcpSYN)
	other.dport = 81
	b.in(other, NoRule)
	out := tcpIn(tcpSYN).reversed()
	out.sport, out.dport = 6000, 80
	b.out(out, NoRule) // never receiver to sender

	b.out(udpIn().reversed(), NoRule)
	b.in(udpIn(), Accept)
	b.out(udpIn().reversed(), Accept)
	b.flows(2)
}

// TestGrantsOfOthersOpenNothing: a map may list anything under a peer; what counts is
// between that peer and us.
func TestGrantsOfOthersOpenNothing(t *testing.T) {
	var foreign []wire.Grant
	for _, ends := range [][2]wire.SystemID{{third, us}, {them, third}, {us, third}, {third, them}, {them, them}, {us, us}} {
		foreign = append(foreign, wire.Grant{From: ends[0], To: ends[1], Proto: wire.Any, Policy: "p"})
	}
	b := newBench(t, foreign...)
	b.in(udpIn(), NoRule)
	b.out(udpIn().reversed(), NoRule)
}

// TestAnEarlierEndIsNews: of a grant that differs from the one before in its end alone,
// the new end counts, for flows and for who asks.
func TestAnEarlierEndIsNews(t *testing.T) {
	in, out := toUs(wire.UDP, port(53)), fromUs(wire.UDP, port(53))
	b := newBench(t, in, out)
	b.in(udpIn(), Accept)
	in.NotAfter = start.Add(time.Minute)
	out.NotAfter = in.NotAfter
	b.grant(in, out)
	check := func(at time.Time, want bool) {
		t.Helper()
		if _, _, ok := b.Check(wire.UDP, netip.AddrPortFrom(them6, 53), at); ok != want {
			t.Errorf("at %s a flow may be opened: %v", at.Sub(start), ok)
		}
	}
	check(in.NotAfter.Add(-1), true)
	check(in.NotAfter, false)
	b.now = in.NotAfter
	b.in(udpIn(), Expired)
}

func TestSpoofedAndStrayAddresses(t *testing.T) {
	b := newBench(t, toUs(wire.Any), fromUs(wire.Any))
	stranger := netip.MustParseAddr("100.64.0.9")
	s := spec{proto: protoUDP, src: stranger, dst: us4, sport: 1, dport: 2}
	b.in(s, Spoofed)
	s.src = us4
	b.in(s, Spoofed)
	s.src, s.dst = them4, stranger
	b.in(s, NotForUs)
	s.src, s.dst = stranger, them4
	b.out(s, Spoofed)
	s.src, s.dst = us4, stranger
	b.out(s, UnknownPeer)
	b.flows(0)
	if st := b.Stats(); st.In[Spoofed] != 2 || st.Out.Dropped() != 2 {
		t.Errorf("stats %+v", st)
	}
}

func echo(typ uint8, id uint16) spec {
	return spec{proto: protoICMP, src: them4, dst: us4, typ: typ, sport: id}
}

func TestICMPTypeAndDirectionArePartOfTheFlow(t *testing.T) {
	b := newBench(t, toUs(wire.ICMP))
	b.in(echo(0, 7), Unsolicited) // a reply opens nothing
	b.in(echo(8, 7), Accept)
	b.out(echo(8, 7).reversed(), NoRule) // a request with a known identifier is no reply
	b.out(echo(0, 8).reversed(), Unsolicited)
	b.in(echo(0, 7), Unsolicited)
	b.out(echo(0, 7).reversed(), Accept)
	b.in(echo(14, 7), Unsolicited) // a timestamp reply does not answer an echo
	b.in(echo(40, 0), Accept)      // a message without answer needs a rule only
	b.out(echo(40, 0).reversed(), NoRule)
}

func TestICMPErrorsBelongToLiveFlows(t *testing.T) {
	b := newBench(t, toUs(wire.UDP), toUs(wire.ICMP))
	for _, v6 := range []bool{false, true} {
		sent := spec{proto: protoUDP, src: them4, dst: us4, sport: 5, dport: 6}
		about := func(s spec) spec {
			e := spec{proto: protoICMP, src: s.dst, dst: s.src, typ: 3, code: 3, quote: s.bytes()[:28]}
			if v6 {
				e.proto, e.typ, e.code, e.quote = protoICMPv6, 2, 0, s.bytes()[:48]
			}
			return e
		}
		if v6 {
			sent.src, sent.dst = them6, us6
		}
		b.out(about(sent), Unsolicited)
		b.in(sent, Accept)
		b.out(about(sent), Accept)
		b.in(about(sent), Spoofed) // comes from our own address
		wrong := about(sent)
		wrong.src, wrong.dst = wrong.dst, wrong.src
		b.in(wrong, Unsolicited) // quotes what they sent, as if we had
		b.in(about(sent.reversed()), Accept)
		other := sent
		other.sport = 9
		b.out(about(other), Unsolicited)
	}
	b.in(echo(8, 3), Accept)
	b.out(spec{proto: protoICMP, src: us4, dst: them4, typ: 11, quote: echo(8, 3).bytes()}, Accept)
	b.out(spec{proto: protoICMP, src: us4, dst: them4, typ: 11, quote: echo(8, 4).bytes()}, Unsolicited)
}

func TestOpaqueProtocolsMatchOnlyAny(t *testing.T) {
	b := newBench(t, toUs(wire.TCP), toUs(wire.UDP), toUs(wire.ICMP))
	gre := spec{proto: 47, src: them4, dst: us4, payload: make([]byte, 20)}
	b.in(gre, NoRule)
	b.grant(toUs(wire.Any))
	b.out(gre.reversed(), NoRule)
	b.in(gre, Accept)
	b.out(gre.reversed(), Accept)
	b.in(tcpIn(tcpSYN), Accept) // any is every protocol
}

func TestPortsAreFreeAfterTheFlowCloses(t *testing.T) {
	for name, last := range map[string]uint8{"reset": tcpRST, "fin": tcpFIN | tcpACK} {
		b := newBench(t, toUs(wire.TCP, port(80)))
		handshake := func() {
			b.in(tcpIn(tcpSYN), Accept)
			b.out(tcpIn(tcpSYN|tcpACK).reversed(), Accept)
			b.in(tcpIn(tcpACK), Accept)
		}
		handshake()
		b.in(tcpIn(last), Accept)
		if name == "fin" {
			b.out(tcpIn(last).reversed(), Accept)
			b.in(tcpIn(tcpACK), Accept) // the last acknowledgement
		}
		if !b.Flows()[0].Over() {
			t.Errorf("%s: closed, and said to live", name)
		}
		b.out(tcpIn(tcpSYN).reversed(), NoRule) // the other way is another flow
		handshake()
		b.flows(1)
		if st := b.Flows()[0].State; st != "open" || b.Flows()[0].Over() {
			t.Errorf("%s: %s", name, st)
		}
	}
}

func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name string
		pkts []spec // odd ones travel back
		life time.Duration
	}{
		{"half open", []spec{tcpIn(tcpSYN)}, time.Minute},
		{"open", []spec{tcpIn(tcpSYN), tcpIn(tcpSYN | tcpACK), tcpIn(tcpACK)}, 24 * time.Hour},
		{"reset", []spec{tcpIn(tcpSYN), tcpIn(tcpRST)}, 30 * time.Second},
		{"udp", []spec{udpIn()}, 2 * time.Minute},
		{"udp answered", []spec{udpIn(), udpIn()}, 5 * time.Minute},
		{"echo", []spec{echo(8, 1), echo(0, 1)}, time.Minute},
	} {
		for _, early := range []time.Duration{time.Nanosecond, 0} {
			b := newBench(t, toUs(wire.Any))
			for i, s := range c.pkts {
				if i%2 == 0 {
					b.in(s, Accept)
				} else {
					b.out(s.reversed(), Accept)
				}
			}
			b.now = b.now.Add(c.life - early)
			if early == 0 {
				b.flows(1) // as of the last packet
			}
			b.Expire(b.now)
			b.flows(int(min(early, 1)))
		}
	}
}

func TestExpireSaysWhenToCallAgain(t *testing.T) {
	g := toUs(wire.UDP)
	g.NotAfter = start.Add(time.Hour)
	b := newBench(t, g)
	if _, next := b.Expire(b.now); !next.Equal(g.NotAfter) {
		t.Errorf("next %v, want the end of the grant", next)
	}
	b.in(udpIn(), Accept)
	if _, next := b.Expire(b.now); !next.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("next %v, want the end of the flow", next)
	}
	b.now = start.Add(time.Hour)
	if cuts, next := b.Expire(b.now); len(cuts) != 0 || !next.IsZero() {
		t.Errorf("%v, next %v, want nothing pending", cuts, next)
	}
}

func TestGrantsAreHalfOpenInTime(t *testing.T) {
	first, second := toUs(wire.UDP), toUs(wire.UDP)
	first.NotAfter, first.Rule = start.Add(time.Minute), 1
	second.NotBefore, second.NotAfter, second.Rule = start.Add(time.Minute), start.Add(2*time.Minute), 2
	b := newBench(t, second, first)
	b.in(udpIn(), Accept)
	b.now = start.Add(time.Minute) // one ends as the other begins: the flow changes hands
	b.in(udpIn(), Accept)
	if r := b.Flows()[0].Rule; r != 2 {
		t.Errorf("rule %d, want 2", r)
	}
	b.now = start.Add(2*time.Minute - 1)
	b.in(udpIn(), Accept)
	b.now = start.Add(2 * time.Minute)
	b.in(udpIn(), Expired)
	b.out(udpIn().reversed(), Expired)
	other := udpIn()
	other.sport++
	b.in(other, NoRule)
	cuts, _ := b.Expire(b.now)
	if len(cuts) != 1 || cuts[0].Cause != CauseExpired || cuts[0].Flow.Rule != 2 || !cuts[0].Inbound || cuts[0].Peer != them {
		t.Fatalf("cuts %+v", cuts)
	}
	b.flows(0)
	b.in(udpIn(), NoRule)

	b.now = start.Add(-time.Hour) // the wall clock is set back: what has ended stays so
	b.in(udpIn(), NoRule)
	b.SetClock(b.now, b.now) // somebody who knows says that it is right
	b.in(udpIn(), Accept)
}

// TestAClockThatIsSetCountsFromThen: nothing happens for a minute, and then the clock is
// set to what it shows. What ends ten seconds later does so then, and not at once.
func TestAClockThatIsSetCountsFromThen(t *testing.T) {
	g := toUs(wire.UDP)
	g.NotAfter = start.Add(70 * time.Second)
	b := newBench(t, g)
	b.in(udpIn(), Accept)
	b.now = start.Add(time.Minute)
	b.SetClock(b.now, b.now)
	b.now = b.now.Add(10*time.Second - 1)
	b.in(udpIn(), Accept)
	b.now = b.now.Add(1)
	b.in(udpIn(), Expired)
}

func TestUpdateKeepsWhatAnotherRuleAllows(t *testing.T) {
	b := newBench(t, toUs(wire.TCP, port(80)), toUs(wire.UDP, port(53)), fromUs(wire.ICMP))
	b.in(tcpIn(tcpSYN), Accept)
	b.in(udpIn(), Accept)
	b.out(echo(8, 1).reversed(), Accept)
	other := toUs(wire.Any)
	other.Policy, other.Rule = "q", 3
	cuts := b.grant(other)
	if len(cuts) != 1 || cuts[0].Flow.Proto != wire.ICMP || cuts[0].Cause != "changed" || cuts[0].Inbound {
		t.Fatalf("cuts %+v", cuts)
	}
	for _, f := range b.Flows() {
		if f.Policy != "q" || f.Rule != 3 {
			t.Errorf("%v still names %s/%d", f.Flow, f.Policy, f.Rule)
		}
	}
	b.in(echo(0, 1), Unsolicited)
	b.out(tcpIn(tcpSYN|tcpACK).reversed(), Accept)
	if cuts := b.grant(other); len(cuts) != 0 {
		t.Errorf("the same update cut %v", cuts)
	}
}

func TestUpdateCutsFlowsOfAddressesThatMoved(t *testing.T) {
	g := toUs(wire.UDP)
	b := newBench(t, g)
	b.in(udpIn(), Accept)
	cuts := b.Update([]Peer{{ID: them, Addrs: []netip.Addr{them4}, Grants: []wire.Grant{g}}}, "moved", b.now)
	if len(cuts) != 1 || cuts[0].Cause != "moved" {
		t.Fatalf("cuts %+v", cuts)
	}
	b.in(udpIn(), Spoofed)
	thief := Peer{ID: "CCCCC", Addrs: []netip.Addr{them4, us4}, Grants: []wire.Grant{{From: "CCCCC", To: us, Proto: wire.Any}}}
	b.Update([]Peer{{ID: them, Addrs: []netip.Addr{them4}}, thief, {ID: us, Addrs: []netip.Addr{them6}}}, "", b.now)
	b.in(tcpIn(tcpSYN), NoRule)                                                    // the address stays with the first that has it
	b.in(spec{proto: protoUDP, src: us4, dst: us4}, Spoofed)                       // nobody takes ours
	b.in(spec{proto: protoUDP, src: them6, dst: us6, sport: 1, dport: 2}, Spoofed) // we are no peer of ourselves
}

func TestWhichRuleIsNamed(t *testing.T) {
	rule := func(policy wire.PolicyID, i int, ports ...wire.PortRange) wire.Grant {
		g := fromUs(wire.TCP, ports...)
		g.Policy, g.Rule = policy, i
		return g
	}
	b := newBench(t, rule("b", 0), rule("a", 2, wire.PortRange{Lo: 10, Hi: 20}), rule("a", 1, port(15)))
	for dst, want := range map[uint16]string{9: "b", 10: "a", 20: "a", 21: "b", 65535: "b", 0: "b"} {
		if p, _, ok := b.Check(wire.TCP, netip.AddrPortFrom(them4, dst), b.now); !ok || string(p) != want {
			t.Errorf("port %d: %s, want %s", dst, p, want)
		}
	}
	if _, r, _ := b.Check(wire.TCP, netip.AddrPortFrom(them6, 15), b.now); r != 1 {
		t.Errorf("port 15: rule %d, want the lowest, 1", r)
	}
	if _, _, ok := b.Check(wire.UDP, netip.AddrPortFrom(them6, 15), b.now); ok {
		t.Error("a rule for tcp allows udp")
	}
	if _, _, ok := b.Check(wire.TCP, netip.AddrPortFrom(us4, 15), b.now); ok {
		t.Error("a stranger's address is allowed")
	}
}

func TestErrorsKeepNothingAlive(t *testing.T) {
	b := newBench(t, toUs(wire.UDP))
	b.in(udpIn(), Accept)
	b.now = b.now.Add(time.Minute)
	b.out(spec{proto: protoICMPv6, src: us6, dst: them6, typ: 1, quote: udpIn().bytes()}, Accept)
	b.now = b.now.Add(time.Minute)
	b.out(udpIn().reversed(), NoRule)
}

func TestADeadFlowKeepsItsPortsUntilItIsCut(t *testing.T) {
	g := toUs(wire.TCP)
	g.NotAfter = start.Add(time.Second)
	b := newBench(t, g)
	b.in(tcpIn(tcpSYN), Accept)
	b.in(tcpIn(tcpRST), Accept)
	b.now = g.NotAfter
	b.in(tcpIn(tcpACK), Expired)
	b.in(tcpIn(tcpSYN), Expired)
	if cuts, _ := b.Expire(b.now); len(cuts) != 1 {
		t.Errorf("cuts %+v", cuts)
	}
}

func TestDenials(t *testing.T) {
	b := newBench(t)
	b.in(tcpIn(tcpSYN), NoRule)
	b.in(tcpIn(tcpSYN), NoRule)
	b.now = b.now.Add(time.Second)
	b.in(udpIn(), NoRule)
	d := b.Denials()
	if len(d) != 2 || d[0].Proto != wire.UDP || d[1].Count != 2 || d[1].Dst != netip.MustParseAddrPort("100.64.0.1:80") ||
		d[1].Src != them4 || d[1].Reason != NoRule || !d[1].Inbound || !d[1].Last.Equal(start) {
		t.Fatalf("denials %+v", d)
	}
	b.Refused(wire.TCP, us4, netip.AddrPortFrom(them4, 9), b.now)
	b.Refused(wire.UDP, us4, netip.MustParseAddrPort("100.64.9.9:9"), b.now)
	b.Refused(wire.ICMP, us4, netip.AddrPortFrom(them4, 9), b.now)
	b.Refused(wire.TCP, us4, netip.AddrPort{}, b.now)
	reasons := map[Verdict]wire.Proto{}
	for _, d := range b.Denials() {
		if !d.Inbound && d.Src == us4 && d.Dst.Port() == 9 && d.Count == 1 {
			reasons[d.Reason] = d.Proto
		}
	}
	if n := len(b.Denials()); n != 4 || reasons[NoRule] != wire.TCP || reasons[UnknownPeer] != wire.UDP {
		t.Errorf("%d denials, of dials %v", n, reasons)
	}
	for i := range uint16(1000) {
		s := udpIn()
		s.dport = i
		b.in(s, NoRule)
	}
	if n := len(b.Denials()); n != maxDenials || len(b.denials.at) != maxDenials {
		t.Errorf("%d denials kept, want %d", n, maxDenials)
	}
	for _, d := range b.Denials() {
		if d.Dst.Port() < 1000-maxDenials {
			t.Errorf("port %d is still kept, want the youngest", d.Dst.Port())
		}
	}
	if p := b.PeerStats(); len(p) != 1 || p[0].Dropped[inbound] != 1003 {
		t.Errorf("peer stats %+v", p)
	}
}

// TestExpireFollowsTheTablesTime: who goes by it and not by the wall clock would look
// without end at what it is told to look at in the past.
func TestExpireFollowsTheTablesTime(t *testing.T) {
	b := newBench(t, toUs(wire.UDP))
	b.in(udpIn(), Accept)
	ahead := start.Add(time.Hour)
	b.SetClock(ahead, b.now)
	if _, next := b.Expire(b.now); !next.After(ahead) {
		t.Errorf("look again at %v, which is not after %v", next, ahead)
	}
	if got := b.Time(b.now.Add(time.Second)); !got.Equal(ahead.Add(time.Second)) {
		t.Errorf("a second later it is %v", got)
	}
}
