package natlab

import (
	"encoding/binary"
	"net/netip"
)

// The ICMP errors that the lab sends.
type icmpCause uint8

const (
	causePort   icmpCause = iota // port unreachable
	causeTooBig                  // fragmentation needed, packet too big
	causeTTL                     // hop limit exceeded
)

// quote is how much of the offending packet an error carries. RFC 1812 wants as
// much as fits into 576 bytes; the headers alone identify the flow.
const quote = 128

// appendICMPError appends the ICMP error that src sends about the packet
// offending, whose view is v. It answers nil where RFC 1122 forbids an error:
// about an error, about a fragment, or about what is not addressed to one host.
func appendICMPError(b []byte, cause icmpCause, mtu int, src netip.Addr, offending []byte, v *view) []byte {
	if v.icmp == icmpError || v.fragment || v.dst.IsMulticast() || v.src.IsUnspecified() || src.Is4() != v.src.Is4() {
		return nil
	}
	q := offending[:min(v.end, quote)]
	proto := uint8(protoICMP4)
	head := [8]byte{}
	switch {
	case cause == causePort && !v.v6:
		head[0], head[1] = 3, 3
	case cause == causePort:
		head[0], head[1] = 1, 4
	case cause == causeTTL && !v.v6:
		head[0] = 11
	case cause == causeTTL:
		head[0] = 3
	case cause == causeTooBig && !v.v6:
		head[0], head[1] = 3, 4
		binary.BigEndian.PutUint16(head[6:], uint16(mtu)) // RFC 1191
	case cause == causeTooBig:
		head[0] = 2
		binary.BigEndian.PutUint32(head[4:], uint32(mtu)) // RFC 4443
	}
	if v.v6 {
		proto = protoICMP6
	}
	b = appendIP(b, src, v.src, proto, len(head)+len(q))
	l4 := len(b)
	b = append(b, head[:]...)
	b = append(b, q...)
	sealICMP(b, l4, v.v6)
	return b
}

// appendEcho appends an echo request, or the reply to one.
func appendEcho(b []byte, src, dst netip.Addr, reply bool, id, seq uint16, payload []byte) []byte {
	kind, proto := uint8(8), uint8(protoICMP4)
	if src.Is6() {
		kind, proto = 128, protoICMP6
	}
	if reply && src.Is6() {
		kind = 129
	} else if reply {
		kind = 0
	}
	b = appendIP(b, src, dst, proto, 8+len(payload))
	l4 := len(b)
	b = append(b, kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = append(b, payload...)
	sealICMP(b, l4, src.Is6())
	return b
}

// sealICMP writes the checksum of the ICMP message at b[l4:], the end of packet b.
func sealICMP(b []byte, l4 int, v6 bool) {
	b[l4+2], b[l4+3] = 0, 0
	var acc uint64
	if v6 {
		v := view{v6: true, proto: protoICMP6, l4: l4, end: len(b)}
		acc = v.pseudo(b)
	}
	binary.BigEndian.PutUint16(b[l4+2:], fold(sum(acc, b[l4:])))
}

// tooBigMTU answers the MTU that a "too big" error names, or 0 for other errors.
func tooBigMTU(b []byte, v *view) int {
	t := b[v.l4:v.end]
	switch {
	case !v.v6 && t[0] == 3 && t[1] == 4:
		return int(binary.BigEndian.Uint16(t[6:]))
	case v.v6 && t[0] == 2:
		return int(min(binary.BigEndian.Uint32(t[4:]), MaxPacket))
	}
	return 0
}

// appendReply appends the answer to the echo request b.
func appendReply(dst, b []byte, v *view) []byte {
	t := b[v.l4:v.end]
	id, seq := uint16(t[4])<<8|uint16(t[5]), uint16(t[6])<<8|uint16(t[7])
	return appendEcho(dst, v.dst, v.src, true, id, seq, t[8:])
}
