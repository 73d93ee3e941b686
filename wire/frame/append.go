package frame

import (
	"encoding/binary"
	"time"
)

func header(b []byte, t Type, n int) []byte {
	return append(b, byte(t), byte(n>>8), byte(n))
}

// AppendHello appends a Hello with the highest version that the sender speaks.
func AppendHello(b []byte, version uint8) []byte { return append(header(b, Hello, 1), version) }

// AppendOpen appends an Open. It returns ErrSize, and b as it was, for a ticket
// that no frame may carry.
func AppendOpen(b, ticket []byte) ([]byte, error) {
	if l := limits[Open]; len(ticket) < l.lo || len(ticket) > l.hi {
		return b, ErrSize
	}
	return append(header(b, Open, len(ticket)), ticket...), nil
}

// hereFlag in Opened says that the peer is connected to this relay now.
const hereFlag = 1

// AppendOpened appends an Opened.
func AppendOpened(b []byte, peer ID, here bool) []byte {
	var flags byte
	if here {
		flags = hereFlag
	}
	return append(append(header(b, Opened, PeerLen+1), peer[:]...), flags)
}

// AppendRefused appends a Refused; peer may be NoPeer.
func AppendRefused(b []byte, peer ID, code Code) []byte {
	return append(append(header(b, Refused, PeerLen+1), peer[:]...), byte(code))
}

// AppendSend appends a Send to peer. It returns ErrSize, and b as it was, for a
// payload that is empty or over MaxPayload.
func AppendSend(b []byte, to ID, payload []byte) ([]byte, error) {
	return appendPacket(b, Send, to, payload)
}

// AppendRecv appends a Recv, like AppendSend.
func AppendRecv(b []byte, from ID, payload []byte) ([]byte, error) {
	return appendPacket(b, Recv, from, payload)
}

func appendPacket(b []byte, t Type, peer ID, payload []byte) ([]byte, error) {
	if len(payload) == 0 || len(payload) > MaxPayload {
		return b, ErrSize
	}
	b = append(header(b, t, PeerLen+len(payload)), peer[:]...)
	return append(b, payload...), nil
}

// AppendPing appends a Ping; the data comes back in the Pong.
func AppendPing(b []byte, data [8]byte) []byte { return append(header(b, Ping, 8), data[:]...) }

// AppendPong appends the answer to a Ping with the same data.
func AppendPong(b []byte, data [8]byte) []byte { return append(header(b, Pong, 8), data[:]...) }

// AppendPeerGone appends a PeerGone.
func AppendPeerGone(b []byte, peer ID) []byte {
	return append(header(b, PeerGone, PeerLen), peer[:]...)
}

// AppendDrain appends a Drain: the relay closes after grace, in whole seconds.
func AppendDrain(b []byte, grace time.Duration) []byte {
	s := min(max(0, int64(grace/time.Second)), 0xffff)
	return binary.BigEndian.AppendUint16(header(b, Drain, 2), uint16(s))
}

// AppendNote appends a Note, cut to MaxNote bytes.
func AppendNote(b []byte, text string) []byte {
	text = text[:min(len(text), MaxNote)]
	return append(header(b, Note, len(text)), text...)
}
