package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func hybrid(t testing.TB) Identity {
	t.Helper()
	id, _, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func sshKey(t testing.TB, key any) []byte {
	t.Helper()
	b, err := ssh.MarshalPrivateKey(key, "a comment")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(b)
}

// identities of every kind, by the name of the kind.
func identities(t testing.TB) map[string]Identity {
	t.Helper()
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Identity{"hybrid": hybrid(t)}
	for name, file := range map[string][]byte{"x25519": []byte("# made today\r\n\n" + x.String() + "\n"), "ssh": sshKey(t, ed), "ssh rsa": sshKey(t, r)} {
		list, err := ParseIdentities(file)
		if err != nil || len(list) != 1 {
			t.Fatal(name, list, err)
		}
		out[name] = list[0]
	}
	if out["passphrase"], err = Passphrase("correct horse"); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryKindOfRecipient(t *testing.T) {
	if testing.Short() {
		t.Skip("one goroutine, and long under the race detector")
	}
	ids := identities(t)
	for name, id := range ids {
		t.Run(name, func(t *testing.T) {
			if kind, _, _ := strings.Cut(name, " "); id.Recipient.Kind() != kind {
				t.Errorf("kind %s", id.Recipient.Kind())
			}
			k := NewKeyring(filepath.Join(t.TempDir(), KeyringName), made, id.Recipient)
			if err := k.Grow(made.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			again, err := ReadKeyring(k.path, []Identity{id})
			if err != nil {
				t.Fatal(err)
			}
			if len(again.roots) != 2 || *again.roots[0].Root != *k.roots[0].Root || *again.roots[1].Root != *k.roots[1].Root ||
				again.roots[1].number != 2 || !again.roots[1].made.Equal(made.Add(time.Hour)) {
				t.Errorf("read back %v", again.roots)
			}
			if err := again.Save(); err != nil { // a passphrase is remembered
				t.Fatal(err)
			}
			if name != "passphrase" { // its text is public, and enough to encrypt to
				r, err := ParseRecipient(id.Recipient.String() + " somebody@somewhere\n")
				if !strings.HasPrefix(name, "ssh") {
					r, err = ParseRecipient(" " + id.Recipient.String() + "\n")
				}
				if err != nil || r != id.Recipient {
					t.Errorf("recipient %v, %v", r, err)
				}
			}
			other := hybrid(t)
			if name == "passphrase" {
				if other, err = Passphrase("another"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := ReadKeyring(k.path, []Identity{other}); !errors.Is(err, ErrWrongIdentity) {
				t.Errorf("another identity: %v", err)
			}
			if info, err := os.Stat(k.path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
	t.Run("together", func(t *testing.T) {
		for name, tc := range map[string]struct {
			kinds []string
			want  error
		}{
			"classical":             {[]string{"x25519", "ssh", "ssh rsa"}, nil},
			"hybrid and classical":  {[]string{"hybrid", "x25519"}, ErrMixed},
			"a passphrase and more": {[]string{"passphrase", "x25519"}, ErrMixed},
		} {
			k := NewKeyring("", made)
			for _, kind := range tc.kinds {
				if err := k.Add(ids[kind].Recipient, false); err != nil {
					t.Fatal(err)
				}
			}
			b, err := k.append(nil)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("%s: %v", name, err)
			}
			for _, kind := range tc.kinds {
				if _, err2 := openKeyring(b, []Identity{ids[kind]}); err == nil && err2 != nil {
					t.Errorf("%s: %s does not open it: %v", name, kind, err2)
				}
			}
		}
	})
}

func TestAddAndRemove(t *testing.T) {
	a, b := hybrid(t), hybrid(t)
	k := NewKeyring(filepath.Join(t.TempDir(), KeyringName), made, a.Recipient)
	if err := k.Remove(a.Recipient.String()); !errors.Is(err, ErrLast) {
		t.Errorf("the last: %v", err)
	}
	if err := errors.Join(k.Add(b.Recipient, false), k.Add(b.Recipient, false)); err != nil || len(k.Recipients()) != 2 {
		t.Fatalf("%v, %v", k.Recipients(), err)
	}
	if err := errors.Join(k.Remove(a.Recipient.String()), k.Save()); err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(a.Recipient.String()); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("gone: %v", err)
	}
	if _, err := ReadKeyring(k.path, []Identity{a}); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("a removed recipient: %v", err)
	}
	if err := errors.Join(k.Add(a.Recipient, true), k.Save()); err != nil || len(k.Recipients()) != 1 {
		t.Fatalf("%v, %v", k.Recipients(), err)
	}
	if _, err := ReadKeyring(k.path, []Identity{b}); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("replaced: %v", err)
	}
	for range maxRecipients {
		if err := k.Add(hybrid(t).Recipient, false); err != nil {
			if len(k.recipients) != maxRecipients {
				t.Errorf("%d recipients: %v", len(k.recipients), err)
			}
			break
		}
	}
	if sealed, err := k.append(nil); err != nil || len(sealed) > maxKeyring {
		t.Errorf("%d hybrid recipients take %d bytes, %v", len(k.recipients), len(sealed), err)
	} else if _, err := openKeyring(sealed, []Identity{a}); err != nil {
		t.Error(err)
	}
}

func TestValue(t *testing.T) {
	k := NewKeyring(filepath.Join(t.TempDir(), KeyringName), made, hybrid(t).Recipient)
	sealed, err := k.Seal("organisation/a/ca_key", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Grow(made); err != nil { // older ones still open
		t.Fatal(err)
	}
	if got, err := k.Open("organisation/a/ca_key", sealed); err != nil || string(got) != "secret" {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, place := range []string{"organisation/b/ca_key", "organisation/a/ticket_key", ""} {
		if _, err := k.Open(place, sealed); !errors.Is(err, ErrValue) {
			t.Errorf("opens at %q: %v", place, err)
		}
	}
	for i := range sealed {
		spoilt := bytes.Clone(sealed)
		spoilt[i] ^= 1
		if _, err := k.Open("organisation/a/ca_key", spoilt); !errors.Is(err, ErrValue) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := k.Open("organisation/a/ca_key", sealed[:i]); !errors.Is(err, ErrValue) {
			t.Errorf("cut to %d: %v", i, err)
		}
	}
	if again, _ := k.Seal("organisation/a/ca_key", []byte("secret")); bytes.Equal(again[valueHead:], sealed[valueHead:]) {
		t.Error("sealed twice alike")
	}
	k.Retire()
	if _, err := k.Open("organisation/a/ca_key", sealed); !errors.Is(err, ErrValue) {
		t.Errorf("a retired root: %v", err)
	}
	k.Wipe()
	if _, err := k.Seal("x", nil); !errors.Is(err, ErrWiped) {
		t.Errorf("wiped: %v", err)
	}
}

// TestReadingIsBounded gives keyrings that would cost too much to read.
func TestReadingIsBounded(t *testing.T) {
	id := hybrid(t)
	scrypt, err := age.NewScryptRecipient("p")
	if err != nil {
		t.Fatal(err)
	}
	scrypt.SetWorkFactor(10)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, scrypt)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	dear := bytes.Replace(b.Bytes(), []byte(" 10\n"), []byte(" 19\n"), 1)
	if bytes.Equal(dear, b.Bytes()) {
		t.Fatal("no work factor in the header")
	}
	p, err := Passphrase("p")
	if err != nil {
		t.Fatal(err)
	}
	crowd := make([]age.Recipient, 2*maxRecipients+1)
	for i := range crowd {
		x, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		crowd[i] = x.Recipient()
	}
	var many bytes.Buffer
	if w, err = age.Encrypt(&many, crowd...); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for name, tc := range map[string]struct {
		file []byte
		id   Identity
	}{
		"work factor 19":  {dear, p},
		"many recipients": {many.Bytes(), id}, // else it would be a wrong identity
		"too long":        {make([]byte, maxKeyring+1), id},
		"nothing":         {nil, id},
	} {
		if _, err := openKeyring(tc.file, []Identity{tc.id}); !errors.Is(err, ErrKeyring) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, err := NewKeyring("", made, id.Recipient).append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += 7 {
		spoilt := bytes.Clone(good)
		spoilt[i] ^= 1
		if _, err := openKeyring(spoilt, []Identity{id}); err == nil {
			t.Errorf("byte %d changed, and it opens", i)
		}
	}
	if _, err := openKeyring(good, nil); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("no identity: %v", err)
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	_, text, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Passphrase("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	k := NewKeyring("/x/"+KeyringName, made, p.Recipient)
	root, _, _ := k.Newest()
	secrets := []string{"correct horse", fmt.Sprintf("%x", root.secret[:6]), strings.Trim(fmt.Sprint(root.secret[:4]), "[]")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, arg := range []any{k, &p.Recipient, p.Recipient, []Recipient{p.Recipient}, k.Recipients()} {
			s := fmt.Sprintf(verb, arg)
			for _, secret := range secrets {
				if strings.Contains(s, secret) {
					t.Errorf("%s of %T prints %s", verb, arg, s)
				}
			}
		}
	}
	_, err = ParseIdentities([]byte(text[:len(text)-3] + "QQQ"))
	_, err2 := ParseIdentities([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\n" + text))
	_, err3 := ParseRecipient(text)
	for _, err := range []error{err, err2, err3} {
		if err == nil || strings.Contains(strings.ToUpper(err.Error()), text[20:40]) {
			t.Errorf("got %v", err)
		}
	}
}

func FuzzOpenKeyring(f *testing.F) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	id := Identity{x, Recipient{text: x.Recipient().String()}}
	good, err := NewKeyring("", made, id.Recipient).append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\n"))
	f.Add([]byte("age-encryption.org/v1\n-> X25519 x\n--- y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := openKeyring(b, []Identity{id}); err == nil && !bytes.Equal(b, good) {
			t.Errorf("opened %v", k)
		}
	})
}

func FuzzParseKeyring(f *testing.F) {
	f.Add([]byte(`{"version":1,"recipients":["passphrase"],"roots":[{"number":1,"made":"2026-03-01T12:00:00Z","root":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"recipients":["age1x"],"roots":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseKeyring(b)
		if err != nil {
			return
		}
		if len(k.roots) == 0 || len(k.roots) > maxRoots || len(k.recipients) == 0 || len(k.recipients) > maxRecipients {
			t.Errorf("%v", k)
		}
	})
}

func FuzzParseIdentities(f *testing.F) {
	_, text, err := GenerateIdentity()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	f.Add([]byte("# nothing\n"))
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := ParseIdentities(b)
		if err == nil && (len(ids) == 0 || len(ids) > maxIdentities) {
			t.Errorf("%d identities", len(ids))
		}
		for _, id := range ids {
			if err == nil && id.Identity == nil {
				t.Error("no identity")
			}
		}
	})
}
