package enrol

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"enclave/wire"
	"enclave/wire/svid"
)

const (
	// rootLife is the life of an organisation's root. Agents pin it, so it is long.
	rootLife = 10 * 365 * 24 * time.Hour

	// DefaultLife is the life of an SVID. It bounds how long a stolen key is of use
	// where a revocation cannot be heard.
	DefaultLife = 24 * time.Hour

	// backdate is how far before now a certificate begins, so that a machine whose
	// clock is behind within the allowed skew accepts it.
	backdate = wire.MaxClockSkew
)

// CA is the organisation's certificate authority. It does not change after it was
// made and may be used from many goroutines.
type CA struct {
	org  wire.OrgID
	root *x509.Certificate
	key  ed25519.PrivateKey
	life time.Duration
}

// NewCA makes a root for an organisation.
func NewCA(org wire.OrgID, now time.Time) (*CA, error) {
	if !svid.Control(org).Valid() {
		return nil, fmt.Errorf("new root: organisation %.80q is no SPIFFE trust domain", string(org))
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("new root: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Enclave"}, CommonName: string(org) + " root"},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: string(org)}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs leaves, never another CA
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		return nil, fmt.Errorf("new root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("new root: %w", err)
	}
	return &CA{org, root, key, DefaultLife}, nil
}

// LoadCA reads a root and its key as Marshal wrote them.
func LoadCA(org wire.OrgID, cert, key []byte) (*CA, error) {
	root, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("load root: %w", err)
	}
	private, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("load root: key: %w", err)
	}
	if !private.Public().(ed25519.PublicKey).Equal(root.PublicKey) {
		return nil, errors.New("load root: the key does not belong to the certificate")
	}
	if len(root.URIs) != 1 || root.URIs[0].String() != "spiffe://"+string(org) {
		return nil, fmt.Errorf("load root: the certificate is not of organisation %s", org)
	}
	return &CA{org, root, private, DefaultLife}, nil
}

// ed25519Head is what stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410).
const ed25519Head = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"

// parseKey reads a key without the copies of it that crypto/x509 leaves in memory.
func parseKey(key []byte) (ed25519.PrivateKey, error) {
	if len(key) != len(ed25519Head)+ed25519.SeedSize || string(key[:len(ed25519Head)]) != ed25519Head {
		return nil, errors.New("it is no Ed25519 key in PKCS #8")
	}
	return ed25519.NewKeyFromSeed(key[len(ed25519Head):]), nil
}

// WithLife returns the same authority, whose SVIDs live as long as given. Zero is
// DefaultLife.
func (ca *CA) WithLife(life time.Duration) *CA {
	c := *ca
	if c.life = life; life <= 0 {
		c.life = DefaultLife
	}
	return &c
}

// Marshal returns the root as DER and its key as PKCS #8, for the store.
func (ca *CA) Marshal() (cert, key []byte, err error) {
	key, err = x509.MarshalPKCS8PrivateKey(ca.key)
	return ca.root.Raw, key, err
}

// Wipe overwrites the key, also that of copies made by WithLife.
func (ca *CA) Wipe() { clear(ca.key) }

// Org returns the organisation.
func (ca *CA) Org() wire.OrgID { return ca.org }

// Life returns the life of an SVID.
func (ca *CA) Life() time.Duration { return ca.life }

// Roots returns what others pin: the root's DER.
func (ca *CA) Roots() [][]byte { return [][]byte{ca.root.Raw} }

// Fingerprint returns the root's fingerprint, which people carry to first contacts.
func (ca *CA) Fingerprint() string { return svid.Fingerprint(ca.root.Raw) }

// Trust returns what a verifier of this organisation believes.
func (ca *CA) Trust() svid.Trust {
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	return svid.Trust{Org: ca.org, Roots: roots}
}

// Issue makes an SVID for a key, leaf first. hosts are DNS names and addresses
// that go into it besides the SPIFFE ID, for clients that check those; such a
// chain is a server's and ends in the root, so that a client which knows only the
// root's fingerprint can verify it.
func (ca *CA) Issue(kind, name string, key wire.IdentityKey, now time.Time, hosts ...string) ([][]byte, error) {
	id := svid.ID{Org: ca.org, Kind: kind, Name: name}
	if !id.Valid() {
		return nil, fmt.Errorf("issue: %s: %w", id, svid.ErrBadID)
	}
	if !now.Before(ca.root.NotAfter) {
		return nil, fmt.Errorf("issue: the root ended %s", ca.root.NotAfter.Format(time.RFC3339))
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Enclave"}, CommonName: kind + " " + name},
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             later(now.Add(-backdate), ca.root.NotBefore),
		NotAfter:              earlier(now.Add(ca.life), ca.root.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, ca.root, ed25519.PublicKey(key[:]), ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue %s: %w", id, err)
	}
	if kind == svid.KindControl || len(hosts) > 0 {
		return [][]byte{leaf, ca.root.Raw}, nil
	}
	return [][]byte{leaf}, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
