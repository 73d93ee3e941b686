package svid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

const org = wire.OrgID("01aryz6s41tsv4rrffq69g5fav")

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// authority is a root for tests, with the freedom to issue what must be refused.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, key crypto.Signer) *authority {
	t.Helper()
	if key == nil {
		_, key, _ = ed25519.GenerateKey(nil)
	}
	tmpl := &x509.Certificate{
		NotBefore: start.Add(-1000 * time.Hour), NotAfter: start.Add(1000 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a leaf for id; edit may spoil it.
func (a *authority) issue(t testing.TB, id ID, key crypto.Signer, edit func(*x509.Certificate)) []byte {
	t.Helper()
	tmpl := &x509.Certificate{
		URIs: []*url.URL{id.URL()}, NotBefore: start, NotAfter: start.Add(24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVerify(t *testing.T) {
	ca, other, key := newAuthority(t, nil), newAuthority(t, nil), newKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecCA := newAuthority(t, ec)
	me := System(org, "k3j9x")
	good := ca.issue(t, me, key, nil)
	for _, tc := range []struct {
		name  string
		chain [][]byte
		roots *x509.CertPool
		now   time.Time
		want  error
		says  string
	}{
		{"good", [][]byte{good}, ca.pool(), start, nil, ""},
		{"good with root", [][]byte{good, ca.cert.Raw}, ca.pool(), start, nil, ""},
		{"last second", [][]byte{good}, ca.pool(), start.Add(24 * time.Hour), nil, ""},
		{"expired", [][]byte{good}, ca.pool(), start.Add(25 * time.Hour), ErrExpired, "clock here says 2026-03-02T13:00:00Z"},
		{"not yet", [][]byte{good}, ca.pool(), start.Add(-time.Minute), ErrNotYetValid, "check the clock"},
		{"root expired", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.NotAfter = start.Add(2000 * time.Hour) })},
			ca.pool(), start.Add(1500 * time.Hour), ErrExpired, "clock"},
		{"other root", [][]byte{other.issue(t, me, key, nil)}, ca.pool(), start, ErrUnknownRoot, ""},
		{"other root sent along", [][]byte{other.issue(t, me, key, nil), other.cert.Raw}, ca.pool(), start, ErrUnknownRoot, ""},
		{"no roots", [][]byte{good}, x509.NewCertPool(), start, ErrUnknownRoot, ""},
		{"other organisation", [][]byte{ca.issue(t, System("other", "k3j9x"), key, nil)}, ca.pool(), start, ErrWrongOrg, "other"},
		{"two names", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.URIs = append(c.URIs, me.URL()) })}, ca.pool(), start, ErrMalformed, "2 URI"},
		{"no name", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.URIs = nil })}, ca.pool(), start, ErrMalformed, "0 URI"},
		{"a CA", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.IsCA = true })}, ca.pool(), start, ErrMalformed, "CA"},
		{"signs certificates", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })}, ca.pool(), start, ErrMalformed, "usage"},
		{"no purpose", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.ExtKeyUsage = nil })}, ca.pool(), start, ErrMalformed, "purpose"},
		{"a client's alone", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })}, ca.pool(), start, ErrMalformed, "purpose"},
		{"a server's alone", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })}, ca.pool(), start, ErrMalformed, "purpose"},
		{"ECDSA leaf", [][]byte{ca.issue(t, me, ec, nil)}, ca.pool(), start, ErrMalformed, "Ed25519"},
		{"ECDSA root", [][]byte{ecCA.issue(t, me, key, nil)}, ecCA.pool(), start, ErrMalformed, "Ed25519"},
		{"web page", [][]byte{ca.issue(t, me, key, func(c *x509.Certificate) { c.URIs[0], _ = url.Parse("https://example.com/") })}, ca.pool(), start, ErrMalformed, "spiffe"},
		{"empty", nil, ca.pool(), start, ErrMalformed, "0 certificates"},
		{"too long", [][]byte{good, good, good, good}, ca.pool(), start, ErrMalformed, "4 certificates"},
		{"too large", [][]byte{make([]byte, wire.MaxCertLen+1)}, ca.pool(), start, ErrMalformed, "bytes"},
		{"garbage", [][]byte{[]byte("hello")}, ca.pool(), start, ErrMalformed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, leaf, err := Verify(tc.chain, tc.roots, org, tc.now)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%q does not say %q", err, tc.says)
			}
			if err == nil && (id != me || leaf == nil) {
				t.Fatalf("got %v", id)
			}
		})
	}
}

