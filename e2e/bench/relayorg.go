package bench

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"enclave/relay"
	"enclave/wire"
	"enclave/wire/svid"
	"enclave/wire/ticket"
)

// organisation is what a relay and its clients need of a control plane: certificates
// and tickets. It lives as long as a measurement.
type organisation struct {
	id      wire.OrgID
	root    *x509.Certificate
	key     ed25519.PrivateKey // of the root
	tickets ed25519.PrivateKey
}

// RelaySide is what a relay is told of an organisation, also in another process.
type RelaySide struct {
	Org       wire.OrgID `json:"org"`
	Root      []byte     `json:"root"`
	Cert      []byte     `json:"cert"`
	Key       []byte     `json:"key"` // Ed25519, of a certificate that ends with the measurement
	TicketKey []byte     `json:"ticket_key"`
}

const benchLife = 24 * time.Hour

func newOrganisation() (*organisation, error) {
	o := &organisation{id: wire.NewOrgID(time.Now())}
	var err error
	if _, o.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if _, o.tickets, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	o.root, err = o.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "bench"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil, o.key.Public())
	return o, err
}

func (o *organisation) sign(c, parent *x509.Certificate, pub any) (*x509.Certificate, error) {
	if parent == nil {
		parent = c
	}
	c.SerialNumber = big.NewInt(1)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(benchLife)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, o.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (o *organisation) certificate(id svid.ID) (*tls.Certificate, error) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := o.sign(&x509.Certificate{URIs: []*url.URL{id.URL()}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, o.root, pub)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: private, Leaf: leaf}, nil
}

func (o *organisation) trust() svid.Trust {
	roots := x509.NewCertPool()
	roots.AddCert(o.root)
	return svid.Trust{Org: o.id, Roots: roots}
}

// relay returns what the relay is told.
func (o *organisation) relay() (*RelaySide, error) {
	c, err := o.certificate(svid.Relay(o.id, "bench"))
	if err != nil {
		return nil, err
	}
	return &RelaySide{Org: o.id, Root: o.root.Raw, Cert: c.Certificate[0], Key: c.PrivateKey.(ed25519.PrivateKey),
		TicketKey: o.tickets.Public().(ed25519.PublicKey)}, nil
}

// client is the TLS side of a system.
func (o *organisation) client(id wire.SystemID) (*tls.Config, error) {
	c, err := o.certificate(svid.System(o.id, id))
	if err != nil {
		return nil, err
	}
	cfg := svid.ClientConfig(o.trust(), func() (*tls.Certificate, error) { return c, nil }, svid.Relay(o.id, ""))
	cfg.DynamicRecordSizingDisabled = true
	return cfg, nil
}

func (o *organisation) ticket(a, b wire.SystemID) []byte {
	return ticket.Sign(o.tickets, o.id, a, b, time.Now().Add(benchLife))
}

// Certificate is the relay's own.
func (s *RelaySide) Certificate() (*tls.Certificate, error) {
	if len(s.Key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("bench: key of %d bytes", len(s.Key))
	}
	leaf, err := x509.ParseCertificate(s.Cert)
	return &tls.Certificate{Certificate: [][]byte{s.Cert}, PrivateKey: ed25519.PrivateKey(s.Key), Leaf: leaf}, err
}

// server is our relay as it runs anywhere, but for the rate of one client: here the
// processor is to be the limit.
func (s *RelaySide) server() (*relay.Server, error) {
	root, err := x509.ParseCertificate(s.Root)
	if err != nil {
		return nil, err
	}
	cert, err := s.Certificate()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	cfg := relay.Config{Trust: func() svid.Trust { return svid.Trust{Org: s.Org, Roots: roots} },
		Identity: func() (*tls.Certificate, error) { return cert, nil }, TicketKey: s.TicketKey,
		Limits: relay.Limits{Rate: 1e12, Burst: 1 << 30, DrainGrace: time.Nanosecond}}
	return relay.New(cfg), cfg.Validate()
}
