package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"enclave/wire"
)

// script reads choices from fuzz input; past its end every choice is the first.
type script struct {
	b    []byte
	said []spec // packets so far, which later ones answer or repeat
	ours []bool
}

func (s *script) pick(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	c := int(s.b[0]) % n
	s.b = s.b[1:]
	return c
}

func one[T any](s *script, of ...T) T { return of[s.pick(len(of))] }

const third = wire.SystemID("CCCCC")

var (
	third4    = netip.MustParseAddr("100.64.0.3")
	stranger  = netip.MustParseAddr("100.64.0.9")
	stranger6 = netip.MustParseAddr("fd00::9")
)

// packet makes up a packet, or more often one of a flow that was spoken of before.
func (s *script) packet() (p spec, ours bool) {
	if n := len(s.said); n > 0 && s.pick(4) != 0 {
		at := n - 1 - s.pick(min(n, 8))
		if p, ours = s.said[at], s.ours[at]; s.pick(2) == 0 {
			p, ours = p.reversed(), !ours
			if ruleProto(p) == wire.ICMP && s.pick(4) != 0 {
				p.typ = map[uint8]uint8{8: 0, 0: 8, 128: 129, 129: 128}[p.typ]
			}
		}
	} else {
		p, ours = s.fresh()
	}
	if p.proto == protoTCP {
		p.flags = one[uint8](s, tcpSYN, tcpSYN|tcpACK, tcpACK, tcpFIN|tcpACK, tcpRST, tcpACK)
	}
	s.said, s.ours = append(s.said, p), append(s.ours, ours)
	return p, ours
}

func (s *script) fresh() (p spec, ours bool) {
	ours = s.pick(2) == 1
	local, remote := us4, one(s, them4, third4, them4, stranger)
	if s.pick(3) == 0 {
		local, remote = us6, them6
	}
	if s.pick(16) == 15 {
		local = stranger
		if remote.Is6() {
			local = stranger6
		}
	}
	p = spec{proto: one[uint8](s, protoTCP, protoUDP, protoTCP, 0xff, 47), src: remote, dst: local}
	lport, rport := one[uint16](s, 1, 2), one[uint16](s, 3, 4)
	switch p.proto {
	case protoTCP:
		p.seq, p.ack = uint32(s.pick(256)), uint32(s.pick(256))
		p.sport, p.dport = rport, lport
	case protoUDP:
		p.sport, p.dport = rport, lport
	case 0xff:
		p.proto, p.typ, p.sport = protoICMP, one[uint8](s, 8, 0), lport
		if local.Is6() {
			p.proto, p.typ = protoICMPv6, 129-p.typ/8
		}
	default:
		p.payload = make([]byte, 8)
	}
	if ours {
		p = p.reversed()
	}
	return p, ours
}

func (s *script) peers(now time.Time) (peers []Peer) {
	all := []Peer{{ID: them, Addrs: []netip.Addr{them4, them6}}, {ID: third, Addrs: []netip.Addr{third4}}}
	for _, p := range all {
		if s.pick(8) == 7 {
			continue
		}
		if p.ID == them && s.pick(8) == 7 {
			p.Addrs = p.Addrs[:1]
		}
		for i := range s.pick(4) {
			g := wire.Grant{From: us, To: p.ID, Policy: one[wire.PolicyID](s, "a", "b", "c"), Rule: i}
			if s.pick(2) == 0 {
				g.From, g.To = g.To, g.From
			}
			g.Proto = one(s, wire.TCP, wire.Any, wire.UDP, wire.ICMP)
			if g.Proto == wire.TCP || g.Proto == wire.UDP {
				g.Ports = one(s, nil, wire.Ports{port(1)}, wire.Ports{{Lo: 2, Hi: 3}}, wire.Ports{port(4), {Lo: 1, Hi: 2}}, wire.Ports{})
			}
			if s.pick(3) == 0 {
				g.NotAfter = now.Add(one(s, 0, time.Second, time.Minute, time.Hour))
			}
			if s.pick(4) == 0 {
				g.NotBefore = now.Add(one(s, -time.Hour, time.Second, 0, time.Minute))
			}
			p.Grants = append(p.Grants, g)
		}
		peers = append(peers, p)
	}
	return peers
}

