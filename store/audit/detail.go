package audit

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"strings"

	"enclave/wire"
)

// A sealed detail: what commits to its key, then AES-256-GCM. Each record has a key of
// its own, so the nonce is zero. The commitment makes sure that no second key opens it
// to another text, which GCM alone does not promise.
//
//	 0                       32
//	┌───────────────────────┬──────────────────┐
//	│ SHA-256 of label, key │ ciphertext, tag  │
//	└───────────────────────┴──────────────────┘

// KeySize is the size of a subject's key and of a record's.
const KeySize = 32

const (
	commitLabel = "enclave audit detail commitment v1\x00"
	keyInfo     = "enclave audit detail key v1\x00"
)

// ErrDetail is returned for a detail that does not open where it is.
var ErrDetail = errors.New("a sealed detail does not open")

// NewSubjectKey makes the key of a subject.
func NewSubjectKey() []byte {
	k := make([]byte, KeySize)
	rand.Read(k)
	return k
}

// RecordKey derives the key of one record from its subject's. Whoever has it can read
// this detail and no other.
func RecordKey(subjectKey []byte, org wire.OrgID, seq int64) []byte {
	info := make([]byte, 0, 128)
	info = append(append(info, keyInfo...), org...)
	info = binary.BigEndian.AppendUint64(append(info, 0), uint64(seq))
	k, err := hkdf.Expand(sha256.New, subjectKey, string(info), KeySize)
	if err != nil {
		panic(err) // only a length over 8 KB can fail
	}
	return k
}

// SealDetail seals the detail of a record, whose organisation, number and subject it is
// bound to.
func SealDetail(recordKey []byte, org wire.OrgID, r *Record, detail []byte) []byte {
	out := make([]byte, 0, sha256.Size+len(detail)+16)
	c := commitment(recordKey)
	return detailCipher(recordKey).Seal(append(out, c[:]...), make([]byte, 12), detail, detailPlace(org, r))
}

// OpenDetail opens what SealDetail made.
func OpenDetail(recordKey []byte, org wire.OrgID, r *Record) ([]byte, error) {
	if len(recordKey) != KeySize || len(r.Detail) < sha256.Size {
		return nil, ErrDetail
	}
	c := commitment(recordKey)
	if subtle.ConstantTimeCompare(c[:], r.Detail[:sha256.Size]) != 1 {
		return nil, ErrDetail
	}
	detail, err := detailCipher(recordKey).Open(nil, make([]byte, 12), r.Detail[sha256.Size:], detailPlace(org, r))
	if err != nil {
		return nil, ErrDetail
	}
	return detail, nil
}

func commitment(key []byte) Hash {
	b := make([]byte, 0, len(commitLabel)+KeySize)
	return sha256.Sum256(append(append(b, commitLabel...), key...))
}

func detailCipher(key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only a key of another size can fail
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		panic(err) // AES has the right block size
	}
	return g
}

// detailPlace is the record's identity, which the seal authenticates.
func detailPlace(org wire.OrgID, r *Record) []byte {
	b := append(make([]byte, 0, 128), org...)
	b = binary.BigEndian.AppendUint64(append(b, 0), uint64(r.Seq))
	b = binary.BigEndian.AppendUint32(b, r.Key)
	return append(b, r.Subject...)
}

// Subject is whom a record is about: the object where that is somebody, else the actor
// where that is somebody, else the organisation as a whole.
func Subject(actor, object string) string {
	for _, s := range []string{object, actor} {
		kind, name, _ := strings.Cut(s, ":")
		switch kind {
		case "system", "relay", "token", "admin", "person", "user", "run", "session":
			if name != "" {
				return s
			}
		case "stranger": // whoever was refused: one subject, or an attacker makes thousands
			return kind
		}
	}
	return "organisation"
}
