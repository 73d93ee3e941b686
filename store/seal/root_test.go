package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/xts"
)

// TestRolesShareNothing puts the sealed bytes of one role where another's are: the
// same plaintext at the same sector has another ciphertext, and no page opens.
func TestRolesShareNothing(t *testing.T) {
	root := NewRoot()
	seen := make(map[string]role)
	for _, r := range []role{database, wal, journal, scratch, scratch} {
		b := make([]byte, sectorSize)
		newSectors(root, r).encrypt(b, 3)
		if other, ok := seen[string(b)]; ok {
			t.Errorf("%s and %s encrypt alike", r, other)
		}
		seen[string(b)] = r
		newSectors(root, r).decrypt(b, 3)
		if r != scratch && !bytes.Equal(b, make([]byte, sectorSize)) {
			t.Errorf("%s: no way back", r)
		}
	}
	page := make([]byte, pageSize)
	newPageMAC(root, wal).seal(page, 7)
	for _, tc := range []struct {
		m *pageMAC
		n int64
	}{{newPageMAC(root, database), 7}, {newPageMAC(root, wal), 8}, {newPageMAC(NewRoot(), wal), 7}} {
		if tc.m.open(bytes.Clone(page), tc.n) {
			t.Errorf("opened as %c %d", tc.m.head[0], tc.n)
		}
	}
	if !newPageMAC(root, wal).open(page, 7) || !bytes.Equal(page, make([]byte, pageSize)) {
		t.Error("the page itself does not open")
	}
}

// TestXTS holds the sectors against another implementation of the standard.
func TestXTS(t *testing.T) {
	key, b := make([]byte, 64), make([]byte, 3*sectorSize)
	for n := range uint64(300) {
		rand.Read(key)
		rand.Read(b)
		if n > 250 {
			n *= 1 << 50
		}
		other, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(b)
		for i := range uint64(3) {
			sector := want[i*sectorSize : (i+1)*sectorSize]
			other.Encrypt(sector, sector, n+i)
		}
		s, got := sectorsWith(key), bytes.Clone(b)
		if s.encrypt(got, int64(n)); !bytes.Equal(got, want) {
			t.Fatalf("sector %d: another ciphertext", n)
		}
		if s.decrypt(got, int64(n)); !bytes.Equal(got, b) {
			t.Fatalf("sector %d: no way back", n)
		}
	}
}

func TestRootIsNotPrinted(t *testing.T) {
	r := NewRoot()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, arg := range []any{r, struct{ R *Root }{r}} {
			if s := fmt.Sprintf(verb, arg); strings.Contains(s, fmt.Sprintf("%x", r.secret[:4])) || strings.Contains(s, fmt.Sprint(r.secret[0], r.secret[1])) {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
	r.Wipe()
	if *r != (Root{}) {
		t.Error("not wiped")
	}
}
