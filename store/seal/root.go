package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
)

// rootSize is the size of a root in bytes.
const rootSize = 32

// Root is the secret from which every key of one sealed state is derived. It is
// random, lives in the keyring only, and never encrypts anything itself.
type Root struct{ secret [rootSize]byte }

// NewRoot makes a random root.
func NewRoot() *Root {
	r := newRoot()
	rand.Read(r.secret[:])
	return r
}

// newRoot returns an empty root, in memory that stays out of the swap.
func newRoot() *Root {
	r := new(Root)
	pin(r.secret[:])
	return r
}

// clone copies a root for one who may outlive it.
func (r *Root) clone() *Root {
	c := newRoot()
	c.secret = r.secret
	return c
}

// Purposes of keys. Two purposes never share a key, so that what one layer writes
// means nothing to another.
const (
	forPageMAC = "page mac"
	forSectors = "sectors of " // and the role of the file
	forRows    = "rows"
)

// subkey derives the key of one purpose: HKDF-SHA-256 (RFC 5869). The root is
// uniformly random already, so the extract step is left out (section 3.3). It is written
// out here, because crypto/hkdf leaves copies of what it derives in memory.
func (r *Root) subkey(purpose string, size int) []byte {
	out := make([]byte, 0, (size+sha256.Size-1)/sha256.Size*sha256.Size)
	h := hmac.New(sha256.New, r.secret[:])
	defer wipeObject(h)
	for n := byte(1); len(out) < size; n++ {
		h.Reset()
		if len(out) > 0 {
			h.Write(out[len(out)-sha256.Size:])
		}
		io.WriteString(h, "enclave seal v1: ")
		io.WriteString(h, purpose)
		h.Write([]byte{n})
		out = h.Sum(out)
	}
	clear(out[size:])
	return out[:size]
}

// Wipe overwrites the secret. The root is of no use afterwards.
func (r *Root) Wipe() { clear(r.secret[:]) }

// Format keeps the secret out of whatever prints a root, under any verb.
func (r *Root) Format(f fmt.State, _ rune) { fmt.Fprint(f, "seal.Root(secret)") }
