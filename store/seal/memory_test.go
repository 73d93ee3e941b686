package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"testing"
	"unsafe"
)

func TestSubkeyIsHKDF(t *testing.T) {
	r := NewRoot()
	for _, size := range []int{1, 32, 33, 64, 200} {
		want, err := hkdf.Expand(sha256.New, r.secret[:], "enclave seal v1: "+forRows, size)
		if got := r.subkey(forRows, size); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %x, want %x", size, got, want)
		}
	}
}

// TestWipe finds the key in what a cipher allocates, and after wiping it does not.
func TestWipe(t *testing.T) {
	key := bytes.Repeat([]byte{0xa7, 0x11, 0x5c, 0xe9}, 8)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	in := func(object any) bool {
		p := (*[2]unsafe.Pointer)(unsafe.Pointer(&object))[1]
		return bytes.Contains(unsafe.Slice((*byte)(p), 400), key)
	}
	if !in(block) || !in(gcm) {
		t.Skip("this release keeps keys elsewhere")
	}
	wipeObject(block)
	wipeObject(gcm)
	if in(block) || in(gcm) {
		t.Error("a key is still there")
	}
	// What was wiped shares nothing with what others use.
	h := hmac.New(sha256.New, key)
	want := h.Sum(nil)
	wipeObject(h)
	if got := hmac.New(sha256.New, key).Sum(nil); !bytes.Equal(got, want) {
		t.Error("another object was wiped, too")
	}
	NewRoot().Wipe()
}
