package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// spec describes a packet in words; bytes writes it. Tests speak in specs so that
// the model they compare with never parses anything.
type spec struct {
	proto        uint8
	src, dst     netip.Addr
	sport, dport uint16 // ICMP: sport is the identifier
	typ, code    uint8  // ICMP
	flags        uint8  // TCP
	seq, ack     uint32
	window       uint16
	options      []byte // TCP
	payload      []byte
	quote        []byte // ICMP errors
}

func (s spec) String() string {
	return fmt.Sprintf("proto %d %v:%d > %v:%d type %d flags %#x", s.proto, s.src, s.sport, s.dst, s.dport, s.typ, s.flags)
}

func (s spec) transport() []byte {
	src, dst := addr(s.src.As16()), addr(s.dst.As16())
	var b []byte
	switch s.proto {
	case protoTCP:
		b = binary.BigEndian.AppendUint16(b, s.sport)
		b = binary.BigEndian.AppendUint16(b, s.dport)
		b = binary.BigEndian.AppendUint32(b, s.seq)
		b = binary.BigEndian.AppendUint32(b, s.ack)
		b = append(b, byte(5+len(s.options)/4)<<4, s.flags, byte(s.window>>8), byte(s.window), 0, 0, 0, 0)
		b = append(append(b, s.options...), s.payload...)
		binary.BigEndian.PutUint16(b[16:], checksum(b, pseudo(src, dst, s.proto, len(b))))
	case protoUDP:
		b = binary.BigEndian.AppendUint16(b, s.sport)
		b = binary.BigEndian.AppendUint16(b, s.dport)
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(s.payload)))
		b = append(append(b, 0, 0), s.payload...)
		binary.BigEndian.PutUint16(b[6:], checksum(b, pseudo(src, dst, s.proto, len(b))))
	case protoICMP, protoICMPv6:
		b = append(b, s.typ, s.code, 0, 0)
		b = binary.BigEndian.AppendUint16(b, s.sport)
		b = append(append(append(b, 0, 1), s.payload...), s.quote...)
		acc := uint32(0)
		if s.proto == protoICMPv6 {
			acc = pseudo(src, dst, s.proto, len(b))
		}
		binary.BigEndian.PutUint16(b[2:], checksum(b, acc))
	default:
		b = append(b, s.payload...)
	}
	return b
}

func (s spec) bytes() []byte {
	b := s.transport()
	return append(appendIP(nil, s.src.As16(), s.dst.As16(), s.proto, len(b)), b...)
}

// reversed is the same packet as its answer would be addressed.
func (s spec) reversed() spec {
	s.src, s.dst = s.dst, s.src
	if s.proto == protoTCP || s.proto == protoUDP {
		s.sport, s.dport = s.dport, s.sport
	}
	return s
}

// pieces cuts the packet after each multiple of size payload bytes.
func (s spec) pieces(id uint32, size int) (pkts [][]byte) {
	body := s.transport()
	for off := 0; off < len(body); off += size {
		end := min(off+size, len(body))
		pkts = append(pkts, s.piece(id, off, body[off:end], end < len(body)))
	}
	return pkts
}

func (s spec) piece(id uint32, off int, body []byte, more bool) []byte {
	m := uint16(0)
	if s.src.Is4() {
		if more {
			m = 0x2000
		}
		b := append(appendIP(nil, s.src.As16(), s.dst.As16(), s.proto, len(body)), body...)
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		binary.BigEndian.PutUint16(b[6:], m|uint16(off/8))
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], checksum(b[:20], 0))
		return b
	}
	if more {
		m = 1
	}
	b := appendIP(nil, s.src.As16(), s.dst.As16(), protoFragment, 8+len(body))
	b = append(b, s.proto, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(off)|m)
	b = binary.BigEndian.AppendUint32(b, id)
	return append(b, body...)
}

