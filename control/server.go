package control

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"

	"enclave/control/admin"
	"enclave/control/enrol"
	"enclave/loglimit"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// Server is a control server. Run makes it work.
type Server struct {
	cfg Config
	log *slog.Logger
	// strangers is for lines that anybody can cause.
	strangers *slog.Logger
	ca        *enrol.CA
	trust     svid.Trust
	cert      *enrol.ServerCert
	desk      *enrol.Desk
	hub       *hub
	api       *admin.API
	front     atomic.Pointer[Front] // nil until it serves

	limits limits
}

// New makes a server of an open store that has an organisation (see Init), and reads
// everything in it. A stored policy that does not validate is left out and reported;
// anything else that cannot be read is an error.
func New(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	org, err := cfg.Store.Org(ctx)
	if err != nil {
		return nil, fmt.Errorf("control server: %w", err)
	}
	if len(org.TicketKey) != ed25519.SeedSize {
		return nil, fmt.Errorf("control server: the ticket key has %d bytes, want %d", len(org.TicketKey), ed25519.SeedSize)
	}
	ca, err := enrol.LoadCA(org.ID, org.CACert, org.CAKey)
	if err != nil {
		return nil, fmt.Errorf("control server: %w", err)
	}
	clear(org.CAKey) // parsed
	s := &Server{cfg: cfg, log: cfg.Logger, strangers: loglimit.New(cfg.Logger), ca: ca.WithLife(org.Settings.SVIDLife), trust: ca.Trust(), limits: newLimits()}
	if s.cert, err = enrol.NewServerCert(s.ca, nil, cfg.Hosts...); err != nil {
		return nil, fmt.Errorf("control server: %w", err)
	}
	ticketKey := ed25519.NewKeyFromSeed(org.TicketKey)
	clear(org.TicketKey)
	s.desk = &enrol.Desk{CA: s.ca, Store: cfg.Store, TicketKey: ticketKey.Public().(ed25519.PublicKey)}
	s.hub = newHub(cfg.Store, cfg.Logger, &org, newTickets(ticketKey, org.ID, org.Settings.MapLife))
	if s.hub.countries, err = readCountries(cfg.CountryFile); err != nil {
		return nil, fmt.Errorf("control server: %w", err)
	}
	if err := s.hub.load(ctx); err != nil {
		return nil, fmt.Errorf("control server: %w", err)
	}
	s.api, err = admin.New(admin.Config{Store: cfg.Store, Control: s.hub, Answers: s.hub, Vault: vault{s.front.Load}, Backups: cfg.Backups, Logger: cfg.Logger, Version: cfg.Version})
	if err != nil {
		return nil, fmt.Errorf("control server: %w", err)
	}
	return s, nil
}

// Fingerprint is what an agent needs to know of this server before its first contact.
func (s *Server) Fingerprint() string { return s.ca.Fingerprint() }

// Trust is what verifies the SVIDs of this organisation.
func (s *Server) Trust() svid.Trust { return s.trust }

// Certificate returns the server's own certificate; it is an svid.Source.
func (s *Server) Certificate() (*tls.Certificate, error) { return s.cert.Certificate() }

// WaitApplied waits until every connected system that rev affects has applied it. It
// returns the status at its end and, when ctx ended it, the error of ctx.
func (s *Server) WaitApplied(ctx context.Context, rev wire.Revision) (api.RevisionStatus, error) {
	return s.hub.WaitApplied(ctx, rev)
}

// Init makes the organisation of a new store: its root, its ticket key, its settings.
func Init(ctx context.Context, st *store.Store, c store.Change, name string, settings store.Settings) (store.Org, error) {
	org := wire.NewOrgID(c.At)
	ca, err := enrol.NewCA(org, c.At)
	if err != nil {
		return store.Org{}, err
	}
	cert, key, err := ca.Marshal()
	if err != nil {
		return store.Org{}, fmt.Errorf("new organisation: %w", err)
	}
	_, ticketKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		return store.Org{}, fmt.Errorf("new organisation: %w", err)
	}
	seed := ticketKey.Seed()
	out, err := st.Init(ctx, c, store.InitParams{
		ID: org, Name: name, CACert: cert, CAKey: key, TicketKey: seed, Settings: settings,
	})
	// They are in the store now, and nowhere else.
	ca.Wipe()
	for _, secret := range [][]byte{key, seed, ticketKey} {
		clear(secret)
	}
	out.CAKey, out.TicketKey = nil, nil
	return out, err
}
