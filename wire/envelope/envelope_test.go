package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func pair(t testing.TB) (up, down *Sealer, atServer, atClient *Opener) {
	t.Helper()
	pub, priv, _ := ed25519.GenerateKey(nil)
	c, err := NewClient()
	if err != nil {
		t.Fatal(err)
	}
	w, down, atServer, err := Accept(&c.Hello, "s_1", priv)
	if err != nil {
		t.Fatal(err)
	}
	up, atClient, err = c.Finish(w, pub)
	if err != nil {
		t.Fatal(err)
	}
	return up, down, atServer, atClient
}

func TestBothWays(t *testing.T) {
	up, down, atServer, atClient := pair(t)
	for _, way := range []struct {
		s *Sealer
		o *Opener
	}{{up, atServer}, {down, atClient}} {
		for _, text := range []string{"one", "", "three"} {
			box, seq, err := way.s.Seal("enc", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := way.o.Open(box, seq, "enc"); err != nil || string(got) != text {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

// TestNoTwoHandshakesAreAlike: both sides bring what was never there before.
func TestNoTwoHandshakesAreAlike(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(nil)
	seen := make(map[string]bool)
	for range 4 {
		c, err := NewClient()
		if err != nil {
			t.Fatal(err)
		}
		w, _, _, err := Accept(&c.Hello, "s_1", priv)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{c.Hello.Key, c.Hello.Nonce, w.Key, w.Nonce, w.Signature} {
			if seen[string(b)] {
				t.Errorf("%x stands twice", b)
			}
			seen[string(b)] = true
		}
	}
}

func TestWhatIsBound(t *testing.T) {
	up, down, atServer, atClient := pair(t)
	_, other, _, _ := pair(t)
	first, _, _ := down.Seal("enc", []byte("first"))
	second, _, _ := down.Seal("enc", []byte("second"))
	mine, _, _ := up.Seal("enc", []byte("mine"))
	theirs, _, _ := other.Seal("enc", []byte("theirs"))
	changed := first
	changed.Ciphertext = "A" + changed.Ciphertext[1:]
	if changed == first {
		changed.Ciphertext = "B" + changed.Ciphertext[1:]
	}
	otherNonce, otherKey := first, first
	otherNonce.Nonce, otherKey.KID = second.Nonce, "2"
	for name, try := range map[string]func() error{
		"nonce changed":    func() error { _, err := atClient.Open(otherNonce, 1, "enc"); return err },
		"key changed":      func() error { _, err := atClient.Open(otherKey, 1, "enc"); return err },
		"left out":         func() error { _, err := atClient.Open(second, 2, "enc"); return err },
		"number changed":   func() error { _, err := atClient.Open(second, 1, "enc"); return err },
		"type changed":     func() error { _, err := atClient.Open(first, 1, "final"); return err },
		"another session":  func() error { _, err := atClient.Open(theirs, 1, "enc"); return err },
		"reflected":        func() error { _, err := atClient.Open(mine, 1, "enc"); return err },
		"text changed":     func() error { _, err := atClient.Open(changed, 1, "enc"); return err },
		"wrong side opens": func() error { _, err := atServer.Open(first, 1, "enc"); return err },
	} {
		if err := try(); !errors.Is(err, ErrSealed) && !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := atClient.Open(first, 1, "enc"); err != nil {
		t.Error(err)
	}
	if _, err := atClient.Open(first, 1, "enc"); !errors.Is(err, ErrOrder) {
		t.Errorf("replayed: %v", err)
	}
}

func TestAnActiveMiddlemanIsFound(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(nil)
	_, evil, _ := ed25519.GenerateKey(nil)
	for name, meddle := range map[string]func(h *Hello, w *Welcome) *Welcome{
		"speaks for itself": func(h *Hello, _ *Welcome) *Welcome {
			w, _, _, _ := Accept(h, "s_1", evil)
			return w
		},
		"claims the identity": func(h *Hello, w *Welcome) *Welcome {
			m, _, _, _ := Accept(h, "s_1", evil)
			m.Identity = w.Identity
			return m
		},
		"swaps its key in": func(h *Hello, w *Welcome) *Welcome {
			m, _, _, _ := Accept(h, "s_1", evil)
			n := *w
			n.Key = m.Key
			return &n
		},
		"moves the session": func(_ *Hello, w *Welcome) *Welcome { n := *w; n.Session = "s_2"; return &n },
		"names another identity": func(h *Hello, w *Welcome) *Welcome {
			n := *w
			n.Identity = evil.Public().(ed25519.PublicKey)
			sum := transcript(h, &n)
			n.Signature = ed25519.Sign(priv, sum[:])
			return &n
		},
		"answers another hello": func(h *Hello, _ *Welcome) *Welcome {
			c, _ := NewClient()
			w, _, _, _ := Accept(&c.Hello, "s_1", priv)
			return w
		},
	} {
		c, _ := NewClient()
		w, _, _, err := Accept(&c.Hello, "s_1", priv)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Finish(meddle(&c.Hello, w), pub); !errors.Is(err, ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNobodyIsNoIdentity: who has pinned nothing believes nobody.
func TestNobodyIsNoIdentity(t *testing.T) {
	c, _ := NewClient()
	if _, _, err := c.Finish(&Welcome{Session: "s_1"}, nil); !errors.Is(err, ErrIdentity) {
		t.Error(err)
	}
}

// TestTheLayoutIsThatOfItsPage makes by hand what docs/format/sandbox-envelope.md says, as
// another client would.
func TestTheLayoutIsThatOfItsPage(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(nil)
	c, _ := NewClient()
	w, down, _, err := Accept(&c.Hello, "s_1", priv)
	if err != nil {
		t.Fatal(err)
	}
	seen := "enclave sandbox handshake v1\x00" + "\x00\x00\x00\x03s_1" +
		"\x00\x00\x00\x41" + string(c.Hello.Key) + "\x00\x00\x00\x20" + string(c.Hello.Nonce) +
		"\x00\x00\x00\x41" + string(w.Key) + "\x00\x00\x00\x20" + string(w.Nonce) + "\x00\x00\x00\x20" + string(pub)
	sum := sha256.Sum256([]byte(seen))
	if !ed25519.Verify(pub, sum[:], w.Signature) {
		t.Fatal("the signature is not of the transcript")
	}
	theirs, err := ecdh.P256().NewPublicKey(w.Key)
	if err != nil {
		t.Fatal(err)
	}
	shared, _ := c.key.ECDH(theirs)
	key, _ := hkdf.Key(sha256.New, shared, sum[:], "enclave sandbox v1 server to client", 32)
	block, _ := aes.NewCipher(key)
	gcm, _ := cipher.NewGCM(block)
	for _, n := range []string{"\x01", "\x02"} {
		box, _, err := down.Seal("enc", []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		sealed, _ := base64.StdEncoding.DecodeString(box.Ciphertext)
		seq := strings.Repeat("\x00", 7) + n
		text, err := gcm.Open(nil, []byte("\x00\x00\x00\x00"+seq), sealed, []byte("enclave envelope v1\x00\x02"+seq+"\x03enc\x03s_1"))
		if err != nil || string(text) != "text" {
			t.Errorf("number %x: %q, %v", n, text, err)
		}
	}
}

// TestHandshakesAreWhole: what an agreement is made of has its size, on both sides.
func TestHandshakesAreWhole(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(nil)
	c, _ := NewClient()
	for name, h := range map[string]Hello{
		"nonce cut": {Key: c.Hello.Key, Nonce: c.Hello.Nonce[1:]},
		"no key":    {Nonce: c.Hello.Nonce},
		"no point":  {Key: make([]byte, len(c.Hello.Key)), Nonce: c.Hello.Nonce},
	} {
		if _, _, _, err := Accept(&h, "s_1", priv); !errors.Is(err, ErrHandshake) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, session := range []string{"", strings.Repeat("s", 256)} {
		if _, _, _, err := Accept(&c.Hello, session, priv); !errors.Is(err, ErrHandshake) {
			t.Errorf("a session of %d bytes: %v", len(session), err)
		}
	}
	w, _, _, err := Accept(&c.Hello, strings.Repeat("s", 255), priv)
	if err != nil {
		t.Fatal(err)
	}
	w.Nonce = w.Nonce[1:]
	sum := transcript(&c.Hello, w)
	w.Signature = ed25519.Sign(priv, sum[:]) // the server itself is at fault
	if _, _, err := c.Finish(w, pub); !errors.Is(err, ErrHandshake) {
		t.Errorf("a server's nonce cut: %v", err)
	}
}

func TestMessagesHaveALimit(t *testing.T) {
	up, _, atServer, _ := pair(t)
	if _, _, err := up.Seal("enc", make([]byte, MaxMessage+1)); err == nil {
		t.Error("a message over the limit is sealed")
	}
	box, seq, err := up.Seal(strings.Repeat("k", 255), make([]byte, MaxMessage))
	if err != nil || seq != 1 {
		t.Fatalf("the largest: number %d, %v", seq, err)
	}
	if _, err := atServer.Open(box, seq, strings.Repeat("k", 255)); err != nil {
		t.Errorf("the largest: %v", err)
	}
	if _, _, err := up.Seal(strings.Repeat("k", 256), nil); err == nil {
		t.Error("a kind over the limit is sealed")
	}
}

func FuzzOpen(f *testing.F) {
	_, down, _, _ := pair(f)
	box, seq, _ := down.Seal("enc", []byte("text"))
	text, _ := json.Marshal(box)
	f.Add(text, seq, "enc")
	f.Add([]byte(`{"kid":"1","nonceB64":"AAAAAAAAAAAAAAAB","ciphertextB64":"AAAA"}`), uint64(1), "enc")
	f.Fuzz(func(t *testing.T, text []byte, seq uint64, kind string) {
		var b Box
		if json.Unmarshal(text, &b) != nil {
			return
		}
		_, _, _, o := pair(t)
		if _, err := o.Open(b, seq, kind); err == nil {
			t.Fatal("opened what nobody sealed")
		}
	})
}

func FuzzHandshake(f *testing.F) {
	c, _ := NewClient()
	text, _ := json.Marshal(c.Hello)
	f.Add(text)
	f.Add([]byte(`{"keyB64":"","nonceB64":""}`))
	_, priv, _ := ed25519.GenerateKey(nil)
	f.Fuzz(func(t *testing.T, text []byte) {
		var h Hello
		if json.Unmarshal(text, &h) == nil {
			Accept(&h, "s", priv)
		}
	})
}
