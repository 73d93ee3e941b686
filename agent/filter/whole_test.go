package filter

import (
	"net/netip"
	"testing"

	"enclave/wire"
)

// TestWhatIsWrappedIsJudgedWhole: a wrapper is no way around the parser, and its word for
// the family of what it carries counts for nothing.
func TestWhatIsWrappedIsJudgedWhole(t *testing.T) {
	p := newPass(t, wire.PriorityOrdered)
	gate := p.gates[gateOne]
	good := func() []byte { return AppendWrap(nil, toPrinter(1).bytes(), us4, gateOne) }
	for name, spoil := range map[string]func(b []byte) []byte{
		"inner packet cut":        func(b []byte) []byte { return AppendWrap(nil, b[wrapLen:len(b)-1], us4, gateOne) },
		"inner header cut":        func(b []byte) []byte { return AppendWrap(nil, b[wrapLen:wrapLen+12], us4, gateOne) },
		"inner version 5":         func(b []byte) []byte { b[wrapLen] = 5<<4 | 5; return b },
		"called IPv6, holds IPv4": func(b []byte) []byte { b[9] = protoIPv6; return b },
	} {
		b := spoil(good())
		b[10], b[11] = 0, 0
		sum := checksum(b[:wrapLen], 0)
		b[10], b[11] = byte(sum>>8), byte(sum)
		if got := gate.In(b, p.now); got != Malformed {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := gate.In(good(), p.now); got != Accept {
		t.Errorf("as it should be: %v", got)
	}
	plain := toPrinter(1).bytes()
	for name, b := range map[string][]byte{"nothing": nil, "a header alone": good()[:wrapLen], "what is not wrapped": plain, "a word": []byte("hello")} {
		if inner, ok := Unwrap(b); ok || len(inner) != len(b) {
			t.Errorf("%s was unwrapped", name)
		}
	}
}

// TestSubnetsHaveBothTheirEnds: the first and the last address of a subnet are in it, and
// their neighbours are not.
func TestSubnetsHaveBothTheirEnds(t *testing.T) {
	p := newPass(t, wire.PriorityOrdered)
	p.grant(wire.PriorityOrdered, "192.168.1.0/25", "10.0.0.0/30")
	for i, c := range []struct {
		to string
		in bool
	}{
		{"192.168.0.255", false}, {"192.168.1.0", true}, {"192.168.1.127", true}, {"192.168.1.128", false},
		{"9.255.255.255", false}, {"10.0.0.0", true}, {"10.0.0.3", true}, {"10.0.0.4", false},
	} {
		s, want := toPrinter(uint16(100+i)), NoRule
		if s.dst = netip.MustParseAddr(c.to); c.in {
			want = Accept
		}
		p.in(p.gates[gateOne], s, us4, gateOne, want)
	}
}

// TestABatchSaysWhomEachPacketIsFor: what stood in the caller's list before is not kept,
// neither for a packet that is refused nor for one that goes to nobody's gateway.
func TestABatchSaysWhomEachPacketIsFor(t *testing.T) {
	p := newPass(t, wire.PriorityOrdered)
	refused := toPrinter(5)
	refused.dport = 81
	a, b := refused.bytes(), toPrinter(6).bytes()
	verdicts, via := make([]Verdict, 2), []netip.Addr{gateTwo, gateTwo}
	p.sender.OutBatch([][]byte{a, b}, []int{len(a), len(b)}, 0, p.now, verdicts, via)
	if verdicts[0] == Accept || via[0].IsValid() || verdicts[1] != Accept || via[1] != gateOne {
		t.Errorf("%v by %v", verdicts, via)
	}
}
