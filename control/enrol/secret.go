package enrol

import (
	"crypto/sha256"
	"errors"
	"strings"

	"enclave/store"
	"enclave/wire"
)

// Secret is the secret of an enrolment key as people see it: five groups of five
// lower-case letters or digits, joined by hyphens. The alphabet leaves out i, l, o
// and u. 25 characters of 5 bits are 125 bits.
type Secret string

const (
	groups   = 5
	groupLen = 5
	alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
)

// ErrBadSecret is returned for text that cannot be a secret. It never quotes the
// text, which may be a secret with one typing error.
var ErrBadSecret = errors.New("an enrolment secret is five groups of five letters or digits, joined by hyphens")

// NewSecret makes a secret.
func NewSecret() Secret { return grouped(wire.NewID(groups * groupLen)) }

// ParseSecret reads a secret the way people type and paste it: in either case,
// with or without hyphens and blanks, o for 0 and i or l for 1.
func ParseSecret(s string) (Secret, error) {
	if len(s) > 4*groups*groupLen {
		return "", ErrBadSecret
	}
	b := make([]byte, 0, groups*groupLen)
	for _, c := range []byte(strings.ToLower(s)) {
		switch c {
		case '-', ' ', '\t', '\r', '\n':
			continue
		case 'o':
			c = '0'
		case 'i', 'l':
			c = '1'
		}
		if strings.IndexByte(alphabet, c) < 0 {
			return "", ErrBadSecret
		}
		b = append(b, c)
	}
	if len(b) != groups*groupLen {
		return "", ErrBadSecret
	}
	return grouped(string(b)), nil
}

func grouped(s string) Secret {
	var b strings.Builder
	for i := 0; i < len(s); i += groupLen {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(s[i : i+groupLen])
	}
	return Secret(b.String())
}

// Hash is what the store keeps of a secret. A slow hash would protect a secret
// that can be guessed; this one cannot.
func (s Secret) Hash() store.SecretHash { return sha256.Sum256([]byte(s)) }
