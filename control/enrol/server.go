package enrol

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"enclave/wire"
	"enclave/wire/svid"
)

// ServerCert is the control plane's own SVID. It renews itself at half its life,
// when the next handshake asks for it: no timer, so nothing to stop.
type ServerCert struct {
	ca    *CA
	hosts []string
	now   func() time.Time
	key   ed25519.PrivateKey // of this process; it never touches a disk

	mu      sync.Mutex // guards the two below; held while signing, which takes microseconds
	cert    *tls.Certificate
	renewAt time.Time
}

// NewServerCert makes the control plane's certificate with the DNS names and
// addresses under which it can be called. A nil now is time.Now.
func NewServerCert(ca *CA, now func() time.Time, hosts ...string) (*ServerCert, error) {
	if now == nil {
		now = time.Now
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	s := &ServerCert{ca: ca, hosts: hosts, now: now, key: key}
	_, err = s.Certificate() // a bad host name is found at start, not at the first call
	return s, err
}

// Certificate returns a certificate with at least half its life left. It is an
// svid.Source.
func (s *ServerCert) Certificate() (*tls.Certificate, error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert != nil && now.Before(s.renewAt) && !now.Before(s.cert.Leaf.NotBefore) {
		return s.cert, nil
	}
	id := svid.Control(s.ca.org)
	chain, err := s.ca.Issue(id.Kind, id.Name, wire.IdentityKey(s.key.Public().(ed25519.PublicKey)), now, s.hosts...)
	if err != nil {
		return nil, err
	}
	_, leaf, err := svid.Verify(chain, s.ca.Trust().Roots, s.ca.org, now)
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	s.cert = &tls.Certificate{Certificate: chain, PrivateKey: s.key, Leaf: leaf}
	s.renewAt = now.Add(leaf.NotAfter.Sub(now) / 2)
	return s.cert, nil
}