// play runs one script against the table and the model.
func play(t *testing.T, input []byte) {
	s := &script{b: input}
	table, m := New(Config{Self: us, Addrs: ourAddrs}), &model{now: start}
	judge := func(pkt []byte, ours bool) Verdict {
		if ours {
			return table.Out(pkt, m.now)
		}
		return table.In(pkt, m.now)
	}
	for step := 0; len(s.b) > 0 && step < 300; step++ {
		var got, want any
		var did string
		switch s.pick(16) {
		case 0:
			peers := s.peers(m.now)
			did = fmt.Sprintf("update %+v", peers)
			got, want = cutNames(t, table.Update(peers, "update", m.now)), sorted(m.update(peers, "update"))
		case 1:
			cuts, _ := table.Expire(m.now)
			did, got, want = "expire", cutNames(t, cuts), sorted(m.expire())
		case 2, 3:
			m.now = m.now.Add(one(s, time.Second, 30*time.Second, time.Minute, 9*time.Second, 2*time.Minute, time.Hour, 5*time.Minute, 24*time.Hour))
			did = "wait until " + m.now.String()
		case 4:
			quoted, ours := s.packet()
			e := spec{proto: protoICMP, src: quoted.dst, dst: quoted.src, typ: 3, quote: quoted.bytes()}
			if e.src.Is6() {
				e.proto, e.typ = protoICMPv6, 1
			}
			if s.pick(8) == 7 && e.src.Is4() {
				e.src, e.dst = one(s, e.src, third4), one(s, e.dst, third4)
			}
			did = fmt.Sprintf("error %v about %v, ours %v", e, quoted, !ours)
			got, want = judge(e.bytes(), !ours), m.about(e, quoted, !ours)
		case 5, 6:
			p, ours := s.packet()
			p.payload = make([]byte, 64)
			id, size, off := uint32(1+s.pick(2)), one(s, 24, 32), one(s, 0, 8, 24, 32, 40)
			name := fmt.Sprint(p.src, p.dst, id)
			if p.src.Is4() {
				name += fmt.Sprint(p.proto)
			}
			did = fmt.Sprintf("fragment of %v at %d, ours %v", p, off, ours)
			if off == 0 {
				got, want = judge(p.pieces(id, size)[0], ours), m.first(p, ours, name, size)
			} else {
				got, want = judge(p.piece(id, off, make([]byte, 8), true), ours), m.later(p, ours, name, off)
			}
		default:
			p, ours := s.packet()
			did = fmt.Sprintf("packet %v, ours %v", p, ours)
			v, _ := m.judge(p, ours)
			got, want = judge(p.bytes(), ours), v
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("step %d, %s:\n got %v\nwant %v", step, did, got, want)
		}
		table.mu.Lock()
		table.tick(m.now)
		table.mu.Unlock()
		if got, want := sorted(flowNames(table.Flows())), sorted(m.live()); !slices.Equal(got, want) {
			t.Fatalf("step %d, after %s: flows\n got %s\nwant %s", step, did, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	checkInvariants(t, table)
}

func flowNames(flows []FlowInfo) (all []string) {
	for _, f := range flows {
		all = append(all, fmt.Sprintf("%v by us %v, %s/%d %s", f.Flow, !f.Inbound, f.Policy, f.Rule, f.State))
	}
	return all
}

// cutNames also holds every farewell to being a whole packet between the two ends.
func cutNames(t *testing.T, cuts []Cut) (all []string) {
	for _, c := range cuts {
		all = append(all, fmt.Sprintf("%v by us %v, %s/%d %s", c.Flow, !c.Inbound, c.Flow.Policy, c.Flow.Rule, c.Cause))
		ours, theirs := c.Flow.Src.Addr(), c.Flow.Dst.Addr()
		if c.Inbound {
			ours, theirs = theirs, ours
		}
		for i, pkt := range slices.Concat(c.Local, c.Remote) {
			var p packet
			src, dst := theirs, ours
			if i >= len(c.Local) {
				src, dst = dst, src
			}
			if v := p.parse(pkt); v != Accept || p.src != src.As16() || p.dst != dst.As16() {
				t.Fatalf("farewell %x of %v: %v", pkt, c.Flow, v)
			}
			checkSums(t, pkt)
		}
	}
	return sorted(all)
}

// checkSums asks netstack's own code whether the checksums of pkt are right.
func checkSums(t *testing.T, pkt []byte) {
	t.Helper()
	v4, rest := pkt[0]>>4 == 4, pkt[40:]
	var src, dst tcpip.Address
	proto := uint8(pkt[6])
	if v4 {
		h := header.IPv4(pkt)
		rest, proto, src, dst = pkt[20:], pkt[9], h.SourceAddress(), h.DestinationAddress()
		if !h.IsChecksumValid() {
			t.Fatalf("IPv4 header of %x", pkt)
		}
	} else {
		src, dst = header.IPv6(pkt).SourceAddress(), header.IPv6(pkt).DestinationAddress()
	}
	ok := false
	switch proto {
	case protoTCP:
		ok = header.TCP(rest).IsChecksumValid(src, dst, 0, 0)
	case protoICMP:
		ok = header.ICMPv4(rest).Checksum() == header.ICMPv4Checksum(header.ICMPv4(rest), 0)
	case protoICMPv6:
		ok = header.ICMPv6(rest).Checksum() == header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: header.ICMPv6(rest), Src: src, Dst: dst})
	}
	if !ok {
		t.Fatalf("checksum of %x", pkt)
	}
}

func sorted(s []string) []string { sort.Strings(s); return s }

// checkInvariants holds the parts of a table against one another.
func checkInvariants(t *testing.T, table *Table) {
	t.Helper()
	if len(table.list) != table.flows.n || len(table.list) != len(table.idle) {
		t.Fatalf("%d listed, %d found, %d queued", len(table.list), table.flows.n, len(table.idle))
	}
	held := map[*peer]int{}
	for i, f := range table.list {
		held[f.peer]++
		if int(f.pos) != i || table.flows.find(&f.key) != f || table.idle[f.heap] != f {
			t.Fatalf("flow %v is misplaced", f.names())
		}
		if !f.dead && f.due > f.last+f.idle() {
			t.Fatalf("flow %v is looked at too late", f.names())
		}
		if p := (f.heap - 1) / 2; f.heap > 0 && table.idle[p].due > f.due {
			t.Fatal("the idle queue is out of order")
		}
	}
	if len(held) != table.holders {
		t.Fatalf("%d holders, want %d", table.holders, len(held))
	}
	for p, n := range held {
		if p.flows != n {
			t.Fatalf("peer %s: %d flows, want %d", p.id, p.flows, n)
		}
	}
}

func TestTableAgreesWithModel(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	rounds := 1000
	if testing.Short() {
		rounds = 300
	}
	for range rounds {
		input := make([]byte, 2000)
		rng.Read(input)
		input[0] = 0 // begin with an update
		play(t, input)
	}
}

func FuzzTableAgreesWithModel(f *testing.F) {
	rng := rand.NewChaCha8([32]byte{2})
	for range 16 {
		input := make([]byte, 600)
		rng.Read(input)
		input[0] = 0
		f.Add(input)
	}
	f.Fuzz(play)
}
