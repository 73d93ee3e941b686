package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"enclave/wire"
)

// EnrolParams is what a machine that enrols brings. The caller has verified the
// key statement.
type EnrolParams struct {
	Secret SecretHash
	Name   string
	Keys   wire.Keys
	Host   wire.Host
	From   string // the address it calls from
	Admit  Admit
	Run    *RunParams // it is a run, which needs an ephemeral key
}

// RunParams make an enrolment one of a run.
type RunParams struct {
	Tags []wire.Tag // each has to be one of the key's; none is all of them
	Life time.Duration
}

// Admit reports whether a machine may use a key that enrols from some ranges of
// addresses only. Without one it may not.
type Admit func(sources []string) bool

// Enrol makes a system with an enrolment key, in one transaction with the use of
// the key. The same identity again returns the same system, with created false,
// and uses nothing up: an agent that lost the answer simply asks again.
func (s *Store) Enrol(ctx context.Context, at time.Time, p EnrolParams) (sys System, created bool, err error) {
	if _, err := wire.ParseName(p.Name); err != nil {
		return System{}, false, fmt.Errorf("enrol: %w", err)
	}
	_, err = s.change(ctx, "enrol", Change{By: "enrolment", At: at}, func(w *writing) error {
		id, err := w.enrolled(ctx, "systems", p.Secret, p.Keys.Identity)
		if err != nil {
			return err
		}
		if created = id == ""; created {
			if id, err = w.enrol(ctx, p); err != nil {
				return err
			}
		}
		sys, err = system(ctx, w, w.org, wire.SystemID(id))
		if err != nil {
			return err
		}
		if sys.Revoked {
			return ErrRevoked
		}
		if !created && (sys.Keys.WireGuard != p.Keys.WireGuard || sys.Keys.Disco != p.Keys.Disco) {
			return conflict("this identity enrolled with other keys")
		}
		return nil
	})
	return sys, created && err == nil, err
}

// KnowsSecret reports whether somebody may be told more than that a secret is wrong:
// there is a key with it, or the identity enrolled with it. It changes nothing and keeps
// nobody waiting; whether the key may be used is for [Store.Enrol] to say.
func (s *Store) KnowsSecret(ctx context.Context, secret SecretHash, identity wire.IdentityKey) (known bool, err error) {
	err = s.view(ctx, "look for an enrolment key", func(r reader, org wire.OrgID) error {
		return r.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM enrolment_keys WHERE org_id = ?1 AND secret_hash = ?2)
			OR EXISTS (SELECT 1 FROM systems WHERE org_id = ?1 AND identity = ?3 AND secret_hash = ?2)
			OR EXISTS (SELECT 1 FROM relays WHERE org_id = ?1 AND identity = ?3 AND secret_hash = ?2)`,
			org, secret[:], identity[:]).Scan(&known)
	})
	return known, err
}

// enrolled returns the ID under which an identity is enrolled already, or "". The
// secret must be the one it enrolled with, so that knowing a public key is not
// enough to be answered; the key may be used up or deleted since.
func (w *writing) enrolled(ctx context.Context, table string, secret SecretHash, identity wire.IdentityKey) (id string, err error) {
	var used SecretHash
	err = w.QueryRowContext(ctx, "SELECT id, secret_hash FROM "+table+" WHERE org_id = ? AND identity = ?", w.org, identity[:]).
		Scan(&id, keyCol{(*[32]byte)(&used)})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err == nil && used != secret:
		return "", ErrKeyUnknown
	}
	return id, err
}

func (w *writing) enrol(ctx context.Context, p EnrolParams) (string, error) {
	var revoked int
	err := w.QueryRowContext(ctx, "SELECT count(*) FROM retired_systems WHERE org_id = ? AND identity = ? AND revoked",
		w.org, p.Keys.Identity[:]).Scan(&revoked)
	if err != nil {
		return "", err
	}
	if revoked > 0 {
		return "", ErrRevoked
	}
	kinds := []string{General, Ephemeral}
	if p.Run != nil {
		kinds = []string{Ephemeral}
	}
	key, err := w.useKey(ctx, p.Secret, p.Admit, kinds...)
	if err != nil {
		return "", err
	}
	if err := w.freeKeys(ctx, &p.Keys); err != nil {
		return "", err
	}
	id, err := w.freeID(ctx)
	if err != nil {
		return "", err
	}
	v4, v6, err := w.freeAddresses(ctx)
	if err != nil {
		return "", err
	}
	w.c.By = Actor("key:" + string(key.ID))
	if p.Run != nil {
		key.Kind, key.Retention = Run, min(key.Retention, wire.RunRetention)
	}
	if key.Automatic { // a pending system is in nobody's map
		if err := w.bump(ctx); err != nil {
			return "", err
		}
	}
	_, err = w.ExecContext(ctx, `INSERT INTO systems (org_id, id, name, kind, approved, ipv4, ipv6, identity, wireguard, disco,
		signature, hostname, platform, agent_version, key_id, secret_hash, retention, enrolled_at, version)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		w.org, id, p.Name, key.Kind, key.Automatic, v4.String(), v6.String(), p.Keys.Identity[:], p.Keys.WireGuard[:], p.Keys.Disco[:],
		p.Keys.Signature, p.Host.Hostname, p.Host.Platform, p.Host.Version, key.ID, p.Secret[:], int64(key.Retention), w.c.At.UnixNano(), w.rev)
	if err != nil {
		return "", err
	}
	_, err = w.ExecContext(ctx, "INSERT INTO system_live (org_id, system_id, seen_from) VALUES (?, ?, ?)", w.org, id, p.From)
	if err != nil {
		return "", err
	}
	detail := map[string]any{"name": p.Name, "key": key.ID, "from": p.From, "approved": key.Automatic}
	if p.Run != nil {
		if err := w.startRun(ctx, id, key.ID, p.Run, detail); err != nil {
			return "", err
		}
		return string(id), w.record(ctx, "system.enrol", "system:"+string(id), detail)
	}
	_, err = w.ExecContext(ctx, `INSERT INTO system_tags SELECT org_id, ?, tag FROM key_tags WHERE org_id = ? AND key_id = ?`, id, w.org, key.ID)
	if err != nil {
		return "", err
	}
	return string(id), w.record(ctx, "system.enrol", "system:"+string(id), detail)
}

