package seal

import (
	"crypto/ed25519"
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