// extended puts extension headers between the IPv6 header and the rest.
func extended(pkt []byte, headers ...uint8) []byte {
	b := append([]byte(nil), pkt[:40]...)
	last := b[6]
	for i, h := range headers {
		next := last
		if i+1 < len(headers) {
			next = headers[i+1]
		}
		b = append(b, next, 0)
		if h == protoRouting || h == protoFragment {
			b = append(b, 0, 0, 0, 0, 0, 0)
		} else {
			b = append(b, 1, 4, 0, 0, 0, 0) // PadN
		}
	}
	if len(headers) > 0 {
		b[6] = headers[0]
	}
	b = append(b, pkt[40:]...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

var (
	us4, them4 = netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")
	us6, them6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

func edit(pkt []byte, f func(b []byte)) []byte {
	b := append([]byte(nil), pkt...)
	f(b)
	return b
}

func TestParseRefuses(t *testing.T) {
	tcp := spec{proto: protoTCP, src: them4, dst: us4, sport: 5, dport: 80, flags: tcpSYN}.bytes()
	tcp6 := spec{proto: protoTCP, src: them6, dst: us6, sport: 5, dport: 80, flags: tcpSYN}.bytes()
	udp := spec{proto: protoUDP, src: them4, dst: us4, sport: 5, dport: 53, payload: make([]byte, 16)}
	hop := func(n int) (h []uint8) {
		for range n {
			h = append(h, protoDestOpts)
		}
		return h
	}
	for name, c := range map[string]struct {
		pkt  []byte
		want Verdict
	}{
		"whole":                     {tcp, Accept},
		"whole v6":                  {tcp6, Accept},
		"empty":                     {nil, Malformed},
		"version 5":                 {edit(tcp, func(b []byte) { b[0] = 0x55 }), Malformed},
		"short header length":       {edit(tcp, func(b []byte) { b[0] = 0x44 }), Malformed},
		"header length past end":    {tcp[:22], Malformed},
		"total past end":            {edit(tcp, func(b []byte) { b[3] = 41 }), Malformed},
		"padding after total":       {append(edit(tcp, func([]byte) {}), 0, 0), Accept},
		"data offset too small":     {edit(tcp, func(b []byte) { b[32] = 4 << 4 }), Malformed},
		"data offset past end":      {edit(tcp, func(b []byte) { b[32] = 6 << 4 }), Malformed},
		"no flags":                  {edit(tcp, func(b []byte) { b[33] = 0 }), Malformed},
		"syn and fin":               {edit(tcp, func(b []byte) { b[33] = tcpSYN | tcpFIN }), Malformed},
		"syn and rst":               {edit(tcp, func(b []byte) { b[33] = tcpSYN | tcpRST }), Malformed},
		"udp length past end":       {edit(udp.bytes(), func(b []byte) { b[25] = 25 }), Malformed},
		"udp length too small":      {edit(udp.bytes(), func(b []byte) { b[25] = 7 }), Malformed},
		"multicast":                 {edit(tcp, func(b []byte) { b[16] = 224 }), OffLink},
		"broadcast":                 {edit(tcp, func(b []byte) { copy(b[16:], []byte{255, 255, 255, 255}) }), OffLink},
		"multicast v6":              {edit(tcp6, func(b []byte) { b[24] = 0xff }), OffLink},
		"mapped source":             {edit(tcp6, func(b []byte) { s := them4.As16(); copy(b[8:], s[:]) }), Malformed},
		"extensions":                {extended(tcp6, protoHopByHop, protoDestOpts, protoRouting), Accept},
		"hop by hop not first":      {extended(tcp6, protoDestOpts, protoHopByHop), Malformed},
		"segments left":             {edit(extended(tcp6, protoRouting), func(b []byte) { b[43] = 1 }), Malformed},
		"six extensions":            {extended(tcp6, hop(6)...), Accept},
		"seven extensions":          {extended(tcp6, hop(7)...), Malformed},
		"extension past end":        {edit(extended(tcp6, protoDestOpts), func(b []byte) { b[41] = 200 }), Malformed},
		"two fragment headers":      {extended(tcp6, protoFragment, protoFragment), Malformed},
		"tiny first fragment":       {udp.piece(1, 0, udp.transport()[:0], true), Malformed},
		"tiny first tcp fragment":   {spec{proto: protoTCP, src: us4, dst: them4}.piece(1, 0, make([]byte, 16), true), BadFragment},
		"fragment not of 8 bytes":   {udp.piece(1, 0, udp.transport()[:12], true), Malformed},
		"fragment past 64k":         {udp.piece(1, 65528, make([]byte, 16), false), Malformed},
		"tiny first v6":             {spec{proto: protoTCP, src: us6, dst: them6}.piece(1, 0, make([]byte, 16), true), BadFragment},
		"later fragment":            {udp.piece(1, 8, make([]byte, 8), false), Accept},
		"redirect":                  {spec{proto: protoICMP, src: them4, dst: us4, typ: 5, quote: tcp}.bytes(), OffLink},
		"router advertisement":      {spec{proto: protoICMPv6, src: them6, dst: us6, typ: 134}.bytes(), OffLink},
		"error about nothing":       {spec{proto: protoICMP, src: them4, dst: us4, typ: 3}.bytes(), Malformed},
		"error about an error":      {spec{proto: protoICMP, src: them4, dst: us4, typ: 3, quote: spec{proto: protoICMP, src: us4, dst: them4, typ: 3, quote: tcp}.bytes()}.bytes(), Malformed},
		"error about other version": {spec{proto: protoICMP, src: them4, dst: us4, typ: 3, quote: tcp6}.bytes(), Malformed},
		"error about 8 bytes":       {spec{proto: protoICMP, src: them4, dst: us4, typ: 3, quote: tcp[:28]}.bytes(), Accept},
		"error about a later part":  {spec{proto: protoICMP, src: them4, dst: us4, typ: 3, quote: udp.piece(1, 8, make([]byte, 16), true)}.bytes(), Malformed},
		"error about 7 bytes":       {spec{proto: protoICMP, src: them4, dst: us4, typ: 3, quote: tcp[:27]}.bytes(), Malformed},
	} {
		var p packet
		if got := p.parse(c.pkt); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestUnreadableIsOpaque holds the parser to reading TCP, UDP and ICMP only where
// they really are: a filter that sees ports in SCTP lets a port rule match it.
func TestUnreadableIsOpaque(t *testing.T) {
	for name, s := range map[string]spec{
		"sctp":           {proto: 132, src: them4, dst: us4, payload: make([]byte, 12)},
		"gre":            {proto: 47, src: them4, dst: us4, payload: make([]byte, 12)},
		"udp lite":       {proto: 136, src: them4, dst: us4, payload: make([]byte, 12)},
		"ah":             {proto: 51, src: them6, dst: us6, payload: make([]byte, 40)},
		"icmp v4 in v6":  {proto: protoICMP, src: them6, dst: us6, typ: 8},
		"icmp v6 in v4":  {proto: protoICMPv6, src: them4, dst: us4, typ: 128},
		"no next header": {proto: 59, src: them6, dst: us6},
		"empty opaque":   {proto: 99, src: them6, dst: us6},
		"hop by hop, v4": {proto: protoHopByHop, src: them4, dst: us4, payload: make([]byte, 8)},
	} {
		var p packet
		if v := p.parse(s.bytes()); v != Accept || p.kind != kindOpaque || p.sport|p.dport != 0 {
			t.Errorf("%s: %v, kind %d, ports %d %d", name, v, p.kind, p.sport, p.dport)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []spec{
		{proto: protoTCP, src: them4, dst: us4, sport: 5, dport: 80, flags: tcpSYN},
		{proto: protoTCP, src: them6, dst: us6, sport: 5, dport: 80, flags: tcpACK, payload: []byte("x")},
		{proto: protoUDP, src: them6, dst: us6, sport: 5, dport: 80, payload: []byte("xyz")},
		{proto: protoICMP, src: them4, dst: us4, typ: 8, sport: 7},
		{proto: protoICMPv6, src: them6, dst: us6, typ: 129, sport: 7},
	} {
		f.Add(s.bytes())
		if s.src.Is6() {
			f.Add(extended(s.bytes(), protoHopByHop, protoDestOpts))
		}
		for _, p := range s.pieces(9, 8) {
			f.Add(p)
		}
		e := spec{proto: protoICMP, src: s.src, dst: s.dst, typ: 3, quote: s.bytes()}
		if s.src.Is6() {
			e.proto, e.typ = protoICMPv6, 1
		}
		f.Add(e.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p packet
		if p.parse(b) != Accept {
			return
		}
		if p.size > len(b) || p.size < 20 {
			t.Fatalf("size %d of %d bytes", p.size, len(b))
		}
		if k, back := p.key(inbound), p.key(outbound); k.local != p.dst || back.local != p.src {
			t.Fatal("key has the wrong ends")
		}
		// What the packet says must not depend on what follows its end, and a
		// shorter copy of an unfragmented one must not be read as whole.
		var q packet
		if q.parse(append(append([]byte(nil), b...), 1, 2, 3)); q != p {
			t.Fatalf("bytes after the end count: %+v, %+v", p, q)
		}
		if q.parse(b[:p.size-1]) == Accept {
			t.Fatal("a packet cut short is accepted")
		}
	})
}
