package svid

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
)

// What can be wrong with a certificate. The two errors about time name the clock,
// because that is where the mistake is more often than in the certificate.
var (
	ErrExpired     = errors.New("certificate has expired")
	ErrNotYetValid = errors.New("certificate is not valid yet")
	ErrWrongOrg    = errors.New("certificate is of another organisation")
	ErrUnknownRoot = errors.New("certificate was not issued by this organisation's root")
	ErrMalformed   = errors.New("certificate is no SVID")
	ErrWrongPeer   = errors.New("certificate names somebody else")
	ErrFingerprint = errors.New("root certificate has another fingerprint than expected")
)

// Pool makes a root pool of DER certificates.
func Pool(roots [][]byte) (*x509.CertPool, error) {
	if len(roots) == 0 {
		return nil, fmt.Errorf("%w: no root certificate at all", ErrUnknownRoot)
	}
	pool := x509.NewCertPool()
	for _, der := range roots {
		c, err := parse(der)
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%w: a root must be a CA", ErrMalformed)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// Verify checks an SVID, leaf first, at the instant now: its form, its organisation,
// its time, and that it chains to a root. It returns whom it names and the leaf.
func Verify(chain [][]byte, roots *x509.CertPool, org wire.OrgID, now time.Time) (ID, *x509.Certificate, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return ID{}, nil, err
	}
	id, err := verify(certs, roots, org, now)
	if err != nil {
		return ID{}, nil, err
	}
	return id, certs[0], nil
}

func verify(certs []*x509.Certificate, roots *x509.CertPool, org wire.OrgID, now time.Time) (ID, error) {
	leaf := certs[0]
	id, err := FromCert(leaf)
	if err != nil {
		return ID{}, err
	}
	if id.Org != org {
		return ID{}, fmt.Errorf("%w: it names %s, expected organisation %s", ErrWrongOrg, id, org)
	}
	// Time comes before the chain so that a wrong clock is reported as that.
	for _, c := range certs {
		if err := checkTime(c, now); err != nil {
			return ID{}, err
		}
	}
	middle := x509.NewCertPool()
	for _, c := range certs[1:] {
		middle.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:         roots, // never nil: nil would mean the system's roots
		Intermediates: middle,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		return id, nil
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return ID{}, cmpErr(checkTime(invalid.Cert, now), err) // the root's own time
	}
	return ID{}, fmt.Errorf("%w: %s: %v", ErrUnknownRoot, id, err)
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// VerifyFirst checks a server's chain when only the fingerprint of the root is
// known: the last certificate must be exactly that root and the first an SVID of
// the given kind that it vouches for. It returns whom the SVID names, which is how
// the caller learns its organisation, and the root to pin from now on.
func VerifyFirst(chain [][]byte, fingerprint, kind string, now time.Time) (ID, *x509.Certificate, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return ID{}, nil, err
	}
	root := certs[len(certs)-1]
	if got := Fingerprint(root.Raw); got != fingerprint {
		return ID{}, nil, fmt.Errorf("%w: expected %s, the server shows %s", ErrFingerprint, fingerprint, got)
	}
	if !root.IsCA {
		return ID{}, nil, fmt.Errorf("%w: the fingerprint is of a certificate that is no root", ErrMalformed)
	}
	id, err := FromCert(certs[0])
	if err != nil {
		return ID{}, nil, err
	}
	if id.Kind != kind {
		return ID{}, nil, fmt.Errorf("%w: %s is no %s", ErrWrongPeer, id, kind)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := verify(certs, roots, id.Org, now); err != nil {
		return ID{}, nil, err
	}
	return id, root, nil
}

// Fingerprint is the text by which people compare root certificates: sha256: and
// the hash of the DER in hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// FromCert reads the identity of a leaf and checks its form; it verifies nothing.
func FromCert(c *x509.Certificate) (ID, error) {
	switch {
	case len(c.URIs) != 1:
		return ID{}, fmt.Errorf("%w: %d URI names, want exactly one", ErrMalformed, len(c.URIs))
	case c.IsCA:
		return ID{}, fmt.Errorf("%w: it is a CA", ErrMalformed)
	case c.PublicKeyAlgorithm != x509.Ed25519:
		return ID{}, fmt.Errorf("%w: key is %s, want Ed25519", ErrMalformed, c.PublicKeyAlgorithm)
	case c.KeyUsage != x509.KeyUsageDigitalSignature:
		return ID{}, fmt.Errorf("%w: key usage is not digitalSignature alone", ErrMalformed)
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return ID{}, fmt.Errorf("%w: it lacks a TLS purpose", ErrMalformed)
	}
	id, err := ParseID(c.URIs[0].String())
	if err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return id, nil
}

// IdentityKey returns the key an SVID vouches for.
func IdentityKey(leaf *x509.Certificate) (wire.IdentityKey, error) {
	pub, ok := leaf.PublicKey.(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return wire.IdentityKey{}, fmt.Errorf("%w: key is not Ed25519", ErrMalformed)
	}
	return wire.IdentityKey(pub), nil
}

func checkTime(c *x509.Certificate, now time.Time) error {
	const layout = time.RFC3339
	clock := now.UTC().Format(layout)
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%w: it ended %s and the clock here says %s; if that is not the time, set the clock",
			ErrExpired, c.NotAfter.UTC().Format(layout), clock)
	case now.Before(c.NotBefore):
		return fmt.Errorf("%w: it begins %s but the clock here says %s; check the clock of this machine",
			ErrNotYetValid, c.NotBefore.UTC().Format(layout), clock)
	}
	return nil
}

// parseChain bounds a chain before it parses it, and refuses every algorithm but
// Ed25519 in it, a CA's included.
func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > wire.MaxCertChain {
		return nil, fmt.Errorf("%w: %d certificates, want 1 to %d", ErrMalformed, len(chain), wire.MaxCertChain)
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := parse(der)
		if err != nil {
			return nil, err
		}
		certs[i] = c
	}
	return certs, nil
}

func parse(der []byte) (*x509.Certificate, error) {
	if len(der) > wire.MaxCertLen {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(der), wire.MaxCertLen)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if c.SignatureAlgorithm != x509.PureEd25519 || c.PublicKeyAlgorithm != x509.Ed25519 {
		return nil, fmt.Errorf("%w: key and signature are %s, %s, want Ed25519", ErrMalformed, c.PublicKeyAlgorithm, c.SignatureAlgorithm)
	}
	return c, nil
}
