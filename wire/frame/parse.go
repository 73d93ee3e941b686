package frame

import (
	"encoding/binary"
	"time"
)

// ParseHello returns the highest version that the other side speaks, never 0.
func ParseHello(body []byte) (version uint8, err error) {
	if len(body) < 1 || body[0] == 0 {
		return 0, ErrBody
	}
	return body[0], nil
}

// ParsePacket splits the body of Send or Recv. The payload is a part of body.
func ParsePacket(body []byte) (peer ID, payload []byte, err error) {
	if len(body) <= PeerLen {
		return NoPeer, nil, ErrBody
	}
	peer, err = ParsePeer(body)
	return peer, body[PeerLen:], err
}

// ParsePeer reads the peer that PeerGone, Send, Recv and Opened start with.
func ParsePeer(body []byte) (peer ID, err error) {
	if len(body) < PeerLen {
		return NoPeer, ErrBody
	}
	peer = ID(body[:PeerLen])
	if !peer.valid() {
		return NoPeer, ErrBody
	}
	return peer, nil
}

// ParseOpened returns the peer of the open pair, and whether it is connected to
// this relay now.
func ParseOpened(body []byte) (peer ID, here bool, err error) {
	if len(body) < PeerLen+1 {
		return NoPeer, false, ErrBody
	}
	peer, err = ParsePeer(body)
	return peer, err == nil && body[PeerLen]&hereFlag != 0, err
}

// ParseRefused returns whom and why. The peer is NoPeer when the relay could not
// read the ticket; a code may be one that this version does not know.
func ParseRefused(body []byte) (peer ID, code Code, err error) {
	if len(body) < PeerLen+1 || body[PeerLen] == 0 {
		return NoPeer, 0, ErrBody
	}
	code = Code(body[PeerLen])
	if ID(body[:PeerLen]) == NoPeer {
		return NoPeer, code, nil
	}
	if peer, err = ParsePeer(body); err != nil {
		return NoPeer, 0, err
	}
	return peer, code, nil
}

// ParsePing reads the data of Ping and Pong.
func ParsePing(body []byte) (data [8]byte, err error) {
	if len(body) != len(data) {
		return data, ErrBody
	}
	return [8]byte(body), nil
}

// ParseDrain returns how long the relay stays.
func ParseDrain(body []byte) (grace time.Duration, err error) {
	if len(body) < 2 {
		return 0, ErrBody
	}
	return time.Duration(binary.BigEndian.Uint16(body)) * time.Second, nil
}
