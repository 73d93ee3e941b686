package natlab

import (
	"encoding/binary"
	"net/netip"
)

const (
	protoICMP4 = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58

	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10

	// MaxPacket is the largest IP packet that the lab carries, in bytes. IPv6
	// jumbograms do not exist here.
	MaxPacket = 65535

	firstTTL = 64
)

// packet is one packet on its way. Its bytes belong to whoever holds it; the
// switch rewrites them in place and returns the packet to the lab's pool.
type packet struct {
	data   []byte
	origin *Host // the host that sent it, however often it was translated since
}

// icmpClass says how a NAT treats an ICMP message (RFC 5508).
type icmpClass uint8

const (
	icmpOther   icmpClass = iota
	icmpRequest           // echo request: carries an identifier, opens a session
	icmpReply             // echo reply: carries the identifier of its request
	icmpError             // carries the header of the packet that it is about
)

// view is what the switch needs to know about one packet: an IPv4 or IPv6 header
// and the ports behind it. For ICMP echo both ports hold the identifier.
type view struct {
	v6       bool
	fragment bool // no transport header can be trusted
	proto    uint8
	flags    uint8 // of TCP
	icmp     icmpClass
	l4, end  int // the transport header starts at l4, the packet ends at end
	src, dst netip.Addr
	sport    uint16
	dport    uint16
}

func (v *view) from() netip.AddrPort { return netip.AddrPortFrom(v.src, v.sport) }
func (v *view) to() netip.AddrPort   { return netip.AddrPortFrom(v.dst, v.dport) }

// parse reads the headers of b. It answers false for whatever a router would call
// malformed: a wrong length or header checksum, or a transport header cut short.
func parse(b []byte, v *view) bool { return parseIP(b, v, false) }

// parseIP also reads the truncated copy inside an ICMP error, which holds the IP
// header and at least 8 bytes more (RFC 792); its lengths and sums prove nothing.
func parseIP(b []byte, v *view, embedded bool) bool {
	if len(b) == 0 {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b, v, embedded)
	case 6:
		return parse6(b, v, embedded)
	}
	return false
}

func parse4(b []byte, v *view, embedded bool) bool {
	if len(b) < 20 {
		return false
	}
	hl, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if hl < 20 || hl > len(b) || total < hl {
		return false
	}
	if !embedded && (total > len(b) || fold(sum(0, b[:hl])) != 0) {
		return false
	}
	*v = view{
		proto:    b[9],
		fragment: binary.BigEndian.Uint16(b[6:])&0x3fff != 0,
		l4:       hl,
		end:      min(total, len(b)),
		src:      netip.AddrFrom4([4]byte(b[12:16])),
		dst:      netip.AddrFrom4([4]byte(b[16:20])),
	}
	return v.fragment || v.parseTransport(b, embedded)
}

func parse6(b []byte, v *view, embedded bool) bool {
	if len(b) < 40 {
		return false
	}
	total := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if !embedded && total > len(b) {
		return false
	}
	*v = view{
		v6:    true,
		proto: b[6],
		l4:    40,
		end:   min(total, len(b)),
		src:   netip.AddrFrom16([16]byte(b[8:24])),
		dst:   netip.AddrFrom16([16]byte(b[24:40])),
	}
	// A 4-in-6 address has no business on the wire, and as a netip.Addr it would
	// compare unequal to the IPv4 address that it prints as.
	if v.src.Is4In6() || v.dst.Is4In6() {
		return false
	}
	return v.parseTransport(b, embedded)
}

