package disco

import (
	"bytes"
	"crypto/rand"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"

	"enclave/wire"
)

// Sizes of a packet. Every disco packet fits any path that carries IPv6.
const (
	magic     = "\xec\x6e\x63\x6c\x76\x01" // the last byte is the version of the layout
	nonceLen  = 24
	headerLen = len(magic) + 32 + nonceLen
	MinPacket = headerLen + box.Overhead
	MaxPacket = MinPacket + maxBody
	MaxPadded = 9216 // of a ping that tries a size: more than any network carries in one piece
)

// PrivateKey is a system's secret disco key.
type PrivateKey [32]byte

// NewPrivateKey returns a random key.
func NewPrivateKey() (k PrivateKey) {
	rand.Read(k[:]) // never fails: crypto/rand aborts the program instead
	return k
}

// Public returns the key that peers are told.
func (k PrivateKey) Public() wire.DiscoKey {
	var pub [32]byte
	curve25519.ScalarBaseMult(&pub, (*[32]byte)(&k))
	return pub
}

// LooksLike reports whether b may be a disco packet. It is the first question asked
// about every datagram, so it only looks; a false answer is certain.
func LooksLike(b []byte) bool {
	return len(b) >= MinPacket && string(b[:len(magic)]) == magic
}

// Sender returns the key that b claims to be from, which is to be looked up among
// the known peers before anything is computed for a stranger.
func Sender(b []byte) (k wire.DiscoKey, ok bool) {
	if !LooksLike(b) || len(b) > MaxPadded {
		return k, false
	}
	return wire.DiscoKey(b[len(magic):]), true
}

// Pair seals and opens between this system and one peer. It holds the shared key,
// so that a packet costs no curve operation. It is safe for concurrent use.
type Pair struct {
	shared [32]byte
	self   wire.DiscoKey
	side   byte // the lowest bit of the nonces this side sends
}

// NewPair computes what self and peer share.
func NewPair(self PrivateKey, peer wire.DiscoKey) *Pair {
	p := &Pair{self: self.Public()}
	if bytes.Compare(p.self[:], peer[:]) > 0 {
		p.side = 1
	}
	box.Precompute(&p.shared, (*[32]byte)(&peer), (*[32]byte)(&self))
	return p
}

// Seal appends the packet for m to dst.
func (p *Pair) Seal(dst []byte, m Message) []byte {
	var nonce [nonceLen]byte
	rand.Read(nonce[:]) // 191 random bits: no counter to keep, none to lose
	nonce[nonceLen-1] = nonce[nonceLen-1]&^1 | p.side
	dst = append(dst, magic...)
	dst = append(dst, p.self[:]...)
	dst = append(dst, nonce[:]...)
	var body [maxBody]byte
	return box.SealAfterPrecomputation(dst, m.Append(body[:0]), &nonce, &p.shared)
}

// Open reads a packet from the peer. The caller has chosen the pair by Sender.
func (p *Pair) Open(b []byte) (Message, error) {
	if _, ok := Sender(b); !ok {
		return nil, ErrNotDisco
	}
	nonce := [nonceLen]byte(b[len(magic)+32:])
	if nonce[nonceLen-1]&1 == p.side {
		return nil, ErrBox // our own packet, thrown back
	}
	var buf [maxBody]byte
	body, ok := box.OpenAfterPrecomputation(buf[:0], b[headerLen:], &nonce, &p.shared)
	if !ok {
		return nil, ErrBox
	}
	return Parse(body)
}
