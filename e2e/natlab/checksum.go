package natlab

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to an Internet checksum (RFC 1071) in progress. It works on 64-bit
// words, since a host sums every payload byte once on each side.
func sum(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, 0, carry)
		acc += carry
		b = b[32:]
	}
	for len(b) >= 2 {
		acc, carry = bits.Add64(acc, uint64(binary.BigEndian.Uint16(b)), 0)
		acc += carry
		b = b[2:]
	}
	if len(b) == 1 {
		acc, carry = bits.Add64(acc, uint64(b[0])<<8, 0)
		acc += carry
	}
	return acc
}

// fold ends a sum: the 16-bit one's complement of it.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return ^uint16(acc)
}

// pseudo sums the pseudo header of v's transport (RFC 768, RFC 9293, RFC 8200).
func (v *view) pseudo(b []byte) uint64 {
	n := v.end - v.l4
	acc := uint64(v.proto) + uint64(n)
	if v.v6 {
		return sum(acc, b[8:40])
	}
	return sum(acc, b[12:20])
}

// adjust updates the checksum at *c after a 16-bit word went from old to new
// (RFC 1624, equation 3).
func adjust(c, old, new uint16) uint16 {
	acc := uint32(^c) + uint32(^old) + uint32(new)
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return ^uint16(acc)
}

// adjustAt applies adjust to the checksum stored at b[at:].
func adjustAt(b []byte, at int, old, new uint16) {
	binary.BigEndian.PutUint16(b[at:], adjust(binary.BigEndian.Uint16(b[at:]), old, new))
}

// transportSumOK reports whether the transport checksum of the whole packet b
// holds. A UDP checksum of zero over IPv4 means that the sender made none.
func (v *view) transportSumOK(b []byte) bool {
	switch v.proto {
	case protoUDP:
		if !v.v6 && b[v.l4+6] == 0 && b[v.l4+7] == 0 {
			return true
		}
		return fold(sum(v.pseudo(b), b[v.l4:v.end])) == 0
	case protoTCP, protoICMP6:
		return fold(sum(v.pseudo(b), b[v.l4:v.end])) == 0
	case protoICMP4:
		return fold(sum(0, b[v.l4:v.end])) == 0
	}
	return true
}
