// Package envelope seals the messages of a sandbox session from end to end, between
// its client and the broker that runs the script, whoever carries them.
//
// A session begins with one message each way:
//
//	Hello    client P-256 key 65 | nonce 32
//	Welcome  session ID | server P-256 key 65 | nonce 32 | identity 32 | signature 64
//
// The signature, by the server's Ed25519 identity that the client has pinned, covers the
// transcript: both keys, both nonces, the session and the identity. ECDH of the two keys
// goes through HKDF-SHA-256 with the transcript as salt to one AES-256-GCM key a
// direction. A sealed message is bound by its associated data to version, direction,
// session, type and sequence number, and its nonce is the number:
//
//	"enclave envelope v1" 0 | direction 1 | seq 8 | len 1 type | len 1 session
//
// An Opener takes each number once, in order: what is repeated, left out, moved to
// another session or direction, or changed is refused. The package knows no HTTP and no
// clock. Page: docs/format/sandbox-envelope.md; why P-256: docs/decisions/0133.
package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the version of the format.
//
//	1  first release
const Version = 1

// MaxMessage is the most bytes of one sealed message.
const MaxMessage = 32 << 20

// nonceLen is the length of the nonces of the handshake.
const nonceLen = 32

var (
	// ErrIdentity is returned when a server is not the one that was pinned.
	ErrIdentity = errors.New("the server does not prove the identity that was pinned")
	// ErrHandshake is returned for keys and nonces that are none.
	ErrHandshake = errors.New("malformed handshake")
	// ErrSealed is returned for a message that was changed, moved or sealed by another.
	ErrSealed = errors.New("a sealed message does not open")
	// ErrOrder is returned for a message that is repeated or out of order.
	ErrOrder = errors.New("a sealed message is out of order")
)

// Hello is the client's half of the handshake.
type Hello struct {
	Key   []byte `json:"keyB64"`
	Nonce []byte `json:"nonceB64"`
}

// Welcome is the server's.
type Welcome struct {
	Session   string `json:"sessionId"`
	Key       []byte `json:"keyB64"`
	Nonce     []byte `json:"nonceB64"`
	Identity  []byte `json:"identityB64"`
	Signature []byte `json:"signatureB64"`
}

// Box is a sealed message as it travels in a payload.
type Box struct {
	KID        string `json:"kid"`
	Nonce      string `json:"nonceB64"`
	Ciphertext string `json:"ciphertextB64"`
}

// Direction says who sealed a message.
type Direction byte

// The directions.
const (
	ToServer Direction = 1
	ToClient Direction = 2
)

// transcript is what both sides have seen.
func transcript(h *Hello, w *Welcome) [32]byte {
	b := []byte("enclave sandbox handshake v1\x00")
	for _, part := range [][]byte{[]byte(w.Session), h.Key, h.Nonce, w.Key, w.Nonce, w.Identity} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}

// Client is a handshake that a client began.
type Client struct {
	Hello Hello
	key   *ecdh.PrivateKey
}

// NewClient begins a handshake.
func NewClient() (*Client, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &Client{key: key, Hello: Hello{Key: key.PublicKey().Bytes(), Nonce: make([]byte, nonceLen)}}
	rand.Read(c.Hello.Nonce)
	return c, nil
}

// Finish checks the server's answer against the pinned identity.
func (c *Client) Finish(w *Welcome, pinned ed25519.PublicKey) (*Sealer, *Opener, error) {
	if len(pinned) != ed25519.PublicKeySize || !pinned.Equal(ed25519.PublicKey(w.Identity)) {
		return nil, nil, ErrIdentity
	}
	sum := transcript(&c.Hello, w)
	if !ed25519.Verify(pinned, sum[:], w.Signature) {
		return nil, nil, ErrIdentity
	}
	up, down, err := keys(c.key, w.Key, w.Nonce, w.Session, sum)
	if err != nil {
		return nil, nil, err
	}
	return &Sealer{way{up, ToServer, w.Session, 0}}, &Opener{way{down, ToClient, w.Session, 0}}, nil
}

