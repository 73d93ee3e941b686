package filter

import "encoding/binary"

// IP protocol numbers (IANA) whose headers are read. AH, ESP, SCTP, GRE and the
// rest are opaque: they match only rules for any.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIPv4     = 4 // IPv4 in IPv4 (RFC 2003)
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41 // IPv6 in IPv4 (RFC 4213)
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoDestOpts = 60
)

// TCP control bits (RFC 9293, 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
)

// maxExtensions bounds the walk over IPv6 extension headers. RFC 8200 lets each
// appear once and destination options twice; a longer chain hides a header.
const maxExtensions = 6

// direction is which way a packet goes; it is also the index of the end that sent
// it in per-end arrays.
type direction uint8

const (
	outbound direction = iota // sent by the local end
	inbound                   // sent by the remote end
)

func (d direction) reverse() direction { return 1 - d }

// kind is what a packet is to flows.
type kind uint8

const (
	kindPorts   kind = iota // TCP or UDP: either end may speak within the flow
	kindOpaque              // a protocol without ports, either end may speak
	kindRequest             // an ICMP query, which opens or continues a flow
	kindReply               // the answer to an ICMP query, which never opens one
	kindOneWay              // an ICMP message that has no answer
	kindError               // an ICMP error about a packet of a flow
)

// addr is an address in 16 bytes, IPv4 in its mapped form. A packet that spells a
// mapped address in an IPv6 header is malformed, so the two cannot be confused.
type addr [16]byte

// tuple is what a packet says about its flow. For ICMP, sport is the identifier
// and dport the type of the query (0x100 | type for a message without answer).
type tuple struct {
	src, dst     addr
	proto        uint8
	kind         kind
	sport, dport uint16
}

// packet is the part of a packet that verdicts depend on.
type packet struct {
	tuple
	quote tuple // of the packet an ICMP error is about
	size  int   // bytes, IP header included

	// A packet from or to behind a gateway travels in one between the two systems.
	wrapped  bool
	from, to addr  // of the packet around it
	via      *peer // set by judge: wrap it for this one

	fragmented bool // part of a larger datagram
	more       bool
	fragID     uint32
	fragOff    uint32 // bytes from the start of the datagram's payload
	fragLen    uint32 // bytes of the datagram's payload in this packet

	flags  uint8
	seq    uint32
	ack    uint32
	window uint16
	scale  int8   // window scale option of a SYN, -1 without
	seqLen uint32 // sequence numbers it takes up
}

// network is the outcome of reading an IP header and its extensions.
type network struct {
	src, dst   addr
	v6         bool
	proto      uint8
	payload    []byte // what follows the headers
	size       int
	fragmented bool
	more       bool
	fragID     uint32
	fragOff    uint32
	fragLen    uint32 // bytes of the datagram's payload, headers after a fragment header included
}

// parse reads b and returns Accept, or why the packet cannot be judged further. It
// keeps no reference to b.
func (p *packet) parse(b []byte) Verdict {
	*p = packet{scale: -1}
	var n network
	if v := n.parse(b, false); v != Accept {
		return v
	}
	if !n.v6 && (n.proto == protoIPv4 || n.proto == protoIPv6) {
		if n.fragmented || len(n.payload) != n.size-wrapLen {
			return Malformed // our own never are
		}
		p.wrapped, p.from, p.to = true, n.src, n.dst
		inner, six := n.payload, n.proto == protoIPv6
		n = network{}
		if v := n.parse(inner, false); v != Accept || n.v6 != six {
			return Malformed
		}
	}
	p.src, p.dst, p.proto, p.size = n.src, n.dst, n.proto, n.size
	p.fragmented, p.more, p.fragID, p.fragOff = n.fragmented, n.more, n.fragID, n.fragOff
	p.fragLen = n.fragLen
	if n.fragmented && !p.checkFragment() {
		return Malformed
	}
	if p.multicast() {
		return OffLink
	}
	if p.fragOff > 0 {
		p.kind = kindOpaque
		return Accept
	}
	v := p.parseTransport(&n)
	if v == Malformed && n.fragmented {
		return BadFragment // RFC 1858, RFC 7112: the first must hold the whole header
	}
	return v
}

// checkFragment holds a fragment to the bounds of RFC 791 and RFC 8200: all but
// the last are multiples of eight bytes, and none reaches past 64 KiB.
func (p *packet) checkFragment() bool {
	return p.fragLen > 0 && p.fragOff+p.fragLen <= 65535 && (!p.more || p.fragLen%8 == 0)
}

func (p *packet) multicast() bool {
	if p.dst[0] == 0xff {
		return true
	}
	return isMapped(p.dst) && p.dst[12] >= 0xe0 // multicast, reserved and broadcast
}

// parse reads the IP headers of b. A quoted packet may end early.
func (n *network) parse(b []byte, quoted bool) Verdict {
	if len(b) == 0 {
		return Malformed
	}
	switch b[0] >> 4 {
	case 4:
		return n.parseV4(b, quoted)
	case 6:
		return n.parseV6(b, quoted)
	}
	return Malformed
}

