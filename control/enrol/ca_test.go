package enrol

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/svid"
)

// TestARootIsLoadedWhole: what does not belong together signs nothing.
func TestARootIsLoadedWhole(t *testing.T) {
	if _, err := NewCA("no trust domain", start); err == nil {
		t.Error("a root for what cannot stand in a SPIFFE ID")
	}
	org := wire.NewOrgID(start)
	made := func(org wire.OrgID) (cert, key []byte) {
		ca, err := NewCA(org, start)
		if err != nil {
			t.Fatal(err)
		}
		if cert, key, err = ca.Marshal(); err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	cert, key := made(org)
	ca, err := LoadCA(org, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := svid.Verify(issue(t, ca, svid.KindSystem, start), ca.Trust().Roots, org, start); err != nil {
		t.Errorf("what a loaded root issues: %v", err)
	}
	_, otherKey := made(org)
	foreign, foreignKey := made(wire.NewOrgID(start))
	head := append([]byte{key[0] + 1}, key[1:]...)
	private, _ := x509.ParsePKCS8PrivateKey(key)
	tmpl := &x509.Certificate{NotBefore: start, NotAfter: start.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	nameless, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, private.(ed25519.PrivateKey).Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ cert, key []byte }{
		"no certificate":       {nil, key},
		"no key":               {cert, nil},
		"a key cut":            {cert, key[:len(key)-1]},
		"a key and more":       {cert, append(key[:len(key):len(key)], 0)},
		"a key of another":     {cert, head}, // another algorithm's
		"another root's key":   {cert, otherKey},
		"another organisation": {foreign, foreignKey},
		"no organisation":      {nameless, key},
	} {
		if _, err := LoadCA(org, c.cert, c.key); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	short := ca.WithLife(time.Hour)
	if ca.Wipe(); string(ca.key) != string(make([]byte, ed25519.PrivateKeySize)) || string(short.key) != string(ca.key) {
		t.Error("a key that was wiped is still there")
	}
}

func issue(t *testing.T, ca *CA, kind string, now time.Time, hosts ...string) [][]byte {
	t.Helper()
	chain, err := ca.Issue(kind, "k3j9x", wire.IdentityKey(ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)), now, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// TestAnSVIDLivesWithinItsRoot, as long as was asked and no longer.
func TestAnSVIDLivesWithinItsRoot(t *testing.T) {
	ca, err := NewCA(wire.NewOrgID(start), start)
	if err != nil {
		t.Fatal(err)
	}
	from, until := start.Add(-backdate), start.Add(rootLife)
	for name, c := range map[string]struct {
		ca         *CA
		now        time.Time
		begin, end time.Time
	}{
		"as usual":                  {ca, start.Add(time.Hour), start.Add(time.Hour - backdate), start.Add(time.Hour + DefaultLife)},
		"an hour":                   {ca.WithLife(time.Hour), start, from, start.Add(time.Hour)},
		"a second":                  {ca.WithLife(time.Second), start, from, start.Add(time.Second)},
		"no life is the usual one":  {ca.WithLife(0), start, from, start.Add(DefaultLife)},
		"less than none, too":       {ca.WithLife(-1), start, from, start.Add(DefaultLife)},
		"before the root":           {ca, start.Add(-time.Minute), from, start.Add(DefaultLife - time.Minute)},
		"shortly before it is over": {ca, until.Add(-time.Hour), until.Add(-time.Hour - backdate), until},
	} {
		leaf, err := x509.ParseCertificate(issue(t, c.ca, svid.KindSystem, c.now)[0])
		if err != nil {
			t.Fatal(err)
		}
		if !leaf.NotBefore.Equal(c.begin) || !leaf.NotAfter.Equal(c.end) {
			t.Errorf("%s: %s to %s, want %s to %s", name, leaf.NotBefore, leaf.NotAfter, c.begin, c.end)
		}
	}
	if _, err := ca.Issue(svid.KindSystem, "k3j9x", wire.IdentityKey{1}, until); err == nil {
		t.Error("a root whose time is over signs")
	}
	if _, err := ca.Issue("user", "k3j9x", wire.IdentityKey{1}, start); err == nil {
		t.Error("a kind that there is not has an SVID")
	}
}

// TestWhoIsCalledShowsTheRoot: a first contact finds the root in a server's chain, and a
// browser its host; a system's chain is the leaf alone, which every map carries.
func TestWhoIsCalledShowsTheRoot(t *testing.T) {
	ca, err := NewCA(wire.NewOrgID(start), start)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind  string
		hosts []string
		want  int
	}{
		{svid.KindSystem, nil, 1},
		{svid.KindRun, nil, 1},
		{svid.KindRelay, nil, 1},
		{svid.KindControl, nil, 2},
		{svid.KindSystem, []string{"control.example", "192.0.2.1", "2001:db8::1"}, 2},
	} {
		chain := issue(t, ca, c.kind, start, c.hosts...)
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(chain) != c.want || c.want == 2 && string(chain[1]) != string(ca.root.Raw) {
			t.Errorf("%s with hosts %q: a chain of %d, want %d", c.kind, c.hosts, len(chain), c.want)
		}
		for _, h := range c.hosts {
			if err := leaf.VerifyHostname(h); err != nil {
				t.Error(err)
			}
		}
		if leaf.VerifyHostname("elsewhere.example") == nil {
			t.Errorf("%s is also elsewhere", c.kind)
		}
	}
	now := func() time.Time { return start }
	if _, err := NewServerCert(ca, now, "b\u00fccher.example"); err == nil {
		t.Error("a host that cannot stand in a certificate is found at the first call only")
	}
	if real, err := NewCA(wire.NewOrgID(start), time.Now()); err != nil {
		t.Error(err)
	} else if _, err := NewServerCert(real, nil); err != nil {
		t.Errorf("without a clock of its own: %v", err)
	}
}
