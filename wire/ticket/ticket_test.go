package ticket

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"enclave/wire"
)

const org = wire.OrgID("01ARZ3NDEKTSV4RRFFQ69G5FAV")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// key is derived from one byte, so that failures and fuzz seeds repeat.
func key(b byte) (ed25519.PublicKey, ed25519.PrivateKey) {
	priv := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	return priv.Public().(ed25519.PublicKey), priv
}

func TestVerifyReturnsWhatWasSigned(t *testing.T) {
	pub, priv := key(1)
	end := now.Add(time.Hour)
	ab, ba := Sign(priv, org, "aaaaa", "bbbbb", end), Sign(priv, org, "bbbbb", "aaaaa", end)
	if !bytes.Equal(ab, ba) {
		t.Error("one pair has two tickets")
	}
	if len(ab) > wire.MaxTicketLen {
		t.Errorf("ticket is %d bytes, over wire.MaxTicketLen", len(ab))
	}
	got, err := Verify(pub, ab, org, now)
	if want := (Ticket{"aaaaa", "bbbbb", end}); err != nil || got != want {
		t.Fatalf("Verify = %v, %v; want %v", got, err, want)
	}
	for _, c := range []struct {
		id, other wire.SystemID
		ok        bool
	}{{"aaaaa", "bbbbb", true}, {"bbbbb", "aaaaa", true}, {"ccccc", "", false}, {"", "", false}} {
		if other, ok := got.Other(c.id); other != c.other || ok != c.ok {
			t.Errorf("Other(%q) = %q, %t", c.id, other, ok)
		}
	}
}

func TestTicketEndsOnItsSecond(t *testing.T) {
	pub, priv := key(1)
	raw := Sign(priv, org, "aaaaa", "bbbbb", now.Add(900*time.Millisecond)) // cut to now
	if _, err := Verify(pub, raw, org, now.Add(-time.Nanosecond)); err != nil {
		t.Errorf("just before the end: %v", err)
	}
	if _, err := Verify(pub, raw, org, now); !errors.Is(err, ErrExpired) {
		t.Errorf("at the end: %v, want %v", err, ErrExpired)
	}
}

// stretched is a ticket whose organisation is n bytes longer, signed as it stands.
func stretched(priv ed25519.PrivateKey, good []byte, n int) []byte {
	body := bytes.Clone(good[:len(good)-ed25519.SignatureSize])
	body = append(append(body[:2:2], bytes.Repeat([]byte{'x'}, n)...), body[2:]...)
	body[1] += byte(n)
	return append(body, ed25519.Sign(priv, signed(body))...)
}

