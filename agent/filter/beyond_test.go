package filter

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

// pass is a sender and its gateways, each with a table of its own.
type pass struct {
	*testing.T
	now    time.Time
	sender *Table
	gates  map[netip.Addr]*Table
}

var (
	gateOne = netip.MustParseAddr("100.64.1.1")
	gateTwo = netip.MustParseAddr("100.64.1.2")
	printer = netip.MustParseAddr("192.168.1.9")
)

// newPass makes two gateways under one policy; grant is that of the first.
func newPass(t *testing.T, priority string) *pass {
	p := &pass{T: t, now: start, sender: New(Config{Self: us, Addrs: []netip.Addr{us4, us6}}), gates: map[netip.Addr]*Table{}}
	p.grant(priority, "192.168.1.0/24")
	return p
}

func (p *pass) grant(priority string, subnets ...string) (cuts []Cut) {
	var peers []Peer
	for i, at := range []netip.Addr{gateOne, gateTwo} {
		g := wire.Grant{From: us, To: wire.SystemID("gate" + string(rune('1'+i))), Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}},
			Policy: "p", Subnets: []netip.Prefix{}, Priority: priority, Order: i}
		for _, s := range subnets {
			g.Subnets = append(g.Subnets, netip.MustParsePrefix(s))
		}
		peers = append(peers, Peer{ID: g.To, Addrs: []netip.Addr{at}, Grants: []wire.Grant{g}})
		if p.gates[at] == nil {
			p.gates[at] = New(Config{Self: g.To, Addrs: []netip.Addr{at}})
		}
		cuts = append(cuts, p.gates[at].Update([]Peer{{ID: us, Addrs: []netip.Addr{us4, us6}, Grants: []wire.Grant{g}}}, "test", p.now)...)
	}
	return append(p.sender.Update(peers, "test", p.now), cuts...)
}

func toPrinter(sport uint16) spec {
	return spec{proto: protoTCP, src: us4, dst: printer, sport: sport, dport: 80, flags: tcpSYN}
}

// out sends a packet and returns the gateway that it is wrapped for.
func (p *pass) out(table *Table, s spec, want Verdict) netip.Addr {
	p.Helper()
	b := s.bytes()
	verdict, via := make([]Verdict, 1), make([]netip.Addr, 1)
	table.OutBatch([][]byte{b}, []int{len(b)}, 0, p.now, verdict, via)
	if verdict[0] != want {
		p.Fatalf("%v -> %v: %v, want %v", s.src, s.dst, verdict[0], want)
	}
	return via[0]
}

// in delivers a packet wrapped between two systems.
func (p *pass) in(table *Table, s spec, from, to netip.Addr, want Verdict) {
	p.Helper()
	if got := table.In(AppendWrap(nil, s.bytes(), from, to), p.now); got != want {
		p.Fatalf("%v -> %v by %v: %v, want %v", s.src, s.dst, from, got, want)
	}
}

func TestAFlowThroughAGateway(t *testing.T) {
	p := newPass(t, wire.PriorityOrdered)
	syn := toPrinter(1000)
	if via := p.out(p.sender, syn, Accept); via != gateOne {
		t.Fatalf("took %v", via)
	}
	p.in(p.gates[gateOne], syn, us4, gateOne, Accept)
	answer := syn.reversed()
	answer.flags = tcpSYN | tcpACK
	if via := p.out(p.gates[gateOne], answer, Accept); via != us4 {
		t.Fatalf("the answer goes to %v", via)
	}
	p.in(p.sender, answer, gateTwo, us4, Spoofed) // another gateway speaks for the one that was chosen
	if got := p.sender.In(answer.bytes(), p.now); got == Accept {
		t.Error("an answer that came unwrapped passed")
	}
	p.in(p.sender, answer, gateOne, us4, Accept)

	gate := p.gates[gateOne]
	other := toPrinter(1001)
	other.dport = 81
	p.in(gate, other, us4, gateOne, NoRule)
	other = toPrinter(1001)
	other.dst = netip.MustParseAddr("192.168.2.9")
	p.in(gate, other, us4, gateOne, NoRule)
	p.out(p.sender, other, UnknownPeer)
	other = toPrinter(1001)
	other.src = printer
	p.in(gate, other, us4, gateOne, Spoofed)
	p.in(gate, toPrinter(1002), gateTwo, gateOne, Spoofed)
	if got := gate.In(toPrinter(1003).bytes(), p.now); got != NotForUs {
		t.Errorf("a packet that is not wrapped: %v", got)
	}
	// Nothing behind a gateway starts a flow.
	start := toPrinter(2000).reversed()
	start.flags = tcpSYN
	p.out(gate, start, Spoofed)
	p.in(p.sender, start, gateOne, us4, Unsolicited)

	cuts := p.grant(wire.PriorityOrdered, "192.168.2.0/24")
	if len(cuts) != 2 || !cuts[0].Beyond || !cuts[1].Inbound {
		t.Fatalf("cuts %+v", cuts)
	}
	for _, c := range cuts {
		for _, b := range c.Remote {
			if inner, ok := Unwrap(b); !ok || len(inner) == 0 {
				t.Errorf("a reset for the other end is not wrapped")
			}
		}
	}
}

