package natlab

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var (
	fuzzInside  = netip.MustParseAddrPort("192.168.1.2:4000")
	fuzzOutside = netip.MustParseAddr("203.0.113.5")
	fuzzRemote  = netip.MustParseAddrPort("198.51.100.7:80")
)

// packets is one valid packet of each kind that the lab knows.
func packets() [][]byte {
	udp := appendUDP(nil, fuzzInside, fuzzRemote, []byte("hello"))
	var v view
	parse(udp, &v)
	tcp := appendIP(nil, fuzzInside.Addr(), fuzzRemote.Addr(), protoTCP, 20)
	tcp = append(tcp, 0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, tcpSYN, 0xff, 0xff, 0, 0, 0, 0)
	tv := view{proto: protoTCP, l4: 20, end: 40}
	binary.BigEndian.PutUint16(tcp[36:], fold(sum(tv.pseudo(tcp), tcp[20:])))
	six := netip.MustParseAddr("2001:db8::2")
	silent := appendUDP(nil, fuzzInside, fuzzRemote, []byte("no checksum"))
	silent[26], silent[27] = 0, 0
	return [][]byte{
		udp, tcp, silent,
		appendEcho(nil, fuzzInside.Addr(), fuzzRemote.Addr(), false, 7, 1, []byte("ping")),
		appendICMPError(nil, causePort, 0, fuzzInside.Addr(), appendUDP(nil, fuzzRemote, fuzzInside, nil), &view{src: fuzzRemote.Addr(), dst: fuzzInside.Addr(), end: 28}),
		appendICMPError(nil, causeTooBig, 1300, fuzzRemote.Addr(), udp, &v),
		appendUDP(nil, netip.AddrPortFrom(six, 1), netip.AddrPortFrom(six, 2), []byte("six")),
		appendEcho(nil, six, six, false, 7, 1, nil),
	}
}

// valid reports whether b parses and all its checksums hold.
func valid(b []byte, v *view) bool { return parse(b, v) && (v.fragment || v.transportSumOK(b)) }

// FuzzNAT sends any packet out and its mirror image back in. Nothing panics, what
// was valid stays valid, what was damaged stays damaged, and lengths never change.
func FuzzNAT(f *testing.F) {
	for i, p := range packets() {
		f.Add(p, uint8(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, seed uint64) {
		if len(b) > 2048 {
			return
		}
		if seed&1 == 1 { // else few inputs would get past the first checksum
			repair(b)
		}
		cfg := NATConfig{
			Mapping: Behaviour(kind % 3), Filtering: Behaviour(kind / 3 % 3), Ports: PortAllocation(kind / 9 % 3),
			NoTranslation: kind >= 128, MaxMappings: 4,
		}
		n := newNAT(cfg, rand.New(rand.NewPCG(seed, 1)), []netip.Addr{fuzzOutside})
		now := time.Unix(1000, 0)
		// A mapping exists, so that errors about it can be translated.
		first := appendUDP(nil, fuzzInside, fuzzRemote, nil)
		var v view
		parse(first, &v)
		if why := n.out(now, first, &v); why != Passed {
			t.Fatal(why)
		}
		check := func(b []byte, pass func(time.Time, []byte, *view) Drop) bool {
			var v, after view
			if !parse(b, &v) || v.v6 && !cfg.NoTranslation {
				return false
			}
			was, size := valid(b, &v), len(b)
			why := pass(now, b, &v)
			if len(b) != size {
				t.Fatal("length changed")
			}
			if why != Passed {
				return false
			}
			if is := valid(b, &after); is != was {
				t.Fatalf("valid before %v, after %v\n%x", was, is, b)
			}
			if after != v {
				t.Fatalf("the view is\n%+v, the packet says\n%+v", v, after)
			}
			return true
		}
		out := bytes.Clone(b)
		if check(out, n.out) {
			parse(out, &v)
			if v.icmp == icmpOther && v.proto != protoTCP && v.proto != protoUDP {
				return
			}
			if v.icmp == icmpError {
				return
			}
			back := mirror(out, &v)
			if !check(back, n.in) {
				t.Fatalf("the answer %x does not come in", back)
			}
			parse(b, &v)
			var w view
			parse(back, &w)
			if w.dst != v.src || w.dport != v.sport {
				t.Fatalf("the answer went to %v, the question came from %v", w.to(), v.from())
			}
		}
		check(bytes.Clone(b), n.in)
	})
}

// repair makes the header checksums of b right, and its lengths.
func repair(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	hl := int(b[0]&0xf) * 4
	if hl < 20 || hl > len(b) {
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], fold(sum(0, b[:hl])))
	switch t := b[hl:]; {
	case b[9] == protoUDP && len(t) >= 8:
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	case b[9] == protoICMP4 && len(t) >= 8:
		sealICMP(b, hl, false)
	}
}

// mirror makes the answer to b: addresses and ports swapped, echo turned around.
// Swapping leaves the sums as they are, but for the type of an echo.
func mirror(b []byte, v *view) []byte {
	m := bytes.Clone(b)
	if v.v6 {
		copy(m[8:24], b[24:40])
		copy(m[24:40], b[8:24])
	} else {
		copy(m[12:16], b[16:20])
		copy(m[16:20], b[12:16])
	}
	t, o := m[v.l4:], b[v.l4:]
	if v.icmp == icmpOther {
		copy(t[0:2], o[2:4])
		copy(t[2:4], o[0:2])
		return m
	}
	old := binary.BigEndian.Uint16(t)
	t[0] = map[byte]byte{8: 0, 0: 8, 128: 129, 129: 128}[t[0]]
	adjustAt(t, 2, old, binary.BigEndian.Uint16(t))
	return m
}

func TestSeedsAreValid(t *testing.T) {
	for i, p := range packets() {
		var v view
		if !valid(p, &v) {
			t.Errorf("packet %d is not valid: %x", i, p)
		}
		p[len(p)-1] ^= 1
		if valid(p, &v) && i != 2 {
			t.Errorf("packet %d: damage goes unnoticed", i)
		}
	}
}
