package svid

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"enclave/wire"
)

// Trust is what a party believes: its organisation, the roots it has pinned and
// its clock. A nil Now is time.Now; it is asked once a handshake.
type Trust struct {
	Org   wire.OrgID
	Roots *x509.CertPool
	Now   func() time.Time
}

// Source returns the certificate to show, anew for each handshake, so that a
// renewed SVID is used without a restart.
type Source func() (*tls.Certificate, error)

// Demand says what a server asks of its clients.
type Demand int

// The demands. With ClientOptional, a client without a certificate is let in and
// Peer reports ErrNoPeer for it; one with a bad certificate is refused.
const (
	ClientRequired Demand = iota
	ClientOptional
	// ClientOptionalExpired is ClientOptional, and an SVID whose time is over also
	// passes the handshake: a laptop that slept past its SVID's life renews with it.
	// Peer still refuses it; only PeerToRenew accepts it.
	ClientOptionalExpired
)

// ErrNoPeer is returned for a connection whose client showed no certificate.
var ErrNoPeer = errors.New("client showed no certificate")

// ServerConfig makes the TLS side of a server that shows cert and verifies clients
// against t. TLS 1.3 only; no session tickets, so that every connection is verified
// at its own instant.
func ServerConfig(t Trust, cert Source, demand Demand) *tls.Config {
	clock := orRealTime(t.Now)
	auth := tls.RequireAnyClientCert
	if demand != ClientRequired {
		auth = tls.RequestClientCert
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ClientAuth:             auth, // the verification is ours, below
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 && demand != ClientRequired {
				return nil
			}
			now := clock()
			if demand == ClientOptionalExpired && len(cs.PeerCertificates) > 0 {
				now = earlier(now, cs.PeerCertificates[0].NotAfter)
			}
			_, _, err := Verify(raw(cs.PeerCertificates), t.Roots, t.Org, now)
			return err
		},
	}
}

// ClientConfig makes the TLS side of a client that believes t and expects want: the
// same kind and, unless want.Name is empty, the same name. cert may be nil for a
// client without an identity yet. Host names play no part: who is called is known
// by SPIFFE ID, wherever it runs.
func ClientConfig(t Trust, cert Source, want ID) *tls.Config {
	clock := orRealTime(t.Now)
	return clientConfig(cert, func(chain [][]byte) error {
		id, _, err := Verify(chain, t.Roots, t.Org, clock())
		if err != nil {
			return err
		}
		if id.Kind != want.Kind || (want.Name != "" && id.Name != want.Name) {
			return fmt.Errorf("%w: expected %s %s, got %s", ErrWrongPeer, want.Kind, want.Name, id)
		}
		return nil
	})
}

// FirstContactConfig makes the TLS side of a client that knows only the fingerprint
// of the root and expects the control plane. After the handshake FirstContact
// returns what was learned. A nil now is time.Now.
func FirstContactConfig(fingerprint string, now func() time.Time) *tls.Config {
	clock := orRealTime(now)
	return clientConfig(nil, func(chain [][]byte) error {
		_, _, err := VerifyFirst(chain, fingerprint, KindControl, clock())
		return err
	})
}

// FirstContact returns the organisation and the root that a connection made with
// FirstContactConfig has shown and proved.
func FirstContact(cs *tls.ConnectionState) (wire.OrgID, *x509.Certificate, error) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return "", nil, ErrNoPeer
	}
	id, err := FromCert(cs.PeerCertificates[0])
	return id.Org, cs.PeerCertificates[len(cs.PeerCertificates)-1], err
}

func clientConfig(cert Source, verify func(chain [][]byte) error) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Off is the check of host names and public roots. VerifyConnection does the
		// check of SPIFFE IDs and pinned roots instead; crypto/tls still proves that
		// the server holds the leaf's key.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return verify(raw(cs.PeerCertificates)) },
	}
	if cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert() }
	}
	return c
}

// Peer returns who is at the other end of a verified connection. It checks the
// time of the SVID again, because a connection can outlive it.
func Peer(cs *tls.ConnectionState, now time.Time) (ID, wire.IdentityKey, error) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return ID{}, wire.IdentityKey{}, ErrNoPeer
	}
	if err := checkTime(cs.PeerCertificates[0], now); err != nil {
		return ID{}, wire.IdentityKey{}, err
	}
	return PeerToRenew(cs)
}

// PeerToRenew is Peer without the check of time. It serves the renewal of an SVID
// and nothing else; the caller asks the store whether the identity still counts.
func PeerToRenew(cs *tls.ConnectionState) (ID, wire.IdentityKey, error) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return ID{}, wire.IdentityKey{}, ErrNoPeer
	}
	id, err := FromCert(cs.PeerCertificates[0])
	if err != nil {
		return ID{}, wire.IdentityKey{}, err
	}
	key, err := IdentityKey(cs.PeerCertificates[0])
	return id, key, err
}

func raw(certs []*x509.Certificate) [][]byte {
	chain := make([][]byte, len(certs))
	for i, c := range certs {
		chain[i] = c.Raw
	}
	return chain
}

func orRealTime(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