// freeKeys refuses keys that another system has. They are public, to its peers, and its
// owner need not prove that it has the private ones; but a peer of two systems that share
// one would believe the first alone.
func (w *writing) freeKeys(ctx context.Context, k *wire.Keys) error {
	var taken bool
	err := w.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM systems WHERE org_id = ?1 AND disco IN (?2, ?3))
		OR EXISTS (SELECT 1 FROM systems WHERE org_id = ?1 AND wireguard IN (?2, ?3))`, w.org, k.WireGuard[:], k.Disco[:]).Scan(&taken)
	if err == nil && taken {
		return conflict("another system has a key of this one")
	}
	return err
}

// useKey takes one use of a key with a single conditional update. A check before
// the update, however soon before, would let two machines share the last use.
func (w *writing) useKey(ctx context.Context, secret SecretHash, admit Admit, kinds ...string) (k Key, err error) {
	now := w.c.At.UnixNano()
	err = w.QueryRowContext(ctx, `UPDATE enrolment_keys SET used = used + 1, uses_left = uses_left - 1, last_used = ?1, secret = NULL
		WHERE org_id = ?2 AND secret_hash = ?3 AND kind IN (?4, ?5) AND enabled
		AND (uses_left IS NULL OR uses_left > 0) AND (expires_at IS NULL OR expires_at > ?1)
		RETURNING id, kind, automatic, retention, sources`, now, w.org, secret[:], kinds[0], kinds[len(kinds)-1]).
		Scan(&k.ID, &k.Kind, &k.Automatic, (*int64)(&k.Retention), jsonCol{&k.Sources})
	if err == nil && len(k.Sources) > 0 && (admit == nil || !admit(k.Sources)) {
		return k, ErrKeyElsewhere // which takes the use back
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return k, err
	}
	// Why not? A disabled key is not told apart from an unknown one, unless its expiry
	// has disabled it.
	var expired, usedUp, enabled bool
	err = w.QueryRowContext(ctx, `SELECT coalesce(expires_at <= ?1, 0), coalesce(uses_left = 0, 0), enabled FROM enrolment_keys
		WHERE org_id = ?2 AND secret_hash = ?3 AND kind IN (?4, ?5)`, now, w.org, secret[:], kinds[0], kinds[len(kinds)-1]).
		Scan(&expired, &usedUp, &enabled)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return k, ErrKeyUnknown
	case err != nil:
		return k, err
	case expired:
		return k, ErrKeyExpired
	case usedUp && enabled:
		return k, ErrKeyUsedUp
	}
	return k, ErrKeyUnknown
}

// startRun gives a run its end and its tags, which are among its key's.
func (w *writing) startRun(ctx context.Context, id wire.SystemID, key wire.KeyID, run *RunParams, detail map[string]any) error {
	ends := w.c.At.Add(run.Life)
	detail["kind"], detail["tags"], detail["expires_at"] = Run, orNone(run.Tags), ends.UTC()
	err := w.exec(ctx, notFound("system", id), "UPDATE systems SET expires_at = ?, expiry_action = ? WHERE org_id = ? AND id = ?",
		ends.UnixNano(), wire.DeleteOnExpiry, w.org, id)
	if err != nil {
		return err
	}
	if len(run.Tags) == 0 {
		_, err := w.ExecContext(ctx, "INSERT INTO system_tags SELECT org_id, ?, tag FROM key_tags WHERE org_id = ? AND key_id = ?", id, w.org, key)
		return err
	}
	for _, tag := range run.Tags {
		err := w.exec(ctx, fmt.Errorf("tag %s: %w", tag, ErrKeyTag),
			`INSERT INTO system_tags SELECT org_id, ?, tag FROM key_tags WHERE org_id = ? AND key_id = ? AND tag = ?`, id, w.org, key, tag)
		if err != nil {
			return err
		}
	}
	return nil
}