// TestTheWayOfAFlowIsPartOfIt: packets and errors of a flow pass on its own way only, and
// no subnet, however wide, leads to the gateway itself.
func TestTheWayOfAFlowIsPartOfIt(t *testing.T) {
	p := newPass(t, wire.PriorityOrdered)
	p.grant(wire.PriorityOrdered, "0.0.0.0/0")
	gate := p.gates[gateOne]
	syn := toPrinter(1000)
	p.out(p.sender, syn, Accept)
	p.in(gate, syn, us4, gateOne, Accept)
	answer := syn.reversed()
	answer.flags = tcpSYN | tcpACK
	p.in(p.sender, answer, gateOne, stranger, NotForUs)
	p.in(p.sender, answer, gateOne, us4, Accept)

	router := netip.MustParseAddr("192.168.1.1")
	far := spec{proto: protoICMP, src: router, dst: us4, typ: 3, quote: syn.bytes()}
	p.out(gate, far, Accept)
	p.in(p.sender, far, gateOne, us4, Accept)
	far.dst = stranger
	p.out(gate, far, Spoofed)
	p.in(p.sender, far, gateOne, us4, Spoofed)

	self := toPrinter(1001)
	self.dst = gateOne
	p.in(gate, self, us4, gateOne, NotForUs)

	b := newBench(t, toUs(wire.TCP))
	b.in(tcpIn(tcpSYN), Accept)
	if got := b.In(AppendWrap(nil, tcpIn(tcpACK).bytes(), them4, us4), b.now); got != NotForUs {
		t.Errorf("a packet of a direct flow, wrapped: %v", got)
	}
}

func TestWhichGatewayAFlowTakes(t *testing.T) {
	p := newPass(t, wire.PriorityOrdered)
	sick := func(one, two Health) { p.sender.SetHealth(map[wire.SystemID]Health{"gate1": one, "gate2": two}) }
	takes := func(sport uint16, want netip.Addr) {
		t.Helper()
		if via := p.out(p.sender, toPrinter(sport), Accept); via != want {
			t.Errorf("flow %d takes %v, want %v", sport, via, want)
		}
	}
	takes(1, gateOne)
	sick(Health{Down: true}, Health{})
	takes(2, gateTwo)
	takes(1, gateTwo) // had no answer yet: its next first segment starts it anew
	sick(Health{}, Health{})
	takes(3, gateOne)
	takes(2, gateTwo) // open flows stay when the first comes back
	sick(Health{Down: true}, Health{Down: true})
	takes(4, gateOne) // what is known may be wrong

	p.grant(wire.PriorityNearest, "192.168.1.0/24")
	sick(Health{RTT: 20 * time.Millisecond}, Health{RTT: 5 * time.Millisecond})
	takes(5, gateTwo)
	sick(Health{RTT: 20 * time.Millisecond}, Health{RTT: 5 * time.Millisecond, Down: true})
	takes(6, gateOne)

	p.grant(wire.PriorityBalanced, "192.168.1.0/24")
	sick(Health{}, Health{})
	count := map[netip.Addr]int{}
	for sport := range uint16(1000) {
		count[p.out(p.sender, toPrinter(10000+sport), Accept)]++
	}
	if count[gateOne] < 400 || count[gateTwo] < 400 {
		t.Errorf("balanced: %v", count)
	}
}

func TestAGrantThatEndsCutsBehindAGateway(t *testing.T) {
	p := newPass(t, "")
	end := p.now.Add(30 * time.Second)
	g := wire.Grant{From: us, To: "gate1", Proto: wire.Any, Policy: "p", NotAfter: end, Subnets: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}}
	p.sender.Update([]Peer{{ID: "gate1", Addrs: []netip.Addr{gateOne}, Grants: []wire.Grant{g}}}, "test", p.now)
	p.out(p.sender, toPrinter(1), Accept)
	if cuts, _ := p.sender.Expire(end.Add(-time.Nanosecond)); len(cuts) != 0 {
		t.Errorf("cut before the end: %v", cuts)
	}
	if cuts, _ := p.sender.Expire(end); len(cuts) != 1 || cuts[0].Cause != CauseExpired {
		t.Errorf("cuts %v", cuts)
	}
}

func TestWrappedPacketsCostNoMemory(t *testing.T) {
	p := newPass(t, "")
	s := toPrinter(1)
	via := p.out(p.sender, s, Accept)
	b := append(s.bytes(), make([]byte, wrapLen)...)
	bufs, sizes := [][]byte{b}, []int{len(b) - wrapLen}
	out, to := make([]Verdict, 1), make([]netip.Addr, 1)
	wrapped := AppendWrap(nil, s.bytes(), us4, via)
	if n := testing.AllocsPerRun(200, func() {
		p.sender.OutBatch(bufs, sizes, 0, p.now, out, to)
		p.gates[via].In(wrapped, p.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzWrap: what is wrapped comes out as it went in, and nothing that is no packet of ours
// makes trouble.
func FuzzWrap(f *testing.F) {
	f.Add(toPrinter(1).bytes())
	f.Add(AppendWrap(nil, toPrinter(1).bytes(), us4, gateOne))
	f.Add(AppendWrap(nil, AppendWrap(nil, toPrinter(1).bytes(), us4, gateOne), us4, gateOne))
	f.Add([]byte{0x45, 0, 0, 21, 0, 0, 0, 0, 0, 4, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var q packet
		q.parse(b)
		Unwrap(b)
		p := newPass(t, "")
		p.sender.In(b, p.now)
		p.sender.Out(b, p.now)
		p.gates[gateOne].In(b, p.now)
		var plain packet
		if len(b) == 0 || len(b) > 60000 || plain.parse(b) != Accept || plain.wrapped || plain.size != len(b) {
			return
		}
		w := AppendWrap(nil, b, us4, gateOne)
		var around packet
		if v := around.parse(w); v != Accept || !around.wrapped || around.tuple != plain.tuple || around.size != plain.size {
			t.Fatalf("%v: %+v, plain %+v", v, around, plain)
		}
		if inner, ok := Unwrap(w); !ok || !slices.Equal(inner, b) {
			t.Fatal("not the same inside")
		}
	})
}
