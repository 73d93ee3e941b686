package wire

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// NewOrgID makes a ULID: 48 bits of Unix milliseconds and 80 random bits, in 26
// characters of Crockford's base 32. It is lower case, against the ULID habit,
// because it is also a SPIFFE trust domain and those have no upper case
// (SPIFFE-ID, section 2.1).
func NewOrgID(now time.Time) OrgID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	out := make([]byte, 26) // 130 bits: the top two are zero
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return OrgID(out)
}
