package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"enclave/wire"
)

// Formats of records. Each is hashed in its own way (docs/format/audit.md).
const (
	Activity = 1 // of the time before the tree: the detail is in clear
	Current  = 2
)

// Outcomes.
const (
	Done   = "ok"
	Denied = "denied" // by authority: a wrong token, a missing scope, a refused key
	Failed = "failed"
)

// Limits of a record. What is written fits them; what is read is refused beyond them.
const (
	MaxWord   = 256       // bytes of an actor, an object, a subject
	MaxToken  = 64        // bytes of an action, an outcome, a request ID
	MaxDetail = 64 << 10  // bytes of a detail in clear
	MaxSealed = 128 << 10 // bytes of a sealed detail; those of the first format may be larger than MaxDetail
)

// Hash is a SHA-256.
type Hash = [sha256.Size]byte

// Record is one line of the trail.
type Record struct {
	Format   uint8
	Seq      int64 // from 1, without gaps
	At       time.Time
	Actor    string // admin:alice, token:ci, system:k3j9x, run:…, control
	Action   string // noun.verb: policy.create
	Object   string // what it happened to: system:k3j9x
	Revision wire.Revision
	Outcome  string
	Request  string // of the API, as the caller was told it; may be empty
	Subject  string // whom the detail is about; it is sealed under that one's key
	Key      uint32 // number of that key
	Detail   []byte // sealed; JSON in clear in the first format
	Prev     Hash   // of the record before; zero for the first
	Hash     Hash
}

// What begins the hashed bytes of each format, so that they mean nothing else.
const (
	activityMagic = "enclave activity v1\x00"
	recordMagic   = "enclave audit v2\x00"
)

// Sum computes the record's hash from its other fields. scratch may be nil; the buffer
// that is returned serves the next call.
func (r *Record) Sum(org wire.OrgID, scratch []byte) (Hash, []byte) {
	b := r.Append(scratch[:0], org)
	return sha256.Sum256(b), b
}

// Append appends the canonical encoding: what the hash is of.
func (r *Record) Append(b []byte, org wire.OrgID) []byte {
	magic := recordMagic
	if r.Format == Activity {
		magic = activityMagic
	}
	b = append(b, magic...)
	b = append(b, r.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Revision))
	b = appendText(b, string(org))
	b = appendText(b, r.Actor)
	b = appendText(b, r.Action)
	b = appendText(b, r.Object)
	if r.Format != Activity {
		b = appendText(b, r.Outcome)
		b = appendText(b, r.Request)
		b = appendText(b, r.Subject)
		b = binary.BigEndian.AppendUint32(b, r.Key)
	}
	return appendText(b, r.Detail)
}

func appendText[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// ErrRecord is returned for a record that breaks a limit.
var ErrRecord = errors.New("no acceptable audit record")

// Check says whether the record fits the limits.
func (r *Record) Check() error {
	if r.Format != Activity && r.Format != Current {
		return fmt.Errorf("%w: format %d", ErrRecord, r.Format)
	}
	if r.Seq < 1 {
		return fmt.Errorf("%w: number %d", ErrRecord, r.Seq)
	}
	for _, f := range [...]struct {
		name, text string
		most       int
	}{
		{"actor", r.Actor, MaxWord}, {"object", r.Object, MaxWord}, {"subject", r.Subject, MaxWord},
		{"action", r.Action, MaxToken}, {"outcome", r.Outcome, MaxToken}, {"request", r.Request, MaxToken},
	} {
		if len(f.text) > f.most {
			return fmt.Errorf("%w: %s: %d bytes, at most %d", ErrRecord, f.name, len(f.text), f.most)
		}
		if !utf8.ValidString(f.text) {
			return fmt.Errorf("%w: %s is no UTF-8", ErrRecord, f.name)
		}
	}
	if r.Format == Activity && (r.Outcome != "" || r.Request != "" || r.Subject != "" || r.Key != 0) {
		return fmt.Errorf("%w: the first format has no outcome, request, subject or key", ErrRecord)
	}
	if r.Format == Activity && !utf8.Valid(r.Detail) {
		return fmt.Errorf("%w: the detail is no UTF-8", ErrRecord)
	}
	if r.Format == Current && len(r.Detail) > MaxSealed {
		return fmt.Errorf("%w: detail: %d bytes, at most %d", ErrRecord, len(r.Detail), MaxSealed)
	}
	return nil
}
