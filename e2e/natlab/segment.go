package natlab

import (
	"encoding/binary"
	"net/netip"
)

const tcpPSH = 0x08

// segment is one TCP segment of the lab's own TCP (RFC 9293, section 3.1).
type segment struct {
	seq, ack uint32
	flags    uint8
	window   uint16
	mss      uint16 // option of a SYN; 0: none
	payload  []byte
}

// appendSegment appends a whole TCP packet to b, which must be empty.
func appendSegment(b []byte, src, dst netip.AddrPort, g *segment) []byte {
	head := 20
	if g.mss != 0 {
		head = 24
	}
	b = appendIP(b, src.Addr(), dst.Addr(), protoTCP, head+len(g.payload))
	l4 := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, g.seq)
	b = binary.BigEndian.AppendUint32(b, g.ack)
	b = append(b, byte(head/4)<<4, g.flags)
	b = binary.BigEndian.AppendUint16(b, g.window)
	b = append(b, 0, 0, 0, 0)
	if g.mss != 0 {
		b = append(b, 2, 4)
		b = binary.BigEndian.AppendUint16(b, g.mss)
	}
	b = append(b, g.payload...)
	v := view{v6: src.Addr().Is6(), proto: protoTCP, l4: l4, end: len(b)}
	binary.BigEndian.PutUint16(b[l4+16:], fold(sum(v.pseudo(b), b[l4:])))
	return b
}

// parseSegment reads the TCP segment of packet b, whose view is v and good.
func parseSegment(b []byte, v *view) segment {
	t := b[v.l4:v.end]
	head := int(t[12]>>4) * 4
	g := segment{
		seq: binary.BigEndian.Uint32(t[4:]), ack: binary.BigEndian.Uint32(t[8:]), flags: t[13],
		window: binary.BigEndian.Uint16(t[14:]), payload: t[head:],
	}
	for o := t[20:head]; len(o) > 0 && o[0] != 0; {
		switch {
		case o[0] == 1:
			o = o[1:]
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return g
		default:
			if o[0] == 2 && o[1] == 4 {
				g.mss = binary.BigEndian.Uint16(o[2:])
			}
			o = o[o[1]:]
		}
	}
	return g
}

// before reports whether sequence number a comes before b, modulo 2^32.
func before(a, b uint32) bool { return int32(a-b) < 0 }
