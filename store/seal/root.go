package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
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
// uniformly random already, so the extract step is left out (section 3.3).
func (r *Root) subkey(purpose string, size int) []byte {
	k, err := hkdf.Expand(sha256.New, r.secret[:], "enclave seal v1: "+purpose, size)
	if err != nil {
		panic(err) // only a size beyond 255 blocks can fail
	}
	return k
}

// Wipe overwrites the secret. The root is of no use afterwards.
func (r *Root) Wipe() { clear(r.secret[:]) }

// Format keeps the secret out of whatever prints a root, under any verb.
func (r *Root) Format(f fmt.State, _ rune) { fmt.Fprint(f, "seal.Root(secret)") }