// Accept answers a client's handshake for a session.
func Accept(h *Hello, session string, identity ed25519.PrivateKey) (*Welcome, *Sealer, *Opener, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	w := &Welcome{Session: session, Key: key.PublicKey().Bytes(), Nonce: make([]byte, nonceLen), Identity: identity.Public().(ed25519.PublicKey)}
	rand.Read(w.Nonce)
	sum := transcript(h, w)
	w.Signature = ed25519.Sign(identity, sum[:])
	up, down, err := keys(key, h.Key, h.Nonce, session, sum)
	if err != nil {
		return nil, nil, nil, err
	}
	return w, &Sealer{way{down, ToClient, session, 0}}, &Opener{way{up, ToServer, session, 0}}, nil
}

func keys(own *ecdh.PrivateKey, theirs, nonce []byte, session string, sum [32]byte) (up, down cipher.AEAD, err error) {
	pub, err := ecdh.P256().NewPublicKey(theirs)
	if err != nil || len(nonce) != nonceLen || len(session) == 0 || len(session) > 255 {
		return nil, nil, ErrHandshake
	}
	shared, err := own.ECDH(pub)
	if err != nil {
		return nil, nil, ErrHandshake
	}
	if up, err = aead(shared, sum, "enclave sandbox v1 client to server"); err == nil {
		down, err = aead(shared, sum, "enclave sandbox v1 server to client")
	}
	return up, down, err
}

func aead(shared []byte, sum [32]byte, info string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, shared, sum[:], info, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// way is one direction of a session.
type way struct {
	aead    cipher.AEAD
	dir     Direction
	session string
	seq     uint64 // the last that was sealed or opened
}

func (w *way) data(seq uint64, kind string) []byte {
	b := append([]byte("enclave envelope v1\x00"), byte(w.dir))
	b = binary.BigEndian.AppendUint64(b, seq)
	b = append(append(b, byte(len(kind))), kind...)
	return append(append(b, byte(len(w.session))), w.session...)
}

func nonce(seq uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), seq) }

// kid names the only key of a direction; a session has no other.
const kid = "1"

// Sealer seals one side's messages. It is not safe for concurrent use.
type Sealer struct{ w way }

// Seal seals the message with the next number, which it returns too. kind has at most
// 255 bytes.
func (s *Sealer) Seal(kind string, text []byte) (Box, uint64, error) {
	if len(kind) > 255 || len(text) > MaxMessage {
		return Box{}, 0, fmt.Errorf("seal: %d bytes, at most %d", len(text), MaxMessage)
	}
	s.w.seq++
	n := nonce(s.w.seq)
	sealed := s.w.aead.Seal(nil, n, text, s.w.data(s.w.seq, kind))
	return Box{kid, base64.StdEncoding.EncodeToString(n), base64.StdEncoding.EncodeToString(sealed)}, s.w.seq, nil
}

// Opener opens the other side's messages, in order. It is not safe for concurrent use.
type Opener struct{ w way }

// Open opens the message of this number and kind, which has to be the next one.
func (o *Opener) Open(b Box, seq uint64, kind string) ([]byte, error) {
	if seq != o.w.seq+1 {
		return nil, fmt.Errorf("%w: number %d after %d", ErrOrder, seq, o.w.seq)
	}
	if b.KID != kid || len(kind) > 255 || len(b.Ciphertext) > base64.StdEncoding.EncodedLen(MaxMessage+16) ||
		b.Nonce != base64.StdEncoding.EncodeToString(nonce(seq)) {
		return nil, ErrSealed
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(b.Ciphertext)
	if err != nil {
		return nil, ErrSealed
	}
	text, err := o.w.aead.Open(nil, nonce(seq), sealed, o.w.data(seq, kind))
	if err != nil {
		return nil, ErrSealed
	}
	o.w.seq = seq
	return text, nil
}