func TestVerifyFirst(t *testing.T) {
	ca, other, key := newAuthority(t, nil), newAuthority(t, nil), newKey(t)
	control := ca.issue(t, Control(org), key, nil)
	print := Fingerprint(ca.cert.Raw)
	for _, tc := range []struct {
		name  string
		chain [][]byte
		now   time.Time
		want  error
	}{
		{"good", [][]byte{control, ca.cert.Raw}, start, nil},
		{"root missing", [][]byte{control}, start, ErrFingerprint},
		{"another root", [][]byte{other.issue(t, Control(org), key, nil), other.cert.Raw}, start, ErrFingerprint},
		// The right root after a leaf that it never signed: the attack to stop.
		{"borrowed root", [][]byte{other.issue(t, Control(org), key, nil), ca.cert.Raw}, start, ErrUnknownRoot},
		{"a system, not control", [][]byte{ca.issue(t, System(org, "k3j9x"), key, nil), ca.cert.Raw}, start, ErrWrongPeer},
		{"clock behind", [][]byte{control, ca.cert.Raw}, start.Add(-time.Minute), ErrNotYetValid},
		{"clock ahead", [][]byte{control, ca.cert.Raw}, start.AddDate(0, 0, 3), ErrExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, root, err := VerifyFirst(tc.chain, print, KindControl, tc.now)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err == nil && (id.Org != org || !root.Equal(ca.cert)) {
				t.Fatalf("learned %v", id)
			}
		})
	}
}

// TestALeafIsNoRoot: whoever pins the fingerprint of a server's own certificate would trust
// whoever has its key, and nobody else, for ever.
func TestALeafIsNoRoot(t *testing.T) {
	control := newAuthority(t, nil).issue(t, Control(org), newKey(t), nil)
	if _, _, err := VerifyFirst([][]byte{control}, Fingerprint(control), KindControl, start); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want %v", err, ErrMalformed)
	}
}

