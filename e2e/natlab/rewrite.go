package natlab

import (
	"encoding/binary"
	"net/netip"
)

// side says which endpoint of a packet a rewrite concerns.
type side uint8

const (
	source side = iota
	destination
)

// rewrite puts the endpoint to in place of one endpoint of the IPv4 packet b and
// repairs the checksums by the difference alone (RFC 1624), so that a packet that
// was damaged on the way stays visibly damaged.
func rewrite(b []byte, v *view, s side, to netip.AddrPort) {
	t := b[v.l4:v.end]
	at := 12 + 4*int(s)
	csum, portAt := -1, 2*int(s)
	switch v.proto {
	case protoUDP:
		if len(t) >= 8 && (t[6] != 0 || t[7] != 0) {
			csum = 6
		}
	case protoTCP:
		if len(t) >= 18 { // an ICMP error may quote less
			csum = 16
		}
	case protoICMP4:
		portAt = -1
		if v.icmp == icmpRequest || v.icmp == icmpReply {
			portAt = 4
		}
	default:
		portAt = -1
	}
	a := to.Addr().As4()
	for i := 0; i < 4; i += 2 {
		old, new := binary.BigEndian.Uint16(b[at+i:]), binary.BigEndian.Uint16(a[i:])
		adjustAt(b, 10, old, new)
		if csum >= 0 {
			adjustAt(t, csum, old, new)
		}
		binary.BigEndian.PutUint16(b[at+i:], new)
	}
	if portAt >= 0 {
		old := binary.BigEndian.Uint16(t[portAt:])
		if v.proto == protoICMP4 {
			adjustAt(t, 2, old, to.Port()) // no pseudo header, but the identifier counts
		} else if csum >= 0 {
			adjustAt(t, csum, old, to.Port())
		}
		binary.BigEndian.PutUint16(t[portAt:], to.Port())
	}
	if v.proto == protoUDP && csum >= 0 && t[6] == 0 && t[7] == 0 {
		t[6], t[7] = 0xff, 0xff
	}
	if s == source {
		v.src = to.Addr()
		if portAt >= 0 {
			v.sport = to.Port()
		}
	} else {
		v.dst = to.Addr()
		if portAt >= 0 {
			v.dport = to.Port()
		}
	}
	if v.proto == protoICMP4 {
		v.sport, v.dport = to.Port(), to.Port()
	}
}

// rewriteQuoted rewrites one endpoint of the packet that the ICMP error b quotes,
// and repairs the checksum of the error around it. inner views b[v.l4+8:].
func rewriteQuoted(b []byte, v, inner *view, s side, to netip.AddrPort) {
	q := b[v.l4+8 : v.end]
	var before [80]byte // the longest IPv4 header and what may change after it
	n := copy(before[:], q)
	rewrite(q, inner, s, to)
	for i := 0; i+1 < n; i += 2 {
		old, new := binary.BigEndian.Uint16(before[i:]), binary.BigEndian.Uint16(q[i:])
		if old != new {
			adjustAt(b, v.l4+2, old, new)
		}
	}
}
