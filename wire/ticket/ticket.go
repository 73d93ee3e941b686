// Package ticket is the statement by which control lets two systems meet at a relay.
//
// A relay knows no policy. It carries frames between two systems only while it holds
// a ticket for the pair: control signs one for each pair that a policy introduces,
// hands it to both, and gives it an end, so that a relay out of control's reach
// still closes on time. The layout, 38 bytes and the organisation's name:
//
//	+---------+----------+--------+---------+---------+-------------+---------------+
//	| version | org size | org    | A       | B       | not after   | signature     |
//	| 1       | 1        | n      | 5 ASCII | 5 ASCII | 8 unix, BE  | 64 Ed25519    |
//	+---------+----------+--------+---------+---------+-------------+---------------+
//
// A sorts before B, so one pair has one ticket. The signature (RFC 8032) covers the
// label "enclave pair ticket v1" 0x00 and all before it; the label keeps the key's
// other signatures from passing as tickets. A ticket is exact: a byte too many is
// refused, unlike in the other formats, since none of it may be unsigned. It says
// nothing about direction, ports or protocols: those are the receiver's filter's.
// Format: docs/format/pair-ticket.md. Why tickets: docs/decisions/0030.
package ticket

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"time"

	"enclave/wire"
)

// Version is the version of the layout.
//
//	1  first release
const Version = 1

const (
	label     = "enclave pair ticket v1\x00"
	systemLen = 5
	maxOrgLen = 64 // a ULID has 26; the rest is room for names in tests and labs
	fixedLen  = 1 + 1 + 2*systemLen + 8 + ed25519.SignatureSize
)

// What can be wrong with a ticket. All of them mean: no ticket.
var (
	ErrMalformed = errors.New("pair ticket: malformed")
	ErrVersion   = errors.New("pair ticket: unknown version")
	ErrSignature = errors.New("pair ticket: signature does not verify")
	ErrOrg       = errors.New("pair ticket: for another organisation")
	ErrExpired   = errors.New("pair ticket: expired")
)

// Ticket is a verified statement: A and B may meet at a relay while now < NotAfter.
type Ticket struct {
	A, B     wire.SystemID // A < B
	NotAfter time.Time
}

// Other returns the system that id may meet by this ticket, false when id is
// neither of the two.
func (t Ticket) Other(id wire.SystemID) (wire.SystemID, bool) {
	switch id {
	case t.A:
		return t.B, true
	case t.B:
		return t.A, true
	}
	return "", false
}

// Sign makes the ticket for a and b, in either order. notAfter is cut to the whole
// second before it: a ticket never lasts longer than was asked. Of identifiers that
// break the rules of package wire, and of a system with itself, it makes a ticket
// that Verify refuses.
func Sign(priv ed25519.PrivateKey, org wire.OrgID, a, b wire.SystemID, notAfter time.Time) []byte {
	if b < a {
		a, b = b, a
	}
	if len(org) > maxOrgLen {
		org = ""
	}
	raw := make([]byte, 0, fixedLen+len(org))
	raw = append(raw, Version, byte(len(org)))
	raw = append(raw, org...)
	raw = appendSystem(raw, a)
	raw = appendSystem(raw, b)
	raw = binary.BigEndian.AppendUint64(raw, uint64(max(0, notAfter.Unix())))
	return append(raw, ed25519.Sign(priv, signed(raw))...)
}

// appendSystem writes zeros for what is no system ID: cutting it to size would make
// a ticket for somebody else.
func appendSystem(raw []byte, id wire.SystemID) []byte {
	if _, err := wire.ParseSystemID(string(id)); err != nil {
		return append(raw, make([]byte, systemLen)...)
	}
	return append(raw, id...)
}

// Verify returns the ticket in raw when pub signed it for org and it counts at now.
// The errors are the ones above, for errors.Is.
func Verify(pub ed25519.PublicKey, raw []byte, org wire.OrgID, now time.Time) (Ticket, error) {
	if len(raw) < fixedLen || len(raw) > wire.MaxTicketLen {
		return Ticket{}, ErrMalformed
	}
	if raw[0] != Version {
		return Ticket{}, ErrVersion
	}
	n := int(raw[1])
	if n == 0 || n > maxOrgLen || len(raw) != fixedLen+n {
		return Ticket{}, ErrMalformed
	}
	// The signature comes before any field is looked at; the length check keeps
	// ed25519.Verify from panicking when no key was configured.
	body, sig := raw[:len(raw)-ed25519.SignatureSize], raw[len(raw)-ed25519.SignatureSize:]
	if len(pub) != ed25519.PublicKeySize || !ed25519.Verify(pub, signed(body), sig) {
		return Ticket{}, ErrSignature
	}
	if string(body[2:2+n]) != string(org) {
		return Ticket{}, ErrOrg
	}
	pair := body[2+n:]
	a, errA := wire.ParseSystemID(string(pair[:systemLen]))
	b, errB := wire.ParseSystemID(string(pair[systemLen : 2*systemLen]))
	secs := binary.BigEndian.Uint64(pair[2*systemLen:])
	if errA != nil || errB != nil || a >= b || secs > maxUnix {
		return Ticket{}, ErrMalformed
	}
	t := Ticket{A: a, B: b, NotAfter: time.Unix(int64(secs), 0).UTC()}
	if !now.Before(t.NotAfter) {
		return Ticket{}, ErrExpired
	}
	return t, nil
}

// maxUnix is the last second of the year 9999: beyond it time.Time has no RFC 3339.
const maxUnix = 253402300799

func signed(body []byte) []byte {
	b := make([]byte, 0, len(label)+fixedLen+maxOrgLen)
	b = append(b, label...)
	return append(b, body...)
}
