package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
)

// Relay is a relay of the organisation.
type Relay struct {
	wire.Relay
	Name       string
	Identity   wire.IdentityKey
	SVID       [][]byte
	Key        wire.KeyID
	EnrolledAt time.Time
}

// EnrolRelayParams is what a relay that enrols brings.
type EnrolRelayParams struct {
	Secret   SecretHash
	Name     string
	Identity wire.IdentityKey
	Info     wire.RelayInfo
	Admit    Admit
}

// Sizes of what a relay says about itself.
const (
	MaxSTUN    = 8
	maxAddrLen = 255 + 6 // a host name and a port
)

// EnrolRelay makes a relay with a key of kind relay. The same identity again
// returns the same relay, with the addresses it gives now, and uses nothing up.
func (s *Store) EnrolRelay(ctx context.Context, at time.Time, p EnrolRelayParams) (relay Relay, created bool, err error) {
	if err := checkRelay(&p); err != nil {
		return Relay{}, false, fmt.Errorf("enrol relay: %w", err)
	}
	_, err = s.change(ctx, "enrol relay", Change{By: "enrolment", At: at}, func(w *writing) error {
		id, err := w.enrolled(ctx, "relays", p.Secret, p.Identity)
		if err != nil {
			return err
		}
		if created = id == ""; created {
			id, err = w.enrolRelay(ctx, &p)
		} else {
			w.c.By = Actor("relay:" + id)
			err = w.moveRelay(ctx, id, &p)
		}
		if err != nil {
			return err
		}
		list, err := relays(ctx, w, w.org)
		for _, one := range list {
			if string(one.ID) == id {
				relay = one
			}
		}
		return err
	})
	return relay, created && err == nil, err
}

func checkRelay(p *EnrolRelayParams) error {
	if _, err := wire.ParseName(p.Name); err != nil {
		return err
	}
	if len(p.Info.STUN) > MaxSTUN {
		return fmt.Errorf("%d STUN addresses, at most %d", len(p.Info.STUN), MaxSTUN)
	}
	for _, a := range append([]string{p.Info.Addr}, p.Info.STUN...) {
		if a == "" || len(a) > maxAddrLen {
			return fmt.Errorf("address %.80q: want host:port", a)
		}
	}
	return nil
}