func (n *network) parseV4(b []byte, quoted bool) Verdict {
	if len(b) < 20 {
		return Malformed
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || total < head || len(b) < head || (total > len(b) && !quoted) {
		return Malformed
	}
	b = b[:min(total, len(b))]
	n.src, n.dst = mapped(b[12:16]), mapped(b[16:20])
	n.proto, n.size, n.payload = b[9], total, b[head:]
	frag := binary.BigEndian.Uint16(b[6:])
	n.more, n.fragOff = frag&0x2000 != 0, uint32(frag&0x1fff)*8
	n.fragmented = n.more || n.fragOff > 0
	n.fragID, n.fragLen = uint32(binary.BigEndian.Uint16(b[4:])), uint32(len(n.payload))
	return Accept
}

func (n *network) parseV6(b []byte, quoted bool) Verdict {
	if len(b) < 40 {
		return Malformed
	}
	total := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) && !quoted {
		return Malformed
	}
	b = b[:min(total, len(b))]
	n.v6, n.size, n.proto = true, total, b[6]
	n.src, n.dst = addr(b[8:24]), addr(b[24:40])
	if isMapped(n.src) || isMapped(n.dst) {
		return Malformed
	}
	n.payload = b[40:]
	return n.walkExtensions()
}

// walkExtensions moves payload past the extension headers. It stops at a fragment
// that is not the first: what follows there is data.
func (n *network) walkExtensions() Verdict {
	seen := false // a fragment header, which may stand once
	for i := 0; ; i++ {
		switch n.proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoFragment:
		default:
			return Accept
		}
		if i == maxExtensions || len(n.payload) < 8 || (n.proto == protoHopByHop && i > 0) {
			return n.tooShort()
		}
		h := n.payload
		size := 8
		switch n.proto {
		case protoFragment:
			if seen {
				return Malformed
			}
			seen = true
			off := binary.BigEndian.Uint16(h[2:])
			n.more, n.fragOff = off&1 != 0, uint32(off&0xfff8)
			n.fragmented = n.more || n.fragOff > 0 // else atomic, RFC 6946
			n.fragID, n.fragLen = binary.BigEndian.Uint32(h[4:]), uint32(len(h)-8)
		case protoRouting:
			if h[3] != 0 { // segments left: nobody here forwards (RFC 5095)
				return Malformed
			}
			fallthrough
		default:
			size += int(h[1]) * 8
		}
		if len(h) < size {
			return n.tooShort()
		}
		n.proto, n.payload = h[0], h[size:]
		if n.fragOff > 0 {
			return Accept
		}
	}
}

func (n *network) tooShort() Verdict {
	if n.fragmented {
		return BadFragment
	}
	return Malformed
}

// parseTransport reads the header after IP. Anything that is not TCP, UDP or the
// ICMP of its own IP version stays opaque.
func (p *packet) parseTransport(n *network) Verdict {
	b := n.payload
	switch {
	case n.proto == protoTCP:
		return p.parseTCP(b)
	case n.proto == protoUDP:
		if len(b) < 8 {
			return Malformed
		}
		size := int(binary.BigEndian.Uint16(b[4:]))
		if size < 8 || (size > len(b) && !n.fragmented) {
			return Malformed
		}
		p.ports(b)
		return Accept
	case n.proto == protoICMP && !n.v6, n.proto == protoICMPv6 && n.v6:
		return p.parseICMP(b, n.v6)
	}
	p.kind = kindOpaque
	return Accept
}

func (u *tuple) ports(b []byte) {
	u.kind = kindPorts
	u.sport, u.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}

func (p *packet) parseTCP(b []byte) Verdict {
	if len(b) < 20 {
		return Malformed
	}
	head := int(b[12]>>4) * 4
	if head < 20 || head > len(b) {
		return Malformed
	}
	p.ports(b)
	p.flags = b[13]
	p.seq, p.ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	p.window = binary.BigEndian.Uint16(b[14:])
	p.seqLen = uint32(len(b) - head)
	if p.flags&tcpSYN != 0 {
		p.seqLen++
		p.scale = windowScale(b[20:head])
	}
	if p.flags&tcpFIN != 0 {
		p.seqLen++
	}
	switch {
	case p.flags&tcpSYN != 0 && p.flags&(tcpFIN|tcpRST) != 0, // contradictions scanners send
		p.flags&(tcpSYN|tcpRST|tcpACK) == 0: // everything after the SYN acknowledges
		return Malformed
	}
	return Accept
}

// windowScale finds the window scale in TCP options (RFC 7323), or -1.
func windowScale(opts []byte) int8 {
	for len(opts) > 0 {
		switch opts[0] {
		case 0:
			return -1
		case 1:
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return -1
		}
		if opts[0] == 3 && opts[1] == 3 {
			return int8(min(opts[2], 14))
		}
		opts = opts[opts[1]:]
	}
	return -1
}

// mapped returns the 16-byte form of an IPv4 address.
func mapped(b []byte) (a addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b)
	return a
}

func isMapped(a addr) bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}
