package filter

import (
	"encoding/binary"
	"net/netip"
)

// wrapLen is what a packet from or to behind a gateway has around it: an IPv4 header
// without options (RFC 2003). Its addresses are those of the two systems, so WireGuard
// checks them as it checks any other, and which gateway a flow takes is chosen for each
// flow and not for each address (docs/decisions/0140).
const wrapLen = 20

// WrapLen is how many bytes a wrapped packet is longer than what it carries.
const WrapLen = wrapLen

// AppendWrap appends pkt behind a header from src to dst, which are IPv4.
func AppendWrap(b, pkt []byte, src, dst netip.Addr) []byte {
	h := len(b)
	b = append(b, make([]byte, wrapLen)...)
	b = append(b, pkt...)
	putWrap(b[h:], src, dst)
	return b
}

// Wrap moves the size bytes at the front of buf back and puts the header in front of
// them. It returns how long the packet is now, 0 when buf is too short for it.
func Wrap(buf []byte, size int, src, dst netip.Addr) int {
	if size == 0 || len(buf) < size+wrapLen {
		return 0
	}
	copy(buf[wrapLen:], buf[:size])
	putWrap(buf[:size+wrapLen], src, dst)
	return size + wrapLen
}

func putWrap(b []byte, src, dst netip.Addr) {
	proto := byte(protoIPv4)
	if b[wrapLen]>>4 == 6 {
		proto = protoIPv6
	}
	s, d := src.As4(), dst.As4()
	b[0], b[1] = 4<<4|5, 0
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:], 0x4000) // atomic, so the identification may be 0 (RFC 6864)
	b[8], b[9], b[10], b[11] = ttl, proto, 0, 0
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], checksum(b[:wrapLen], 0))
}

// Unwrap returns what an accepted packet carries, and whether it carries anything.
func Unwrap(pkt []byte) ([]byte, bool) {
	if len(pkt) <= wrapLen || pkt[0] != 4<<4|5 || (pkt[9] != protoIPv4 && pkt[9] != protoIPv6) {
		return pkt, false
	}
	total := min(len(pkt), int(binary.BigEndian.Uint16(pkt[2:])))
	if total <= wrapLen {
		return pkt, false
	}
	return pkt[wrapLen:total], true
}
