package enrol

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// Store is what the desk keeps identities in.
type Store interface {
	Enrol(ctx context.Context, at time.Time, p store.EnrolParams) (store.System, bool, error)
	EnrolRelay(ctx context.Context, at time.Time, p store.EnrolRelayParams) (store.Relay, bool, error)
	System(ctx context.Context, id wire.SystemID) (store.System, error)
	RelayByIdentity(ctx context.Context, key wire.IdentityKey) (store.Relay, error)
	UpdateSVID(ctx context.Context, id wire.SystemID, chain [][]byte) error
	UpdateRelaySVID(ctx context.Context, id wire.RelayID, chain [][]byte) error
	SetHost(ctx context.Context, id wire.SystemID, h wire.Host) error
	MoveRelay(ctx context.Context, at time.Time, id wire.RelayID, key wire.IdentityKey, info wire.RelayInfo) (bool, error)
}

// Desk is where machines enrol and renew. It has no state of its own. TicketKey is
// the public key by which relays verify tickets.
type Desk struct {
	CA        *CA
	Store     Store
	TicketKey []byte
}

// Enrol gives a machine its identity, or an *api.Problem that says why not. from is
// the address it calls from.
func (d *Desk) Enrol(ctx context.Context, req *wire.EnrolRequest, from string, now time.Time) (*wire.EnrolResponse, error) {
	secret, err := Check(req, now)
	if err != nil {
		return nil, err
	}
	resp := &wire.EnrolResponse{Now: now.UTC(), Org: d.CA.Org(), Roots: d.CA.Roots(), TicketKey: d.TicketKey}
	if req.Relay != nil {
		err = d.enrolRelay(ctx, req, secret, from, now, resp)
	} else {
		err = d.enrolSystem(ctx, req, secret, from, now, resp)
	}
	if err != nil {
		return nil, Refusal(err)
	}
	return resp, nil
}

// admits says whether a key's ranges hold the address that a machine calls from, which is
// the one that the connection has and not one that a machine tells.
func admits(from string) store.Admit {
	addr, err := netip.ParseAddr(from)
	return func(sources []string) bool { return err == nil && policy.InRanges(sources, addr) }
}

func (d *Desk) enrolSystem(ctx context.Context, req *wire.EnrolRequest, secret Secret, from string, now time.Time, resp *wire.EnrolResponse) error {
	p := store.EnrolParams{Secret: secret.Hash(), Name: req.Name, Keys: req.Keys, Host: req.Host, From: from, Admit: admits(from)}
	if req.Run != nil {
		p.Run = &store.RunParams{Tags: req.Run.Tags, Life: req.Run.Life()}
	}
	sys, _, err := d.Store.Enrol(ctx, now, p)
	if err != nil {
		return err
	}
	resp.System, resp.State = sys.ID, sys.State(now)
	resp.SVID, err = d.issueSystem(ctx, &sys, now)
	return err
}

func (d *Desk) enrolRelay(ctx context.Context, req *wire.EnrolRequest, secret Secret, from string, now time.Time, resp *wire.EnrolResponse) error {
	relay, _, err := d.Store.EnrolRelay(ctx, now, store.EnrolRelayParams{
		Secret: secret.Hash(), Name: req.Name, Identity: req.Keys.Identity, Info: *req.Relay, Admit: admits(from)})
	if err != nil {
		return err
	}
	resp.Relay, resp.State = relay.ID, wire.Disconnected
	resp.SVID, err = d.issueRelay(ctx, relay.ID, relay.Identity, now)
	return err
}

// Renew gives a machine that has proved id and key, by mutual TLS with its old
// SVID, a new one. The old one may have expired; what counts is that the identity
// is still enrolled with this very key. A disabled or pending system renews too: it
// stays known, and stays without a policy.
func (d *Desk) Renew(ctx context.Context, id svid.ID, key wire.IdentityKey, req *wire.RenewRequest, now time.Time) (*wire.RenewResponse, error) {
	if err := CheckClock(req.Now, now); err != nil {
		return nil, err
	}
	var chain [][]byte
	var err error
	switch id.Kind {
	case svid.KindSystem, svid.KindRun:
		chain, err = d.renewSystem(ctx, id.SystemID(), key, req.Host, now)
	case svid.KindRelay:
		chain, err = d.renewRelay(ctx, id.RelayID(), key, now)
	default:
		err = fmt.Errorf("renew %s: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return nil, Refusal(err)
	}
	return &wire.RenewResponse{Now: now.UTC(), SVID: chain, Roots: d.CA.Roots()}, nil
}

func (d *Desk) renewSystem(ctx context.Context, id wire.SystemID, key wire.IdentityKey, h wire.Host, now time.Time) ([][]byte, error) {
	sys, err := d.Store.System(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case sys.Revoked:
		return nil, store.ErrRevoked
	case sys.Keys.Identity != key:
		return nil, fmt.Errorf("renew %s: identity key differs: %w", id, store.ErrNotFound)
	}
	if h != sys.Host && hostFits(h) {
		if err := d.Store.SetHost(ctx, id, h); err != nil {
			return nil, err
		}
	}
	return d.issueSystem(ctx, &sys, now)
}

// Move takes where a relay, which has proved id and key, is reached now, and reports
// whether that is news.
func (d *Desk) Move(ctx context.Context, id wire.RelayID, key wire.IdentityKey, info *wire.RelayInfo, now time.Time) (moved bool, err error) {
	if bad := checkRelay(info); len(bad) > 0 {
		p := problem(http.StatusUnprocessableEntity, api.CodeInvalid, "what the relay says of itself has mistakes", bad[0].Error(), "")
		p.Problems = bad
		return false, p
	}
	if moved, err = d.Store.MoveRelay(ctx, now, id, key, *info); err != nil {
		return false, Refusal(err)
	}
	return moved, nil
}

func (d *Desk) renewRelay(ctx context.Context, id wire.RelayID, key wire.IdentityKey, now time.Time) ([][]byte, error) {
	relay, err := d.Store.RelayByIdentity(ctx, key)
	if err != nil {
		return nil, err
	}
	if relay.ID != id {
		return nil, fmt.Errorf("renew relay %s: identity key is of %s: %w", id, relay.ID, store.ErrNotFound)
	}
	return d.issueRelay(ctx, id, key, now)
}

// issueSystem makes the SVID of a system. A run's says that it is one, and is short: a
// run that ends is gone from every map, and its SVID soon after.
func (d *Desk) issueSystem(ctx context.Context, sys *store.System, now time.Time) ([][]byte, error) {
	ca, kind := d.CA, svid.KindSystem
	if sys.Kind == store.Run {
		ca, kind = ca.WithLife(min(ca.Life(), wire.RunSVIDLife)), svid.KindRun
	}
	chain, err := ca.Issue(kind, string(sys.ID), sys.Keys.Identity, now)
	if err != nil {
		return nil, err
	}
	return chain, d.Store.UpdateSVID(ctx, sys.ID, chain)
}

func (d *Desk) issueRelay(ctx context.Context, id wire.RelayID, key wire.IdentityKey, now time.Time) ([][]byte, error) {
	chain, err := d.CA.Issue(svid.KindRelay, string(id), key, now)
	if err != nil {
		return nil, err
	}
	return chain, d.Store.UpdateRelaySVID(ctx, id, chain)
}
