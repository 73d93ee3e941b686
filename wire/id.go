package wire

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
)

// Identifiers are types so that one cannot stand where another is meant.
type (
	// OrgID names an organisation: a ULID of 26 characters.
	OrgID string
	// SystemID names a system: five letters or digits, also the last element of its
	// SPIFFE ID. It is public; knowing it grants nothing.
	SystemID string
	// PolicyID names a policy. It survives renames of the policy.
	PolicyID string
	// KeyID names an enrolment key; its secret is another thing.
	KeyID string
	// RelayID names a relay.
	RelayID string
	// Tag is a label of systems; see ParseTag.
	Tag string
	// Revision counts changes of an organisation's policy state. It only grows; an
	// agent refuses a lower one than it has seen.
	Revision uint64
)

var (
	tagPattern    = regexp.MustCompile(`^([a-z0-9]+[-.])*[a-z0-9]+$`)
	systemPattern = regexp.MustCompile(`^[a-z0-9]{5}$`)
	hostPattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

	// ErrBadTag and its kin say which rule an identifier broke.
	ErrBadTag    = errors.New("a tag is lower-case letters and digits, joined by single - or ., at most 64 bytes")
	ErrBadSystem = errors.New("a system ID is five lower-case letters or digits")
	ErrBadName   = errors.New("a name is lower-case letters, digits and inner hyphens, at most 63 bytes")
)

// ParseTag checks s against the rule for tags.
func ParseTag(s string) (Tag, error) {
	if len(s) > MaxTagLen || !tagPattern.MatchString(s) {
		return "", fmt.Errorf("tag %.80q: %w", s, ErrBadTag)
	}
	return Tag(s), nil
}

// ParseSystemID checks s against the rule for system IDs.
func ParseSystemID(s string) (SystemID, error) {
	if !systemPattern.MatchString(s) {
		return "", fmt.Errorf("system %.80q: %w", s, ErrBadSystem)
	}
	return SystemID(s), nil
}

// ParseName checks a system's name, which is one DNS label (RFC 1123).
func ParseName(s string) (string, error) {
	if !hostPattern.MatchString(s) {
		return "", fmt.Errorf("name %.80q: %w", s, ErrBadName)
	}
	return s, nil
}

// idAlphabet leaves out i, l, o and u: IDs are read aloud and typed.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID returns n random characters that a person can read to another.
// 32 letters divide 256 evenly, so each byte gives five unbiased bits.
func NewID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	for i := range b {
		b[i] = idAlphabet[b[i]%32]
	}
	return string(b)
}

// Public keys are 32 bytes each and differ in type, so that none is used for another.
type (
	// WireGuardKey is a Curve25519 public key of the data plane.
	WireGuardKey [32]byte
	// DiscoKey is a Curve25519 public key that authenticates path probes.
	DiscoKey [32]byte
	// IdentityKey is an Ed25519 public key, the subject of a system's SVID.
	IdentityKey [32]byte
)

func (k WireGuardKey) String() string { return encodeKey(k) }
func (k DiscoKey) String() string     { return encodeKey(k) }
func (k IdentityKey) String() string  { return encodeKey(k) }

// IsZero reports whether the key is unset.
func (k WireGuardKey) IsZero() bool { return k == WireGuardKey{} }

// IsZero reports whether the key is unset.
func (k DiscoKey) IsZero() bool { return k == DiscoKey{} }

// IsZero reports whether the key is unset.
func (k IdentityKey) IsZero() bool { return k == IdentityKey{} }

// MarshalText encodes the key as standard base64, as WireGuard's tools do.
func (k WireGuardKey) MarshalText() ([]byte, error) { return []byte(encodeKey(k)), nil }

// MarshalText encodes the key as standard base64.
func (k DiscoKey) MarshalText() ([]byte, error) { return []byte(encodeKey(k)), nil }

// MarshalText encodes the key as standard base64.
func (k IdentityKey) MarshalText() ([]byte, error) { return []byte(encodeKey(k)), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (k *WireGuardKey) UnmarshalText(b []byte) error { return decodeKey((*[32]byte)(k), b) }

// UnmarshalText accepts exactly what MarshalText writes.
func (k *DiscoKey) UnmarshalText(b []byte) error { return decodeKey((*[32]byte)(k), b) }

// UnmarshalText accepts exactly what MarshalText writes.
func (k *IdentityKey) UnmarshalText(b []byte) error { return decodeKey((*[32]byte)(k), b) }

func encodeKey(k [32]byte) string { return base64.StdEncoding.EncodeToString(k[:]) }

func decodeKey(k *[32]byte, b []byte) error {
	if len(b) != 44 {
		return errors.New("a key is 44 characters of base64")
	}
	var raw [33]byte
	n, err := base64.StdEncoding.Strict().Decode(raw[:], b)
	if err != nil || n != 32 {
		return errors.New("a key is 44 characters of base64")
	}
	copy(k[:], raw[:32])
	return nil
}

// KeyStatement is what an identity key signs to vouch for the keys that are used
// with it. A peer verifies it before it configures either key, so a control plane
// that hands out foreign keys under a system's name is found out.
//
//	"enclave keys v1" 0x00 | identity 32 | wireguard 32 | disco 32
func KeyStatement(id IdentityKey, wg WireGuardKey, disco DiscoKey) []byte {
	b := make([]byte, 0, 16+96)
	b = append(b, "enclave keys v1\x00"...)
	b = append(b, id[:]...)
	b = append(b, wg[:]...)
	return append(b, disco[:]...)
}
