package enrol

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// TestGoSpiffeAgrees asks an independent implementation about what we issue. It
// verifies at the real time, so the certificates are of now.
func TestGoSpiffeAgrees(t *testing.T) {
	now := time.Now()
	org := wire.NewOrgID(now)
	ca, err := NewCA(org, now)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(nil)
	td, err := spiffeid.TrustDomainFromString(string(org))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := x509bundle.ParseRaw(td, ca.root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []svid.ID{svid.System(org, "k3j9x"), svid.Relay(org, "abc"), svid.Control(org)} {
		chain, err := ca.Issue(want.Kind, want.Name, wire.IdentityKey(key.Public().(ed25519.PublicKey)), now, "localhost", "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		certs, err := x509bundle.ParseRaw(td, bytes.Join(chain, nil))
		if err != nil {
			t.Fatal(err)
		}
		id, _, err := x509svid.Verify(certs.X509Authorities(), bundle)
		if err != nil || id.String() != want.String() {
			t.Errorf("go-spiffe says %s, %v; want %s", id, err, want)
		}
		other, err := NewCA(org, now)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := x509bundle.ParseRaw(td, other.root.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := x509svid.Verify(certs.X509Authorities(), foreign); err == nil {
			t.Error("go-spiffe accepts an SVID under a root that never signed it")
		}
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestCALoadsWhatItMarshals(t *testing.T) {
	org := wire.NewOrgID(start)
	ca, err := NewCA(org, start)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(org, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := again.WithLife(time.Hour).Issue(svid.KindSystem, "k3j9x", wire.IdentityKey{1}, start)
	if err != nil {
		t.Fatal(err)
	}
	// Accepted by who is five minutes behind, and for an hour.
	for at, want := range map[time.Duration]error{-5 * time.Minute: nil, -6 * time.Minute: svid.ErrNotYetValid, time.Hour: nil, time.Hour + time.Second: svid.ErrExpired} {
		if _, _, err := svid.Verify(chain, ca.Trust().Roots, org, start.Add(at)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("at %v: got %v, want %v", at, err, want)
		}
	}
	if _, err := LoadCA("other", cert, key); err == nil {
		t.Error("loaded under another organisation")
	}
	other, _ := NewCA(org, start)
	_, foreign, _ := other.Marshal()
	if _, err := LoadCA(org, cert, foreign); err == nil {
		t.Error("loaded with another root's key")
	}
	if _, err := ca.Issue("admin", "x", wire.IdentityKey{1}, start); !errors.Is(err, svid.ErrBadID) {
		t.Errorf("issued to an unknown kind: %v", err)
	}
	if _, err := ca.Issue(svid.KindSystem, "k3j9x", wire.IdentityKey{1}, start.Add(rootLife+time.Hour)); err == nil {
		t.Error("issued under an expired root")
	}
}

func TestServerCertRenewsAtHalfLife(t *testing.T) {
	org := wire.NewOrgID(start)
	ca, err := NewCA(org, start)
	if err != nil {
		t.Fatal(err)
	}
	now := start
	s, err := NewServerCert(ca, func() time.Time { return now }, "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		c, err := s.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		if _, root, err := svid.VerifyFirst(c.Certificate, ca.Fingerprint(), svid.KindControl, now); err != nil || !root.Equal(ca.root) {
			t.Fatalf("first contact: %v", err)
		}
		if err := c.Leaf.VerifyHostname("127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial()
	now = start.Add(12*time.Hour - time.Minute)
	if serial() != first {
		t.Error("renewed before half life")
	}
	now = start.Add(12 * time.Hour)
	second := serial()
	if second == first {
		t.Error("not renewed at half life")
	}
	now = start.Add(-time.Hour + 56*time.Minute) // the clock was set back
	if serial() == second {
		t.Error("shows a certificate that has not begun")
	}
}

func TestSecret(t *testing.T) {
	s := NewSecret()
	if len(s) != 29 || strings.Count(string(s), "-") != 4 {
		t.Fatalf("secret %q", s)
	}
	plain := strings.ReplaceAll(string(s), "-", "")
	for _, typed := range []string{string(s), plain, strings.ToUpper(string(s)), " " + string(s) + "\n",
		strings.ReplaceAll(strings.ReplaceAll(plain, "0", "O"), "1", "l")} {
		got, err := ParseSecret(typed)
		if err != nil || got != s || got.Hash() != s.Hash() {
			t.Errorf("%q reads as %q, %v", typed, got, err)
		}
	}
	if want := sha256.Sum256([]byte(s)); s.Hash() != want {
		t.Error("the hash is not SHA-256 of the canonical text")
	}
	for _, bad := range []string{"", "abcde", plain + "a", plain[:24], plain[:24] + "u", plain[:24] + "é", strings.Repeat("-", 200), strings.Repeat("-", 76) + plain} {
		if _, err := ParseSecret(bad); !errors.Is(err, ErrBadSecret) {
			t.Errorf("%q: %v", bad, err)
		} else if len(bad) > 5 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error quotes the secret")
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add("abcde-12345-fghjk-67890-mnpqr")
	f.Add("ABCDE 12345 FGHJK 67890 MNPQR\n")
	f.Add("-----")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseSecret(s)
		if err != nil {
			return
		}
		if again, err := ParseSecret(string(got)); err != nil || again != got || len(got) != 29 {
			t.Fatalf("%q reads as %q, which reads as %q, %v", s, got, again, err)
		}
	})
}

// lab is a desk over a real store.
type lab struct {
	*Desk
	store *store.Store
	c     store.Change
}

func newLab(t *testing.T) *lab {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ca, err := NewCA(wire.NewOrgID(start), start)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	c := store.Change{By: "admin:test", At: start}
	if _, err := s.Init(ctx, c, store.InitParams{ID: ca.Org(), Name: "lab", CACert: cert, CAKey: key, TicketKey: []byte("seed")}); err != nil {
		t.Fatal(err)
	}
	return &lab{&Desk{CA: ca, Store: s, TicketKey: []byte("public")}, s, c}
}

func (l *lab) key(t *testing.T, p store.KeyParams) Secret {
	t.Helper()
	secret := NewSecret()
	p.Secret = secret.Hash()
	if _, err := l.store.CreateKey(context.Background(), l.c, p); err != nil {
		t.Fatal(err)
	}
	return secret
}

func request(secret Secret, n byte) *wire.EnrolRequest {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
	return &wire.EnrolRequest{Version: wire.Version, Now: start, Secret: string(secret), Name: "box",
		Keys: svid.SignKeys(key, wire.WireGuardKey{n}, wire.DiscoKey{n}), Host: wire.Host{Platform: "linux/amd64"}}
}

func TestEnrolAndRenew(t *testing.T) {
	l, ctx := newLab(t), context.Background()
	req := request(l.key(t, store.KeyParams{Name: "k", Tags: []wire.Tag{"dev"}}), 1)
	resp, err := l.Enrol(ctx, req, "192.0.2.1", start)
	if err != nil {
		t.Fatal(err)
	}
	if resp.State != wire.Pending || string(resp.TicketKey) != "public" {
		t.Errorf("answer: %+v", resp)
	}
	roots, err := svid.Pool(resp.Roots)
	if err != nil {
		t.Fatal(err)
	}
	id, leaf, err := svid.Verify(resp.SVID, roots, resp.Org, start)
	if err != nil || id != svid.System(resp.Org, resp.System) {
		t.Fatalf("SVID is of %v, %v", id, err)
	}
	key, _ := svid.IdentityKey(leaf)
	sys, err := l.store.System(ctx, resp.System)
	if err != nil || key != req.Keys.Identity || !bytes.Equal(sys.SVID[0], leaf.Raw) {
		t.Fatalf("stored: %+v, %v", sys, err)
	}

	// Two days later, long past the SVID's end.
	later := start.AddDate(0, 0, 2)
	renew := &wire.RenewRequest{Now: later, Host: wire.Host{Version: "v2"}}
	again, err := l.Renew(ctx, id, key, renew, later)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := svid.Verify(again.SVID, roots, resp.Org, later); err != nil {
		t.Error(err)
	}
	if sys, _ := l.store.System(ctx, resp.System); sys.Host.Version != "v2" || !bytes.Equal(sys.SVID[0], again.SVID[0]) {
		t.Errorf("renewal not stored: %+v", sys.Host)
	}
	if _, err := l.Renew(ctx, id, wire.IdentityKey{9}, renew, later); codeOf(err) != api.CodeForbidden {
		t.Errorf("renewed for another key: %v", err)
	}
	if _, err := l.store.Revoke(ctx, l.c, resp.System); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Renew(ctx, id, key, renew, later); codeOf(err) != api.CodeForbidden {
		t.Errorf("renewed a revoked identity: %v", err)
	}
	if _, err := l.Enrol(ctx, req, "", start); codeOf(err) != api.CodeForbidden {
		t.Errorf("enrolled a revoked identity: %v", err)
	}
}

func TestRelayEnrolsAndRenews(t *testing.T) {
	l, ctx := newLab(t), context.Background()
	secret := l.key(t, store.KeyParams{Kind: store.RelayKey})
	_, key, _ := ed25519.GenerateKey(nil)
	req := &wire.EnrolRequest{Version: wire.Version, Now: start, Secret: string(secret), Name: "relay",
		Keys:  svid.SignKeys(key, wire.WireGuardKey{}, wire.DiscoKey{}),
		Relay: &wire.RelayInfo{Addr: "relay.example:443", STUN: []string{"relay.example:3478"}}}
	resp, err := l.Enrol(ctx, req, "", start)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := svid.Verify(resp.SVID, l.CA.Trust().Roots, resp.Org, start)
	if err != nil || id != svid.Relay(resp.Org, resp.Relay) {
		t.Fatalf("SVID is of %v, %v", id, err)
	}
	if _, err := l.Renew(ctx, id, req.Keys.Identity, &wire.RenewRequest{Now: start}, start); err != nil {
		t.Error(err)
	}
	sys := request(secret, 1)
	if _, err := l.Enrol(ctx, sys, "", start); codeOf(err) != api.CodeKeyUnknown {
		t.Errorf("a relay's key enrolled a system: %v", err)
	}
	req = request(l.key(t, store.KeyParams{}), 2)
	req.Relay = &wire.RelayInfo{Addr: "relay.example:443"}
	if _, err := l.Enrol(ctx, req, "", start); codeOf(err) != api.CodeKeyUnknown {
		t.Errorf("a system's key enrolled a relay: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	l, ctx := newLab(t), context.Background()
	one := 1
	good := l.key(t, store.KeyParams{})
	used := l.key(t, store.KeyParams{Uses: &one})
	if _, err := l.Enrol(ctx, request(used, 9), "", start); err != nil {
		t.Fatal(err)
	}
	short := l.key(t, store.KeyParams{Expires: store.End{At: start.Add(time.Minute)}})
	for name, tc := range map[string]struct {
		spoil func(*wire.EnrolRequest)
		code  string
		says  string
	}{
		"version":       {func(r *wire.EnrolRequest) { r.Version = 99 }, api.CodeBadRequest, "version 99"},
		"clock ahead":   {func(r *wire.EnrolRequest) { r.Now = start.Add(time.Hour) }, api.CodeClockSkew, "ahead of"},
		"clock behind":  {func(r *wire.EnrolRequest) { r.Now = start.Add(-time.Hour) }, api.CodeClockSkew, "behind"},
		"no clock":      {func(r *wire.EnrolRequest) { r.Now = time.Time{} }, api.CodeClockSkew, "clock"},
		"no secret":     {func(r *wire.EnrolRequest) { r.Secret = "hello" }, api.CodeInvalid, "five groups"},
		"unknown":       {func(r *wire.EnrolRequest) { r.Secret = string(NewSecret()) }, api.CodeKeyUnknown, ""},
		"used up":       {func(r *wire.EnrolRequest) { r.Secret = string(used) }, api.CodeKeyUsedUp, ""},
		"expired":       {func(r *wire.EnrolRequest) { r.Secret = string(short) }, api.CodeKeyExpired, ""},
		"name":          {func(r *wire.EnrolRequest) { r.Name = "Not A Name" }, api.CodeInvalid, "name"},
		"unsigned keys": {func(r *wire.EnrolRequest) { r.Keys.WireGuard[0]++ }, api.CodeInvalid, "keys"},
		"no keys":       {func(r *wire.EnrolRequest) { r.Keys = wire.Keys{} }, api.CodeInvalid, "keys"},
		"long host":     {func(r *wire.EnrolRequest) { r.Host.Hostname = strings.Repeat("x", 999) }, api.CodeInvalid, "host"},
	} {
		req, now := request(good, 3), start
		tc.spoil(req)
		if name == "expired" {
			now = start.Add(time.Minute)
		}
		_, err := l.Enrol(ctx, req, "", now)
		var p *api.Problem
		if !errors.As(err, &p) || p.Code != tc.code || !strings.Contains(p.Detail, tc.says) || p.Status < 400 || p.Title == "" {
			t.Errorf("%s: got %#v, want %s", name, err, tc.code)
		}
	}
	if list, _ := l.store.Systems(ctx); len(list) != 1 {
		t.Errorf("%d systems after refusals, want 1", len(list))
	}
}

func codeOf(err error) string {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}
