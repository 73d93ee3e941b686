package filter

import (
	"encoding/binary"

	"enclave/wire"
)

// Destination unreachable, by IP version 4 and 6 (RFC 792, RFC 4443). To a peer it
// says administratively prohibited, which is the truth. To the local stack it says
// port unreachable, which is the one kind that netstack hands to a UDP socket.
var (
	adminProhibited = [2][2]byte{{3, 13}, {1, 1}}
	portUnreachable = [2][2]byte{{3, 3}, {1, 4}}
)

// ttl is what packets that the filter writes start with.
const ttl = 64

// farewell returns the packets that make one end of f give up at once, as if the
// other end had sent them.
func (f *flow) farewell(end direction) [][]byte {
	mine, other := f.key.local, f.key.remote
	mport, oport := f.key.lport, f.key.rport
	if end == inbound {
		mine, other, mport, oport = other, mine, oport, mport
	}
	switch f.proto {
	case wire.TCP:
		return f.resets(end, mine, other, mport, oport)
	case wire.UDP:
		quote := appendIP(nil, mine, other, protoUDP, 8)
		quote = binary.BigEndian.AppendUint16(quote, mport)
		quote = binary.BigEndian.AppendUint16(quote, oport)
		quote = append(quote, 0, 8, 0, 0)
		if end == outbound {
			return [][]byte{unreachable(other, mine, portUnreachable, quote)}
		}
		return [][]byte{unreachable(other, mine, adminProhibited, quote)}
	}
	return nil
}

// resets returns RST segments for one end. Which sequence number it expects is not
// quite known: segments may be lost, queued, or not yet acknowledged, and a hostile
// far end may have sent numbers far ahead. One of three fits: where the far end
// was, exact when nothing is missing; the last acknowledgement, exact when nothing
// arrived since; and the last byte of the window then advertised, which stays
// inside the window whatever arrived since. Superfluous ones meet a closed socket.
func (f *flow) resets(end direction, dst, src addr, dport, sport uint16) (pkts [][]byte) {
	me, other := &f.end[end], &f.end[end.reverse()]
	seqs := [3]uint32{other.next, other.next, other.next}
	if me.seen&acked != 0 {
		if other.seen&sent == 0 {
			seqs[0] = me.ack
		}
		seqs[1], seqs[2] = me.ack, me.ack
		if window := me.advertised(other); window > 0 {
			seqs[2] = me.ack + window - 1
		}
	}
	flags := byte(tcpRST)
	if me.seen&sent != 0 {
		flags |= tcpACK // in SYN-SENT the acknowledgement is what is checked
	}
	for i, seq := range seqs {
		if i > 0 && seq == seqs[0] || i > 1 && seq == seqs[1] {
			continue
		}
		pkts = append(pkts, segment(src, dst, sport, dport, seq, me.next, flags))
	}
	return pkts
}

// advertised is the window that e last announced, in bytes. Scaling needs both
// ends (RFC 7323, 2.2).
func (e *tcpEnd) advertised(other *tcpEnd) uint32 {
	if e.scale > 0 && other.scale >= 0 {
		return uint32(e.window) << e.scale
	}
	return uint32(e.window)
}

// segment is a TCP segment without data.
func segment(src, dst addr, sport, dport uint16, seq, ack uint32, flags byte) []byte {
	b := appendIP(make([]byte, 0, 60), src, dst, protoTCP, 20)
	h := len(b)
	b = binary.BigEndian.AppendUint16(b, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint32(b, seq)
	if flags&tcpACK == 0 {
		ack = 0
	}
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 5<<4, flags, 0, 0, 0, 0, 0, 0) // no window, checksum, no urgent data
	binary.BigEndian.PutUint16(b[h+16:], checksum(b[h:], pseudo(src, dst, protoTCP, 20)))
	return b
}

// unreachable is an ICMP error from src to dst that quotes a packet.
func unreachable(src, dst addr, kind [2][2]byte, quote []byte) []byte {
	proto, which, sum := uint8(protoICMP), kind[0], uint32(0)
	if !isMapped(src) {
		proto, which = protoICMPv6, kind[1]
		sum = pseudo(src, dst, protoICMPv6, 8+len(quote))
	}
	b := appendIP(make([]byte, 0, 48+len(quote)), src, dst, proto, 8+len(quote))
	h := len(b)
	b = append(b, which[0], which[1], 0, 0, 0, 0, 0, 0)
	b = append(b, quote...)
	binary.BigEndian.PutUint16(b[h+2:], checksum(b[h:], sum))
	return b
}

// appendIP appends an IP header for a payload of size bytes.
func appendIP(b []byte, src, dst addr, proto uint8, size int) []byte {
	if !isMapped(src) {
		b = append(b, 6<<4, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
		b = append(b, proto, ttl)
		b = append(b, src[:]...)
		return append(b, dst[:]...)
	}
	h := len(b)
	b = append(b, 4<<4|5, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+size))
	b = append(b, 0, 0, 0x40, 0, ttl, proto, 0, 0) // atomic, so the identification may be 0 (RFC 6864)
	b = append(b, src[12:]...)
	b = append(b, dst[12:]...)
	binary.BigEndian.PutUint16(b[h+10:], checksum(b[h:], 0))
	return b
}

// pseudo is the sum of the pseudo header. Both versions add up the same fields; the
// prefix of a mapped address is left out.
func pseudo(src, dst addr, proto uint8, size int) uint32 {
	from := 0
	if isMapped(src) {
		from = 12
	}
	return sum(src[from:], sum(dst[from:], uint32(proto)+uint32(size)))
}

// sum adds b as 16-bit words (RFC 1071). Packets are far too short to overflow it.
func sum(b []byte, acc uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func checksum(b []byte, acc uint32) uint16 {
	acc = sum(b, acc)
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}
