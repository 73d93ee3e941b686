package disco

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"enclave/wire"
)

// Types of message; the first byte inside the box.
//
//	1  ping, pong, call-me: first release
const (
	typePing   = 1
	typePong   = 2
	typeCallMe = 3
)

// Sizes inside the box.
const (
	txLen   = 12
	addrLen = 16 + 2
	pingLen = 1 + txLen + 32
	maxBody = 1 + txLen + 1 + wire.MaxCandidates*addrLen
)

// Errors of Parse. They say too little for an attacker and enough for a counter.
var (
	ErrShort    = errors.New("message ends too early")
	ErrType     = errors.New("unknown message type")
	ErrAddr     = errors.New("not an address a packet can be sent to")
	ErrTooMany  = errors.New("too many candidates")
	ErrNotDisco = errors.New("not a disco packet")
	ErrBox      = errors.New("the box does not open")
)

// TxID names one ping, and the pong that answers it. It is unguessable, so a pong
// proves that its sender received the ping.
type TxID [txLen]byte

// NewTxID returns a random transaction ID.
func NewTxID() (tx TxID) {
	rand.Read(tx[:]) // never fails: crypto/rand aborts the program instead
	return tx
}

// Message is a Ping, a Pong or a CallMe.
type Message interface {
	// Append adds the body of the message, type byte first, to b.
	Append(b []byte) []byte
}

// Ping asks for a pong. It names the sender's WireGuard key, which the receiver
// compares with the one it was told belongs to this disco key. That also makes a
// ping no smaller than a pong: nobody is amplified.
//
// Size, when it is more, is what the whole packet is padded to with zeros, to learn
// whether the path carries as much; Parse ignores the padding and leaves Size 0.
type Ping struct {
	Tx        TxID
	WireGuard wire.WireGuardKey
	Size      int
}

// Pong answers a ping and says from where the ping came, which is how a system
// learns of the address that its NAT gives it towards this peer. Observed is zero
// for a ping that came through a relay.
type Pong struct {
	Tx       TxID
	Observed netip.AddrPort
}

// CallMe asks the receiver to ping the sender at the candidates, at once. It goes
// through a relay, while the sender pings too, so that both NATs see an outgoing
// packet first (simultaneous open). Tx only tells one request from its replay.
type CallMe struct {
	Tx         TxID
	Candidates []netip.AddrPort
}

// Append adds the body of the message to b.
func (m Ping) Append(b []byte) []byte {
	b = append(append(b, typePing), m.Tx[:]...)
	b = append(b, m.WireGuard[:]...)
	if pad := min(m.Size, MaxPadded) - MinPacket - pingLen; pad > 0 {
		b = append(b, make([]byte, pad)...)
	}
	return b
}

// Append adds the body of the message to b.
func (m Pong) Append(b []byte) []byte {
	b = append(append(b, typePong), m.Tx[:]...)
	return appendAddr(b, m.Observed)
}

// Append adds the body of the message to b. Candidates beyond
// wire.MaxCandidates are left out.
func (m CallMe) Append(b []byte) []byte {
	n := min(len(m.Candidates), wire.MaxCandidates)
	b = append(append(b, typeCallMe), m.Tx[:]...)
	b = append(b, byte(n))
	for _, c := range m.Candidates[:n] {
		b = appendAddr(b, c)
	}
	return b
}

// Parse reads a body. Bytes after the fields it knows are ignored on purpose: a
// later version may add some.
func Parse(b []byte) (Message, error) {
	if len(b) < 1+txLen {
		return nil, ErrShort
	}
	kind, tx, b := b[0], TxID(b[1:]), b[1+txLen:]
	switch kind {
	case typePing:
		if len(b) < 32 {
			return nil, ErrShort
		}
		return Ping{Tx: tx, WireGuard: wire.WireGuardKey(b)}, nil
	case typePong:
		if len(b) >= addrLen && [addrLen]byte(b) == ([addrLen]byte{}) {
			return Pong{Tx: tx}, nil
		}
		addr, err := parseAddr(b)
		if err != nil {
			return nil, err
		}
		return Pong{tx, addr}, nil
	case typeCallMe:
		return parseCallMe(tx, b)
	}
	return nil, ErrType
}

func parseCallMe(tx TxID, b []byte) (Message, error) {
	if len(b) < 1 {
		return nil, ErrShort
	}
	n, b := int(b[0]), b[1:]
	if n > wire.MaxCandidates {
		return nil, fmt.Errorf("%w: %d, at most %d", ErrTooMany, n, wire.MaxCandidates)
	}
	m := CallMe{Tx: tx, Candidates: make([]netip.AddrPort, 0, n)}
	for ; n > 0; n-- {
		addr, err := parseAddr(b)
		if err != nil {
			return nil, err
		}
		m.Candidates, b = append(m.Candidates, addr), b[addrLen:]
	}
	return m, nil
}

// appendAddr writes 16 bytes of address, IPv4 as ::ffff:a.b.c.d, and the port. A
// zone is meaningless to anybody else and is left out. Zeros stand for no address.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, make([]byte, addrLen)...)
	}
	ip := a.Addr().As16()
	b = append(b, ip[:]...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func parseAddr(b []byte) (netip.AddrPort, error) {
	if len(b) < addrLen {
		return netip.AddrPort{}, ErrShort
	}
	a := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
	if !Sendable(a) {
		return netip.AddrPort{}, ErrAddr
	}
	return a, nil
}

// Sendable reports whether a names one host and a port: not unspecified, not
// multicast, not the broadcast address. Whatever a stranger or a peer names,
// nothing is ever sent to another kind.
func Sendable(a netip.AddrPort) bool {
	ip := a.Addr()
	return ip.IsValid() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
