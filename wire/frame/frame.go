// Package frame is what an agent and a relay say to each other on a TLS connection.
//
// A frame is a header of three bytes and a body:
//
//	+------+----------------+------------------+
//	| type | length, BE     | body             |
//	| 1    | 2              | length bytes     |
//	+------+----------------+------------------+
//
// Both sides send Hello first. An agent then sends Open with a pair ticket for each
// peer that it wants to meet and Send with a sealed packet; the relay answers with
// Opened or Refused and delivers Recv, whose sender it wrote itself from the
// certificate of that connection. The payload of Send and Recv is the data plane's
// ciphertext: nothing here looks into it, and no field describes it.
//
// The package reads and writes bytes. It keeps no connection, decides nothing, and
// refuses what is too long for its type before it reads the body. A type that is not
// in the table ends the connection; new ones need a new Version. Fixed bodies may
// grow at their end: what follows the known fields is ignored on purpose.
// Format: docs/format/relay-frame.md. Why so: docs/decisions/0032.
package frame

import (
	"errors"
	"fmt"

	"enclave/wire"
)

// ALPN is the protocol name by which a TLS listener knows a relay client. It changes
// when Hello itself could no longer be read.
const ALPN = "enclave-relay/1"

// Version is the version of the frames; Hello carries it and the lower one counts.
//
//	1  first release
const Version = 1

// Type says what a body is.
type Type uint8

// The types, with who sends them.
const (
	Hello    Type = iota + 1 // both, first: version
	Open                     // agent: a pair ticket
	Opened                   // relay: peer, flags; also when the peer arrives later
	Refused                  // relay: peer, code
	Send                     // agent: peer, payload
	Recv                     // relay: peer, payload
	Ping                     // both: eight bytes
	Pong                     // both: the eight bytes of the Ping
	PeerGone                 // relay: peer, which is not connected here
	Drain                    // relay: seconds until it goes; connect elsewhere
	Note                     // relay: text for the agent's log
)

// Sizes in bytes.
const (
	HeaderLen = 3
	PeerLen   = 5

	// MaxPayload is the largest datagram that UDP over IPv4 can carry: a relay stands
	// in for UDP and takes what UDP would.
	MaxPayload = 65507
	MaxBody    = PeerLen + MaxPayload
	MaxNote    = 256

	// maxFixed leaves room for fields that later versions add to a fixed body.
	maxFixed = 64
)

// limits are the least and most bytes of a body by type.
var limits = [...]struct {
	name   string
	lo, hi int
}{
	Hello:    {"hello", 1, maxFixed},
	Open:     {"open", 1, wire.MaxTicketLen},
	Opened:   {"opened", PeerLen + 1, maxFixed},
	Refused:  {"refused", PeerLen + 1, maxFixed},
	Send:     {"send", PeerLen + 1, MaxBody},
	Recv:     {"recv", PeerLen + 1, MaxBody},
	Ping:     {"ping", 8, 8},
	Pong:     {"pong", 8, 8},
	PeerGone: {"peer-gone", PeerLen, maxFixed},
	Drain:    {"drain", 2, maxFixed},
	Note:     {"note", 0, MaxNote},
}

func (t Type) String() string {
	if t == 0 || int(t) >= len(limits) {
		return fmt.Sprintf("type(%d)", uint8(t))
	}
	return limits[t].name
}

// What can be wrong with a frame. None of them can be repaired: the reader no longer
// knows where the next frame starts, so the connection ends.
var (
	ErrType   = errors.New("relay frame: unknown type")
	ErrLength = errors.New("relay frame: length does not fit the type")
	ErrBody   = errors.New("relay frame: malformed body")
	ErrSize   = errors.New("relay frame: nothing to send, or more than fits a frame")
)

// check judges a header before anything of the body is read.
func check(t Type, n int) error {
	if t == 0 || int(t) >= len(limits) {
		return fmt.Errorf("%w %d", ErrType, uint8(t))
	}
	if l := limits[t]; n < l.lo || n > l.hi {
		return fmt.Errorf("%w: %s of %d bytes, want %d to %d", ErrLength, t, n, l.lo, l.hi)
	}
	return nil
}

// ID is a system ID as it stands in a frame: comparable and without an allocation.
type ID [PeerLen]byte

// NoPeer stands in a Refused whose ticket could not be read, so names nobody.
var NoPeer ID

// IDOf turns a system ID into its form in frames; false when it breaks the rule.
func IDOf(s wire.SystemID) (id ID, ok bool) {
	if len(s) != PeerLen {
		return NoPeer, false
	}
	copy(id[:], s)
	if !id.valid() {
		return NoPeer, false
	}
	return id, true
}

// System returns the system ID; empty for NoPeer.
func (id ID) System() wire.SystemID {
	if id == NoPeer {
		return ""
	}
	return wire.SystemID(id[:])
}

func (id ID) String() string { return string(id.System()) }

func (id ID) valid() bool {
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Code says why a pair is refused.
type Code uint8

// The codes of Refused. An agent asks control for a new ticket on BadTicket and
// Expired, presents the one it has on NoTicket, and waits on TooMany.
const (
	BadTicket Code = iota + 1 // malformed, or not signed for this organisation
	Expired                   // the ticket's not-after has passed
	NotYours                  // the ticket is for two other systems
	NoTicket                  // Send to a peer without an open pair
	TooMany                   // this connection has as many pairs as it may have
)

var codeNames = [...]string{BadTicket: "bad ticket", Expired: "expired", NotYours: "not yours", NoTicket: "no ticket", TooMany: "too many pairs"}

func (c Code) String() string {
	if c == 0 || int(c) >= len(codeNames) {
		return fmt.Sprintf("code(%d)", uint8(c))
	}
	return codeNames[c]
}