func TestVerifyRefuses(t *testing.T) {
	pub, priv := key(1)
	other, otherPriv := key(2)
	end := now.Add(time.Hour)
	good := Sign(priv, org, "aaaaa", "bbbbb", end)
	change := func(i int, b byte) []byte {
		c := bytes.Clone(good)
		c[i] = b
		return c
	}
	for _, c := range []struct {
		name string
		pub  ed25519.PublicKey
		raw  []byte
		want error
	}{
		{"empty", pub, nil, ErrMalformed},
		{"cut", pub, good[:len(good)-1], ErrMalformed},
		{"trailing byte", pub, append(bytes.Clone(good), 0), ErrMalformed},
		{"too long", pub, make([]byte, wire.MaxTicketLen+1), ErrMalformed},
		{"version", pub, change(0, 2), ErrVersion},
		{"organisation size", pub, change(1, 27), ErrMalformed},
		{"organisation size zero", pub, change(1, 0), ErrMalformed},
		{"changed pair", pub, change(2+26, 'c'), ErrSignature},
		{"changed end", pub, change(2+26+10, 0x7f), ErrSignature},
		{"changed signature", pub, change(len(good)-1, good[len(good)-1]^1), ErrSignature},
		{"other key", other, good, ErrSignature},
		{"signed by another", pub, Sign(otherPriv, org, "aaaaa", "bbbbb", end), ErrSignature},
		{"no key", nil, good, ErrSignature},
		{"other organisation", pub, Sign(priv, "01BX5ZZKBKACTAV9WEVGEMMVRZ", "aaaaa", "bbbbb", end), ErrOrg},
		{"ID of other letters", pub, Sign(priv, org, "AAAAA", "bbbbb", end), ErrMalformed},
		{"organisation size over the limit", pub, stretched(priv, good, maxOrgLen+1-len(org)), ErrMalformed},
		{"no organisation", pub, Sign(priv, "", "aaaaa", "bbbbb", end), ErrMalformed},
		{"organisation too long", pub, Sign(priv, wire.OrgID(bytes.Repeat([]byte{'x'}, 300)), "aaaaa", "bbbbb", end), ErrMalformed},
		{"itself", pub, Sign(priv, org, "aaaaa", "aaaaa", end), ErrMalformed},
		{"ID too long", pub, Sign(priv, org, "aaaaab", "bbbbb", end), ErrMalformed},
		{"ID too short", pub, Sign(priv, org, "aaaa", "bbbbb", end), ErrMalformed},
		{"before 1970", pub, Sign(priv, org, "aaaaa", "bbbbb", time.Unix(-5, 0)), ErrExpired},
		{"after 9999", pub, Sign(priv, org, "aaaaa", "bbbbb", time.Unix(maxUnix+1, 0)), ErrMalformed},
	} {
		got, err := Verify(c.pub, c.raw, org, now)
		if !errors.Is(err, c.want) || got != (Ticket{}) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

// A signature by the same key over the bare fields, without the label, is no ticket.
func TestLabelSeparatesSignatures(t *testing.T) {
	pub, priv := key(1)
	good := Sign(priv, org, "aaaaa", "bbbbb", now.Add(time.Hour))
	body := good[:len(good)-ed25519.SignatureSize]
	forged := append(bytes.Clone(body), ed25519.Sign(priv, body)...)
	if _, err := Verify(pub, forged, org, now); !errors.Is(err, ErrSignature) {
		t.Errorf("unlabelled signature: %v, want %v", err, ErrSignature)
	}
}

func FuzzVerify(f *testing.F) {
	pub, priv := key(1)
	good := Sign(priv, org, "aaaaa", "bbbbb", now.Add(time.Hour))
	f.Add(good)
	f.Add(good[:fixedLen])
	f.Add(Sign(priv, "x", "0000a", "zzzzz", now.Add(time.Minute)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tk, err := Verify(pub, raw, org, now)
		if err != nil {
			return
		}
		// What verifies is exactly what Sign writes: one meaning, one encoding.
		if again := Sign(priv, org, tk.A, tk.B, tk.NotAfter); !bytes.Equal(again, raw) {
			t.Errorf("%x verifies as %v, which is written %x", raw, tk, again)
		}
	})
}

// FuzzFields signs whatever fields come, so that the checks behind the signature
// are reached too.
func FuzzFields(f *testing.F) {
	pub, priv := key(1)
	f.Add("aaaaa", "bbbbb", int64(1<<33))
	f.Add("", "\x00\x00\x00\x00\x00", int64(-1))
	f.Fuzz(func(t *testing.T, a, b string, secs int64) {
		raw := Sign(priv, org, wire.SystemID(a), wire.SystemID(b), time.Unix(secs, 0))
		tk, err := Verify(pub, raw, org, now)
		if err != nil {
			return
		}
		if _, ok := tk.Other(wire.SystemID(a)); !ok || a == b || tk.NotAfter.Unix() != secs {
			t.Errorf("Sign(%q, %q, %d) verifies as %v", a, b, secs, tk)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	pub, priv := key(1)
	raw := Sign(priv, org, "aaaaa", "bbbbb", now.Add(time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(pub, raw, org, now); err != nil {
			b.Fatal(err)
		}
	}
}
