package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// A sealed value: its version, the number of the root, AES-256-GCM with a random
// nonce of 12 bytes before the ciphertext. Version and number are authenticated with
// the context.
//
//	 0        1          5         17
//	┌────────┬──────────┬─────────┬──────────────────┐
//	│ 0xe1   │ root     │ nonce   │ ciphertext, tag  │
//	└────────┴──────────┴─────────┴──────────────────┘
const (
	valueVersion = 0xe1 // not the first byte of DER or JSON
	valueHead    = 5
	nonceSize    = 12
	tagSize      = 16
)

var (
	// ErrValue is returned for a sealed value that does not open: damaged, copied
	// from another row, or of another state.
	ErrValue = errors.New("a sealed value does not open where it is")
	// ErrWiped is returned once the keys are gone from memory.
	ErrWiped = errors.New("the keys were dropped")
)

// Seal seals a secret inside a row. context names the row and column; the value
// opens under the same context only.
func (k *Keyring) Seal(context string, secret []byte) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(k.roots) == 0 {
		return nil, ErrWiped
	}
	n := k.newest()
	out := make([]byte, valueHead+nonceSize, valueHead+nonceSize+len(secret)+tagSize)
	out[0] = valueVersion
	binary.BigEndian.PutUint32(out[1:], n.number)
	rand.Read(out[valueHead:])
	return n.values.Seal(out, out[valueHead:], secret, valueData(out, context)), nil
}

// Open opens what Seal made.
func (k *Keyring) Open(context string, sealed []byte) ([]byte, error) {
	if len(sealed) < valueHead+nonceSize+tagSize || sealed[0] != valueVersion {
		return nil, ErrValue
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	number := binary.BigEndian.Uint32(sealed[1:])
	for _, n := range k.roots {
		if n.number == number {
			nonce, ct := sealed[valueHead:valueHead+nonceSize], sealed[valueHead+nonceSize:]
			secret, err := n.values.Open(nil, nonce, ct, valueData(sealed, context))
			if err != nil {
				return nil, ErrValue
			}
			return secret, nil
		}
	}
	return nil, ErrValue
}

// valueCipher is the cipher of the values under one root. It is made once: a change seals
// and opens a value or two, and deriving the key each time took as long as sealing a page.
type valueCipher struct {
	cipher.AEAD
	block cipher.Block
}

func newValueCipher(r *Root) valueCipher {
	key := r.subkey(forRows, 32)
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only a key of another size can fail
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		panic(err) // AES has the right block size
	}
	pinCipher(b)
	pinCipher(g)
	return valueCipher{g, b}
}

// wipe overwrites the keys.
func (c valueCipher) wipe() {
	wipeObject(c.block)
	wipeObject(c.AEAD)
}

func valueData(head []byte, context string) []byte {
	return append(append(make([]byte, 0, valueHead+len(context)), head[:valueHead]...), context...)
}