func (w *writing) enrolRelay(ctx context.Context, p *EnrolRelayParams) (string, error) {
	key, err := w.useKey(ctx, p.Secret, p.Admit, RelayKey)
	if err != nil {
		return "", err
	}
	var n int
	if err := w.QueryRowContext(ctx, "SELECT count(*) FROM relays WHERE org_id = ?", w.org).Scan(&n); err != nil {
		return "", err
	}
	if n >= wire.MaxRelays {
		return "", conflict("there are %d relays, the most a map can hold", n)
	}
	stun, err := toJSON(p.Info.STUN)
	if err != nil {
		return "", err
	}
	w.c.By = Actor("key:" + string(key.ID))
	if err := w.bump(ctx); err != nil {
		return "", err
	}
	id := wire.NewID(keyIDLen)
	_, err = w.ExecContext(ctx, `INSERT INTO relays (org_id, id, name, identity, addr, stun, key_id, secret_hash, enrolled_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, w.org, id, p.Name, p.Identity[:], p.Info.Addr, stun, key.ID, p.Secret[:], w.c.At.UnixNano())
	if err != nil {
		return "", err
	}
	return id, w.record(ctx, "relay.enrol", "relay:"+id, map[string]any{"name": p.Name, "key": key.ID, "addr": p.Info.Addr})
}

// MoveRelay takes over the addresses that the relay with this identity gives now, and
// reports whether they are new: then it makes a revision and its record, else neither.
func (s *Store) MoveRelay(ctx context.Context, at time.Time, id wire.RelayID, key wire.IdentityKey, info wire.RelayInfo) (moved bool, err error) {
	p := &EnrolRelayParams{Name: "moves", Identity: key, Info: info}
	if err := checkRelay(p); err != nil {
		return false, fmt.Errorf("move relay: %w", err)
	}
	_, err = s.change(ctx, "move relay", Change{By: Actor("relay:" + string(id)), At: at}, func(w *writing) error {
		known, err := scanRelay(w.QueryRowContext(ctx, relayColumns+"AND id = ? AND identity = ?", w.org, id, key[:]).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("relay", id)
		}
		if err != nil {
			return err
		}
		moved = known.Addr != info.Addr || !slices.Equal(known.STUN, info.STUN)
		return w.moveRelay(ctx, string(id), p)
	})
	return moved && err == nil, err
}

// moveRelay takes over the addresses a known relay gives, if they are new.
func (w *writing) moveRelay(ctx context.Context, id string, p *EnrolRelayParams) error {
	stun, err := toJSON(p.Info.STUN)
	if err != nil {
		return err
	}
	res, err := w.ExecContext(ctx, "UPDATE relays SET addr = ?1, stun = ?2 WHERE org_id = ?3 AND id = ?4 AND (addr <> ?1 OR stun <> ?2)",
		p.Info.Addr, stun, w.org, id)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); n == 0 || err != nil {
		return err
	}
	if err := w.bump(ctx); err != nil {
		return err
	}
	return w.record(ctx, "relay.move", "relay:"+id, map[string]any{"addr": p.Info.Addr})
}

// Relays returns all relays in the order of their IDs.
func (s *Store) Relays(ctx context.Context) (list []Relay, err error) {
	err = s.view(ctx, "list relays", func(r reader, org wire.OrgID) (err error) {
		list, err = relays(ctx, r, org)
		return err
	})
	return list, err
}

// RelayByIdentity returns the relay with this identity key.
func (s *Store) RelayByIdentity(ctx context.Context, key wire.IdentityKey) (relay Relay, err error) {
	err = s.view(ctx, "read relay", func(r reader, org wire.OrgID) error {
		relay, err = scanRelay(r.QueryRowContext(ctx, relayColumns+"AND identity = ?", org, key[:]).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("identity", key.String())
		}
		return err
	})
	return relay, err
}

const relayColumns = "SELECT id, name, identity, addr, stun, svid, key_id, enrolled_at FROM relays WHERE org_id = ? "

func relays(ctx context.Context, r reader, org wire.OrgID) (list []Relay, err error) {
	err = rows(ctx, r, relayColumns+"ORDER BY id", []any{org}, func(scan func(...any) error) error {
		relay, err := scanRelay(scan)
		list = append(list, relay)
		return err
	})
	return list, err
}

func scanRelay(scan func(...any) error) (r Relay, err error) {
	err = scan(&r.ID, &r.Name, keyCol{(*[32]byte)(&r.Identity)}, &r.Addr, jsonCol{&r.STUN}, chainCol{&r.SVID}, &r.Key, instantCol{&r.EnrolledAt})
	return r, err
}

// UpdateRelaySVID replaces a relay's certificate chain after it was issued or
// renewed. Like UpdateSVID it makes no revision and no record.
func (s *Store) UpdateRelaySVID(ctx context.Context, id wire.RelayID, svid [][]byte) error {
	org, err := s.orgID()
	if err != nil {
		return err
	}
	res, err := s.write.ExecContext(ctx, "UPDATE relays SET svid = ? WHERE org_id = ? AND id = ?", chain(svid), org, id)
	if err != nil {
		return fmt.Errorf("set svid of %s: %w", id, translate(err))
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("set svid: %w", notFound("relay", id))
	}
	return nil
}

// DeleteRelay removes a relay from every map.
func (s *Store) DeleteRelay(ctx context.Context, c Change, id wire.RelayID) (wire.Revision, error) {
	return s.change(ctx, "delete relay", c, func(w *writing) error {
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.exec(ctx, notFound("relay", id), "DELETE FROM relays WHERE org_id = ? AND id = ?", w.org, id); err != nil {
			return err
		}
		return w.record(ctx, "relay.delete", "relay:"+string(id), nil)
	})
}