func TestVerifyPeer(t *testing.T) {
	ca, key := newAuthority(t, nil), newKey(t)
	keys := SignKeys(key, wire.WireGuardKey{1}, wire.DiscoKey{2})
	peer := wire.Peer{ID: "k3j9x", WireGuard: keys.WireGuard, Disco: keys.Disco, KeySignature: keys.Signature,
		SVID: [][]byte{ca.issue(t, System(org, "k3j9x"), key, nil)}}
	got, err := VerifyPeer(&peer, ca.pool(), org, start)
	if err != nil || got != keys.Identity {
		t.Fatalf("got %v, %v", got, err)
	}
	for name, tc := range map[string]struct {
		spoil func(*wire.Peer)
		want  error
	}{
		"foreign wireguard key": {func(p *wire.Peer) { p.WireGuard[0]++ }, ErrKeyStatement},
		"foreign disco key":     {func(p *wire.Peer) { p.Disco[0]++ }, ErrKeyStatement},
		"zero key":              {func(p *wire.Peer) { p.Disco = wire.DiscoKey{} }, ErrKeyStatement},
		"no signature":          {func(p *wire.Peer) { p.KeySignature = nil }, ErrKeyStatement},
		"somebody else's name":  {func(p *wire.Peer) { p.ID = "aaaaa" }, ErrWrongPeer},
		"somebody else's SVID":  {func(p *wire.Peer) { p.SVID = [][]byte{ca.issue(t, System(org, "k3j9x"), newKey(t), nil)} }, ErrKeyStatement},
		"an SVID that is over": {func(p *wire.Peer) {
			p.SVID = [][]byte{ca.issue(t, System(org, "k3j9x"), key, func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Second) })}
		}, ErrExpired},
		"no SVID at all": {func(p *wire.Peer) { p.ID, p.SVID = "", nil }, ErrMalformed},
		"a relay's SVID": {func(p *wire.Peer) { p.SVID = [][]byte{ca.issue(t, Relay(org, "k3j9x"), key, nil)} }, ErrWrongPeer},
	} {
		p := peer
		tc.spoil(&p)
		if _, err := VerifyPeer(&p, ca.pool(), org, start); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

// TestTheChainMayHaveAMiddle: what a root vouches for may vouch in turn; and a middle that
// nobody sends proves nothing.
func TestTheChainMayHaveAMiddle(t *testing.T) {
	ca, key := newAuthority(t, nil), newKey(t)
	middle := newAuthority(t, nil)
	tmpl := &x509.Certificate{NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, middle.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	middle.cert, _ = x509.ParseCertificate(der)
	leaf, id := middle.issue(t, System(org, "k3j9x"), key, nil), System(org, "k3j9x")
	if got, _, err := Verify([][]byte{leaf, der}, ca.pool(), org, start); err != nil || got != id {
		t.Errorf("with its middle: %v, %v", got, err)
	}
	if _, _, err := Verify([][]byte{leaf}, ca.pool(), org, start); !errors.Is(err, ErrUnknownRoot) {
		t.Errorf("without its middle: %v", err)
	}
}

// TestAMissingKeyIsNoKey: a zero key is a point of small order, for which anybody signs.
func TestAMissingKeyIsNoKey(t *testing.T) {
	for name, spoil := range map[string]func(*wire.Keys){
		"identity":  func(k *wire.Keys) { k.Identity = wire.IdentityKey{} },
		"wireguard": func(k *wire.Keys) { k.WireGuard = wire.WireGuardKey{} },
		"disco":     func(k *wire.Keys) { k.Disco = wire.DiscoKey{} },
	} {
		k := SignKeys(newKey(t), wire.WireGuardKey{1}, wire.DiscoKey{2})
		spoil(&k)
		if err := CheckKeys(&k); !errors.Is(err, ErrKeyStatement) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func (a *authority) source(t testing.TB, id ID, root bool, edit func(*x509.Certificate)) Source {
	key := newKey(t)
	c := &tls.Certificate{Certificate: [][]byte{a.issue(t, id, key, edit)}, PrivateKey: key}
	if root {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return func() (*tls.Certificate, error) { return c, nil }
}

// handshake returns both sides' errors and the server's view.
func handshake(t testing.TB, server, client *tls.Config) (tls.ConnectionState, tls.ConnectionState, error, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // the client learns of a refusal only by reading
		}
		a.Close()
		done <- err
	}()
	cerr := c.Handshake()
	if cerr == nil {
		_, cerr = c.Read(make([]byte, 1))
	}
	b.Close()
	serr := <-done
	return s.ConnectionState(), c.ConnectionState(), serr, cerr
}

func TestTLS(t *testing.T) {
	ca, other := newAuthority(t, nil), newAuthority(t, nil)
	at := func(now time.Time) Trust {
		return Trust{Org: org, Roots: ca.pool(), Now: func() time.Time { return now }}
	}
	me, server := System(org, "k3j9x"), ca.source(t, Control(org), true, nil)
	mine := ca.source(t, me, false, nil)
	old := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = start.Add(-48*time.Hour), start.Add(-24*time.Hour)
	}
	early := func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }
	want := ID{Kind: KindControl}
	for _, tc := range []struct {
		name             string
		demand           Demand
		client           *tls.Config
		serverSays, says error // nil server error and nil client error: it works
		peer             error // of Peer at the server
	}{
		{"mutual", ClientRequired, ClientConfig(at(start), mine, want), nil, nil, nil},
		{"by full name", ClientRequired, ClientConfig(at(start), mine, Control(org)), nil, nil, nil},
		{"no certificate", ClientRequired, ClientConfig(at(start), nil, want), errAny, errAny, nil},
		{"no certificate, optional", ClientOptional, ClientConfig(at(start), nil, want), nil, nil, ErrNoPeer},
		{"foreign certificate, optional", ClientOptional, ClientConfig(at(start), other.source(t, me, false, nil), want), ErrUnknownRoot, errAny, nil},
		{"expired", ClientOptional, ClientConfig(at(start), ca.source(t, me, false, old), want), ErrExpired, errAny, nil},
		{"expired, to renew", ClientOptionalExpired, ClientConfig(at(start), ca.source(t, me, false, old), want), nil, nil, ErrExpired},
		{"expired and foreign, to renew", ClientOptionalExpired, ClientConfig(at(start), other.source(t, me, false, old), want), ErrUnknownRoot, errAny, nil},
		{"not begun, to renew", ClientOptionalExpired, ClientConfig(at(start), ca.source(t, me, false, early), want), ErrNotYetValid, errAny, nil},
		{"client's clock behind", ClientRequired, ClientConfig(at(start.Add(-time.Hour)), mine, want), errAny, ErrNotYetValid, nil},
		{"wrong kind", ClientRequired, ClientConfig(at(start), mine, ID{Kind: KindRelay}), errAny, ErrWrongPeer, nil},
		{"wrong name", ClientRequired, ClientConfig(at(start), mine, ID{Kind: KindControl, Name: "two"}), errAny, ErrWrongPeer, nil},
		{"first contact", ClientOptional, FirstContactConfig(Fingerprint(ca.cert.Raw), at(start).Now), nil, nil, ErrNoPeer},
		{"first contact, other root", ClientOptional, FirstContactConfig(Fingerprint(other.cert.Raw), at(start).Now), errAny, ErrFingerprint, nil},
		{"TLS 1.2", ClientOptional, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, errAny, errAny, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ss, cs, serr, cerr := handshake(t, ServerConfig(at(start), server, tc.demand), tc.client)
			match(t, "server", serr, tc.serverSays)
			match(t, "client", cerr, tc.says)
			if serr != nil || cerr != nil {
				return
			}
			id, key, err := Peer(&ss, start)
			match(t, "peer", err, tc.peer)
			if err == nil && (id != me || key.IsZero()) {
				t.Errorf("peer is %v", id)
			}
			if errors.Is(err, ErrExpired) {
				if id, _, err := PeerToRenew(&ss); err != nil || id != me {
					t.Errorf("renewing peer is %v, %v", id, err)
				}
			}
			if got, root, err := FirstContact(&cs); err != nil || got != org || !root.Equal(ca.cert) {
				t.Errorf("first contact learned %s, %v", got, err)
			}
		})
	}
}