func (v *view) parseTransport(b []byte, embedded bool) bool {
	t := b[v.l4:v.end]
	switch v.proto {
	case protoUDP:
		if len(t) < 8 {
			return false
		}
		n := int(binary.BigEndian.Uint16(t[4:]))
		if !embedded && n != len(t) {
			return false
		}
	case protoTCP:
		if len(t) < 8 || !embedded && len(t) < 20 {
			return false
		}
		if len(t) >= 14 {
			v.flags = t[13]
		}
		if !embedded {
			if off := int(t[12]>>4) * 4; off < 20 || off > len(t) {
				return false
			}
		}
	case protoICMP4, protoICMP6:
		if v.v6 != (v.proto == protoICMP6) || len(t) < 8 {
			return false
		}
		v.icmp = classOf(v.v6, t[0])
		if v.icmp == icmpRequest || v.icmp == icmpReply {
			v.sport = binary.BigEndian.Uint16(t[4:])
			v.dport = v.sport
		}
		return true
	default:
		return true
	}
	v.sport, v.dport = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	return true
}

func classOf(v6 bool, kind uint8) icmpClass {
	switch {
	case !v6 && kind == 8, v6 && kind == 128:
		return icmpRequest
	case !v6 && kind == 0, v6 && kind == 129:
		return icmpReply
	case !v6 && (kind == 3 || kind == 4 || kind == 11 || kind == 12), v6 && kind < 128:
		return icmpError
	}
	return icmpOther
}

// appendIP appends an IP header for n bytes of payload that the caller adds.
func appendIP(b []byte, src, dst netip.Addr, proto uint8, n int) []byte {
	at := len(b)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+n))
		b = append(b, 0, 0, 0x40, 0, firstTTL, proto, 0, 0) // DF: the lab never fragments
		b = append(b, s[:]...)
		b = append(b, d[:]...)
		binary.BigEndian.PutUint16(b[at+10:], fold(sum(0, b[at:])))
		return b
	}
	s, d := src.As16(), dst.As16()
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, proto, firstTTL)
	b = append(b, s[:]...)
	return append(b, d[:]...)
}

// appendUDP appends a whole UDP packet to b, which must be empty.
func appendUDP(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	n := 8 + len(payload)
	b = appendIP(b, src.Addr(), dst.Addr(), protoUDP, n)
	l4 := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, 0, 0)
	b = append(b, payload...)
	v := view{v6: src.Addr().Is6(), proto: protoUDP, l4: l4, end: len(b)}
	c := fold(sum(v.pseudo(b), b[l4:]))
	if c == 0 {
		c = 0xffff // zero says "no checksum" (RFC 768)
	}
	binary.BigEndian.PutUint16(b[l4+6:], c)
	return b
}

// decTTL takes one hop from b; false means that the packet has used up its hops.
func decTTL(b []byte) bool {
	if b[0]>>4 == 6 {
		if b[7] <= 1 {
			return false
		}
		b[7]--
		return true
	}
	if b[8] <= 1 {
		return false
	}
	old := binary.BigEndian.Uint16(b[8:])
	b[8]--
	adjustAt(b, 10, old, binary.BigEndian.Uint16(b[8:]))
	return true
}

// appendReset appends the RST with which a host without a listener answers the TCP
// segment b (RFC 9293, section 3.10.7.1).
func appendReset(dst, b []byte, v *view) []byte {
	t := b[v.l4:v.end]
	var seq, ack uint32
	flags := byte(tcpRST)
	if v.flags&tcpACK != 0 {
		seq = binary.BigEndian.Uint32(t[8:])
	} else {
		n := len(t) - int(t[12]>>4)*4
		if v.flags&tcpSYN != 0 {
			n++
		}
		if v.flags&tcpFIN != 0 {
			n++
		}
		ack, flags = binary.BigEndian.Uint32(t[4:])+uint32(n), tcpRST|tcpACK
	}
	dst = appendIP(dst, v.dst, v.src, protoTCP, 20)
	l4 := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, v.dport)
	dst = binary.BigEndian.AppendUint16(dst, v.sport)
	dst = binary.BigEndian.AppendUint32(dst, seq)
	dst = binary.BigEndian.AppendUint32(dst, ack)
	dst = append(dst, 5<<4, flags, 0, 0, 0, 0, 0, 0)
	r := view{v6: v.v6, proto: protoTCP, l4: l4, end: len(dst)}
	binary.BigEndian.PutUint16(dst[l4+16:], fold(sum(r.pseudo(dst), dst[l4:])))
	return dst
}
