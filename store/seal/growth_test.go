package seal

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAKeyringGrows by roots of their own: the newest seals, each opens what it has sealed
// for as long as it is there, and one that is retired or wiped is gone from memory.
func TestAKeyringGrows(t *testing.T) {
	id, path := hybrid(t), filepath.Join(t.TempDir(), KeyringName)
	k := NewKeyring(path, made, id.Recipient)
	var values [][]byte
	check := func(roots []uint32, opens ...bool) {
		t.Helper()
		if err := k.Save(); err != nil {
			t.Fatal(err)
		}
		again, err := ReadKeyring(path, []Identity{id})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []*Keyring{k, again} {
			if got := k.Roots(); !slices.Equal(got, roots) {
				t.Errorf("roots %d, want %d", got, roots)
			}
			for i, v := range values {
				if secret, err := k.Open("row", v); (err == nil && string(secret) == "secret") != opens[i] {
					t.Errorf("value %d with roots %d: %q, %v", i, roots, secret, err)
				}
			}
		}
		if k.path != again.path {
			t.Errorf("it was read from %q and is saved to %q", k.path, again.path)
		}
	}
	seal := func() {
		v, err := k.Seal("row", []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	seal()
	check([]uint32{1}, true)
	first, _, _ := k.Newest()
	if err := k.Grow(made); err != nil {
		t.Fatal(err)
	}
	seal()
	check([]uint32{1, 2}, true, true)
	k.Retire()
	check([]uint32{2}, false, true)
	if *first != (Root{}) {
		t.Error("a root that was retired is in memory still")
	}
	if err := k.Grow(made); err != nil {
		t.Fatal(err)
	}
	check([]uint32{2, 3}, false, true) // a number never comes back
	for len(k.Roots()) < maxRoots {
		if err := k.Grow(made); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Grow(made); !errors.Is(err, ErrKeyring) {
		t.Errorf("one root more than a keyring holds: %v", err)
	}
	last, _, _ := k.Newest()
	if k.Wipe(); *last != (Root{}) {
		t.Error("a root that was wiped is in memory still")
	}
	if _, err := k.Seal("row", nil); !errors.Is(err, ErrWiped) {
		t.Errorf("a wiped keyring seals: %v", err)
	}
}

// TestARewrapThatFailsChangesNothing: neither in memory nor on disk.
func TestARewrapThatFailsChangesNothing(t *testing.T) {
	id, other := hybrid(t), hybrid(t)
	path := filepath.Join(t.TempDir(), KeyringName)
	k := NewKeyring(path, made, id.Recipient)
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	no, fine := errors.New("no"), func() error { return nil }
	add := func() error { return k.Add(other.Recipient, false) }
	for name, c := range map[string]struct{ change, ready func() error }{
		"the change":    {func() error { add(); return no }, fine},
		"the last word": {add, func() error { return no }},
		"the recipients": {func() error {
			k.Add(Recipient{text: "nobody"}, false)
			return nil
		}, fine},
	} {
		if err := k.Rewrap(c.change, c.ready); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := ReadKeyring(path, []Identity{other}); !errors.Is(err, ErrWrongIdentity) {
			t.Errorf("%s: the new recipient opens the file: %v", name, err)
		}
		if got := k.Recipients(); len(got) != 1 || got[0] != id.Recipient {
			t.Errorf("%s: recipients %v", name, got)
		}
	}
	if err := k.Rewrap(add, fine); err != nil {
		t.Fatal(err)
	}
	for _, one := range []Identity{id, other} {
		if _, err := ReadKeyring(path, []Identity{one}); err != nil {
			t.Error(err)
		}
	}
}

// TestAKeyringIsReadWhole: what nobody could have written is no keyring.
func TestAKeyringIsReadWhole(t *testing.T) {
	text := hybrid(t).Recipient.text
	roots := func(n int) (list []rootFile) {
		for i := range n {
			list = append(list, rootFile{uint32(i + 1), made, make([]byte, rootSize)})
		}
		return list
	}
	for name, c := range map[string]struct {
		f  keyringFile
		ok bool
	}{
		"whole":               {keyringFile{1, []string{text}, roots(1)}, true},
		"the largest":         {keyringFile{1, slices.Repeat([]string{text}, maxRecipients), roots(maxRoots)}, true},
		"a passphrase":        {keyringFile{1, []string{passphrase}, roots(1)}, true},
		"a later version":     {keyringFile{2, []string{text}, roots(1)}, false},
		"no roots":            {keyringFile{1, []string{text}, nil}, false},
		"roots without end":   {keyringFile{1, []string{text}, roots(maxRoots + 1)}, false},
		"nobody":              {keyringFile{1, nil, roots(1)}, false},
		"everybody":           {keyringFile{1, slices.Repeat([]string{text}, maxRecipients+1), roots(1)}, false},
		"no recipient of age": {keyringFile{1, []string{"age1nobody"}, roots(1)}, false},
		"half a root":         {keyringFile{1, []string{text}, []rootFile{{1, made, make([]byte, rootSize/2)}}}, false},
	} {
		b, err := json.Marshal(c.f)
		if err != nil {
			t.Fatal(err)
		}
		k, err := parseKeyring(b)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (len(k.roots) != len(c.f.Roots) || len(k.recipients) != len(c.f.Recipients) || k.recipients[0].text != c.f.Recipients[0]) {
			t.Errorf("%s: %d roots for %v", name, len(k.roots), k.recipients)
		}
	}
	if _, err := parseKeyring([]byte(strings.Repeat("{", 9))); err == nil {
		t.Error("no document of ours is read")
	}
}

// TestARootIsKeptBeforeItSeals: what a value is sealed under opens after a crash at any
// instant, since the file has the root before the keyring in memory does, or neither has.
func TestARootIsKeptBeforeItSeals(t *testing.T) {
	id, dir := hybrid(t), filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k := NewKeyring(filepath.Join(dir, KeyringName), made, id.Recipient)
	if err := k.Grow(made); err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Seal("row", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := ReadKeyring(k.path, []Identity{id})
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := kept.Open("row", sealed); err != nil || string(secret) != "secret" {
		t.Errorf("the keyring on disk opens %q, %v", secret, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := k.Grow(made); err == nil {
		t.Error("a keyring that cannot be written grows")
	}
	if sealed, err = k.Seal("row", []byte("secret")); err != nil || !slices.Equal(k.Roots(), []uint32{1, 2}) {
		t.Errorf("roots %d after that, %v", k.Roots(), err)
	}
	if secret, err := kept.Open("row", sealed); err != nil || string(secret) != "secret" {
		t.Errorf("what is sealed after that opens by what is on disk as %q, %v", secret, err)
	}
}