var errAny = errors.New("any error")

func match(t *testing.T, who string, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) || want != nil && want != errAny && !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", who, got, want)
	}
}

func TestPeerOutlivesItsSVID(t *testing.T) {
	ca := newAuthority(t, nil)
	leaf, err := x509.ParseCertificate(ca.issue(t, System(org, "k3j9x"), newKey(t), nil))
	if err != nil {
		t.Fatal(err)
	}
	cs := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	if _, _, err := Peer(cs, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Peer(cs, start.Add(25*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Fatalf("got %v, want ErrExpired", err)
	}
}

func TestPool(t *testing.T) {
	ca := newAuthority(t, nil)
	other := newAuthority(t, nil)
	pool, err := Pool([][]byte{ca.cert.Raw, other.cert.Raw})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []*authority{ca, other} {
		if _, _, err := Verify([][]byte{one.issue(t, System(org, "k3j9x"), newKey(t), nil)}, pool, org, start); err != nil {
			t.Errorf("by a root of the pool: %v", err)
		}
	}
	if _, err := Pool([][]byte{ca.cert.Raw, []byte("garbage")}); !errors.Is(err, ErrMalformed) {
		t.Errorf("garbage: %v", err)
	}
	if _, err := Pool(nil); !errors.Is(err, ErrUnknownRoot) {
		t.Fatalf("no roots: %v", err)
	}
	if _, err := Pool([][]byte{ca.issue(t, System(org, "k3j9x"), newKey(t), nil)}); !errors.Is(err, ErrMalformed) {
		t.Fatalf("leaf as root: %v", err)
	}
}

func TestParseID(t *testing.T) {
	for _, s := range []string{
		"", "spiffe://", "spiffe://o", "spiffe://o/system", "spiffe://o/system/", "spiffe:///system/a",
		"spiffe://o/system/a/", "spiffe://o/system/a/b", "spiffe://O/system/a", "spiffe://o/system/A", "spiffe://o/System/a",
		"SPIFFE://o/system/a", "https://o/system/a", "spiffe://o:1/system/a", "spiffe://u@o/system/a", "spiffe://o/system/a?x",
		"spiffe://o/system/a#x", "spiffe://o/system/%61", "spiffe://o/system/..", "spiffe://o/user/a", "spiffe://o/system/-a",
		"o/system/a", "spiffe://o/system/a-", "spiffe://o-/system/a", "spiffe://o/system/{", "spiffe://o/system/a:",
		"spiffe://" + strings.Repeat("o", maxOrgLen+1) + "/system/a", "spiffe://o/system/" + strings.Repeat("a", maxNameLen+1),
	} {
		if id, err := ParseID(s); !errors.Is(err, ErrBadID) {
			t.Errorf("%q: got %v, %v", s, id, err)
		}
	}
	id, err := ParseID("spiffe://o/system/k3j9x")
	if err != nil || id != System("o", "k3j9x") || id.SystemID() != "k3j9x" || id.RelayID() != "" {
		t.Fatalf("got %v, %v", id, err)
	}
	for want, names := range map[ID]struct {
		system wire.SystemID
		relay  wire.RelayID
	}{
		Run("o", "k3j9x"): {"k3j9x", ""}, Relay("o", "r-1"): {"", "r-1"}, Control("o"): {"", ""},
		System(wire.OrgID(strings.Repeat("o", maxOrgLen)), wire.SystemID(strings.Repeat("a", maxNameLen))): {wire.SystemID(strings.Repeat("a", maxNameLen)), ""},
	} {
		if id, err := ParseID(want.String()); err != nil || id != want || id.SystemID() != names.system || id.RelayID() != names.relay {
			t.Errorf("%v reads as %v, of system %q and relay %q, %v", want, id, id.SystemID(), id.RelayID(), err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"spiffe://o/system/k3j9x", "spiffe://01aryz6s41tsv4rrffq69g5fav/control/main", "spiffe://o/relay/a-b", "spiffe://o//", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if id.String() != s || id.URL().String() != s || !id.Valid() {
			t.Fatalf("%q reads as %v, writes as %q and %q", s, id, id, id.URL())
		}
	})
}

func FuzzVerify(f *testing.F) {
	ca := newAuthority(f, nil)
	f.Add(ca.issue(f, System(org, "k3j9x"), newKey(f), nil))
	f.Add(ca.cert.Raw)
	pool := ca.pool()
	f.Fuzz(func(t *testing.T, der []byte) {
		id, leaf, err := Verify([][]byte{der}, pool, org, start)
		if err == nil && (id.Org != org || leaf.IsCA) {
			t.Fatalf("accepted %v", id)
		}
	})
}

func BenchmarkVerifyPeer(b *testing.B) {
	ca, key := newAuthority(b, nil), newKey(b)
	keys := SignKeys(key, wire.WireGuardKey{1}, wire.DiscoKey{2})
	peer := wire.Peer{ID: "k3j9x", WireGuard: keys.WireGuard, Disco: keys.Disco, KeySignature: keys.Signature,
		SVID: [][]byte{ca.issue(b, System(org, "k3j9x"), key, nil)}}
	pool := ca.pool()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := VerifyPeer(&peer, pool, org, start); err != nil {
			b.Fatal(err)
		}
	}
}
