package seal

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestIdentityFilesAreBounded: a file that opens the state is a few lines; a larger one is
// refused before it is read as anything.
func TestIdentityFilesAreBounded(t *testing.T) {
	_, text, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		size int
		ok   bool
	}{{len(text) + 1, true}, {maxIdentityFile, true}, {maxIdentityFile + 1, false}} {
		file := text + "\n" + strings.Repeat("\n", c.size-len(text)-1)
		if ids, err := ParseIdentities([]byte(file)); (err == nil) != c.ok || c.ok && len(ids) != 1 {
			t.Errorf("%d bytes: %d identities, %v", len(file), len(ids), err)
		}
	}
}

// TestARecipientIsOneKey: what follows an SSH key is no part of it, and is not dropped.
func TestARecipientIsOneKey(t *testing.T) {
	pub, _, _ := ed25519.GenerateKey(nil)
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	if r, err := ParseRecipient(line + " ann@laptop"); err != nil || r.text != line {
		t.Errorf("one key: %q, %v", r.text, err)
	}
	for name, text := range map[string]string{"two keys": line + "\n" + line, "half a key": line[:len(line)-8]} {
		if _, err := ParseRecipient(text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestADocumentOpensWithItsKeyring: and with no other.
func TestADocumentOpensWithItsKeyring(t *testing.T) {
	dir := t.TempDir()
	if f, _, err := OpenFile(dir, "agent.json", nil); err != nil || f == nil {
		t.Fatalf("%v, %v", f, err)
	}
	if _, _, err := OpenFile(dir, "agent.json", nil); err != nil {
		t.Errorf("again: %v", err)
	}
	stranger, _, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if f, _, err := OpenFile(dir, "agent.json", []Identity{stranger}); err == nil || f != nil {
		t.Errorf("a stranger's identity opens it: %v", err)
	}
}

// TestADocumentIsOfItsName: one is not taken for another, and what a backup brings gets
// the names of documents alone. Whoever knows a recipient can make a backup for it.
func TestADocumentIsOfItsName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k := NewKeyring("", made)
	if err := k.PutDocument(dir, "agent.json", []byte("an agent's")); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Rename(at("agent.json"), at("relay.json")); err != nil {
		t.Fatal(err)
	}
	if b, err := NewFile(dir, "relay.json", k).Load(); !errors.Is(err, ErrValue) {
		t.Errorf("an agent's document opens as a relay's: %q, %v", b, err)
	}
	for _, name := range []string{"", KeyringName, IdentityName, "../agent.json", "agent.json/../context.json"} {
		if err := k.PutDocument(dir, name, []byte("x")); err == nil {
			t.Errorf("%q is put into a state", name)
		}
	}
}

// TestRootsComeInOrder: those of a backup are numbered upwards, whole and few.
func TestRootsComeInOrder(t *testing.T) {
	root := func(n uint32) rootFile { return rootFile{n, made, make([]byte, rootSize)} }
	var many []rootFile
	for n := range uint32(maxRoots) {
		many = append(many, root(n+1))
	}
	for name, list := range map[string][]rootFile{
		"":               {root(1), root(3)},
		"none":           {},
		"a short one":    {{1, made, make([]byte, rootSize-1)}},
		"number 0":       {root(0)},
		"a number twice": {root(1), root(1)},
		"backwards":      {root(2), root(1)},
		"too many":       many,
	} {
		b, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Reborn("", made, b); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
