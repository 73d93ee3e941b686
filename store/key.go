package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"enclave/wire"
)

// RelayKey is the kind of enrolment key that enrols relays; the other kinds are
// General and Ephemeral.
const RelayKey = "relay"

// SecretHash is SHA-256 of the secret of an enrolment key or token. The secrets
// have at least 120 random bits, so a plain hash is not to be guessed at, and a
// look-up by hash tells by its time nothing about a secret.
type SecretHash [32]byte

// Key is an enrolment key.
type Key struct {
	ID           wire.KeyID
	Name         string
	Kind         string // General, Ephemeral or RelayKey
	Automatic    bool   // its systems need no approval
	UsesLeft     *int   // nil: unlimited
	Used         int
	Tags         []wire.Tag
	Enabled      bool
	Retention    time.Duration // of ephemeral systems, after they disconnect
	ExpiresAt    time.Time
	ExpiresLocal *wire.LocalTime   // the wall clock that ExpiresAt was made of
	ExpiryAction wire.ExpiryAction // empty is disable
	Sources      []string          // ranges of addresses from which it enrols; none is everywhere
	CreatedAt    time.Time
	LastUsed     time.Time
}

// KeyParams make an enrolment key.
type KeyParams struct {
	Name      string
	Kind      string // empty is General
	Automatic bool   // implied by every kind but General
	Uses      *int   // nil: unlimited; refused for Ephemeral
	Tags      []wire.Tag
	Retention time.Duration // for Ephemeral only; 0 there is DefaultRetention
	Expires   End
	Sources   []string // as control/policy reads ranges; whether they make sense is the caller's to check
	Secret    SecretHash
	// Shown is the secret itself where it is to be shown again until somebody has enrolled
	// with it; it is kept sealed until then. Empty, as it is for all keys but the first:
	// only the hash is kept.
	Shown string
}

// DefaultRetention is how long an ephemeral system stays after it disconnects.
const DefaultRetention = 30 * time.Minute

// MaxSources is how many ranges of addresses a key may name.
const MaxSources = 64

// keyIDLen is the length of the IDs of keys, policies and tokens: 40 random bits,
// which a person can still copy.
const keyIDLen = 8

// CreateKey makes an enrolment key.
func (s *Store) CreateKey(ctx context.Context, c Change, p KeyParams) (Key, error) {
	k, err := newKey(c, p)
	if err != nil {
		return Key{}, fmt.Errorf("create key: %w", err)
	}
	local, err := localText(k.ExpiresLocal)
	if err != nil {
		return Key{}, err
	}
	sources, err := toJSON(orNone(k.Sources))
	if err != nil {
		return Key{}, err
	}
	_, err = s.change(ctx, "create key", c, func(w *writing) error {
		var shown []byte
		if p.Shown != "" {
			if shown, err = s.keys.Seal(keySecret(w.org, k.ID), []byte(p.Shown)); err != nil {
				return err
			}
		}
		_, err := w.ExecContext(ctx, `INSERT INTO enrolment_keys
			(org_id, id, name, kind, automatic, secret_hash, uses_left, retention, expires_at, expires_local, expiry_action, sources, created_at, secret)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, w.org, k.ID, k.Name, k.Kind, k.Automatic, p.Secret[:], k.UsesLeft,
			int64(k.Retention), instant(k.ExpiresAt), local, k.ExpiryAction, sources, c.At.UnixNano(), shown)
		if err != nil {
			return err
		}
		for _, tag := range k.Tags {
			if _, err := w.ExecContext(ctx, "INSERT INTO key_tags VALUES (?, ?, ?) ON CONFLICT DO NOTHING", w.org, k.ID, tag); err != nil {
				return err
			}
		}
		return w.record(ctx, "key.create", "key:"+string(k.ID), k.detail())
	})
	return k, err
}

// keySecret is the place of a key's secret, to which its sealing binds it.
func keySecret(org wire.OrgID, id wire.KeyID) string {
	return "enrolment_keys/" + string(org) + "/" + string(id) + "/secret"
}

// ShownSecret returns the secret of the key that is to be shown still: made with
// KeyParams.Shown, with nobody enrolled by it, and in force at the instant at. It is empty
// where there is none.
func (s *Store) ShownSecret(ctx context.Context, at time.Time) (secret string, err error) {
	err = s.view(ctx, "read the first key", func(r reader, org wire.OrgID) error {
		var id wire.KeyID
		var sealed []byte
		err := r.QueryRowContext(ctx, `SELECT id, secret FROM enrolment_keys WHERE org_id = ? AND secret IS NOT NULL AND enabled
			AND (expires_at IS NULL OR expires_at > ?) ORDER BY created_at, id LIMIT 1`, org, at.UnixNano()).Scan(&id, &sealed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if sealed, err = s.keys.Open(keySecret(org, id), sealed); err != nil {
			return fmt.Errorf("%w: secret of key %s: %w", ErrDamaged, id, err)
		}
		secret = string(sealed)
		clear(sealed)
		return nil
	})
	return secret, err
}

// detail is what the log keeps of a new key: everything that says whom it lets in.
func (k *Key) detail() map[string]any {
	d := map[string]any{"name": k.Name, "kind": k.Kind, "tags": orNone(k.Tags), "automatic": k.Automatic, "uses": k.UsesLeft}
	if k.Retention > 0 {
		d["retention_seconds"] = int64(k.Retention / time.Second)
	}
	if len(k.Sources) > 0 {
		d["sources"] = k.Sources
	}
	if !k.ExpiresAt.IsZero() {
		e := End{Local: k.ExpiresLocal, Action: k.ExpiryAction}
		d["expiry"] = e.detail(k.ExpiresAt)
	}
	return d
}

func newKey(c Change, p KeyParams) (Key, error) {
	k := Key{ID: wire.KeyID(wire.NewID(keyIDLen)), Name: p.Name, Kind: p.Kind, Automatic: p.Automatic, UsesLeft: p.Uses,
		Tags: p.Tags, Enabled: true, Retention: p.Retention, ExpiresLocal: p.Expires.Local, ExpiryAction: p.Expires.Action,
		Sources: p.Sources, CreatedAt: c.At.UTC()}
	if k.Kind == "" {
		k.Kind = General
	}
	var err error
	if k.ExpiresAt, err = p.Expires.resolve(c.At); err != nil {
		return k, err
	}
	switch {
	case len(k.Sources) > MaxSources:
		return k, fmt.Errorf("sources: %d, at most %d", len(k.Sources), MaxSources)
	case k.Kind != General && k.Kind != Ephemeral && k.Kind != RelayKey:
		return k, fmt.Errorf("kind %.20q: want general, ephemeral or relay", k.Kind)
	case len(k.Name) > wire.MaxNameLen:
		return k, fmt.Errorf("name: %d bytes, at most %d", len(k.Name), wire.MaxNameLen)
	case k.UsesLeft != nil && *k.UsesLeft < 1:
		return k, fmt.Errorf("uses: %d, want at least 1", *k.UsesLeft)
	case k.Kind == Ephemeral && k.UsesLeft != nil:
		return k, fmt.Errorf("uses: an ephemeral key is unlimited")
	case k.Kind != Ephemeral && k.Retention != 0:
		return k, fmt.Errorf("retention: only an ephemeral key has one")
	case k.Retention < 0:
		return k, fmt.Errorf("retention: %s is negative", k.Retention)
	case p.Secret == SecretHash{}:
		return k, fmt.Errorf("secret: it has none")
	}
	if k.Kind != General {
		k.Automatic = true
	}
	if k.Kind == Ephemeral && k.Retention == 0 {
		k.Retention = DefaultRetention
	}
	return k, checkTags(k.Tags, wire.MaxTagsPerSystem)
}

// Keys returns the enrolment keys, oldest first.
func (s *Store) Keys(ctx context.Context) (list []Key, err error) {
	err = s.view(ctx, "list keys", func(r reader, org wire.OrgID) (err error) {
		list, err = keys(ctx, r, org)
		return err
	})
	return list, err
}

func keys(ctx context.Context, r reader, org wire.OrgID) (list []Key, err error) {
	at := make(map[wire.KeyID]int)
	err = rows(ctx, r, `SELECT id, name, kind, automatic, uses_left, used, enabled, retention, expires_at, expires_local, expiry_action,
		sources, created_at, last_used
		FROM enrolment_keys WHERE org_id = ? ORDER BY created_at, id`, []any{org}, func(scan func(...any) error) error {
		var k Key
		err := scan(&k.ID, &k.Name, &k.Kind, &k.Automatic, &k.UsesLeft, &k.Used, &k.Enabled, (*int64)(&k.Retention),
			instantCol{&k.ExpiresAt}, localCol{&k.ExpiresLocal}, &k.ExpiryAction, jsonCol{&k.Sources}, instantCol{&k.CreatedAt}, instantCol{&k.LastUsed})
		if len(k.Sources) == 0 {
			k.Sources = nil
		}
		at[k.ID] = len(list)
		list = append(list, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, rows(ctx, r, "SELECT key_id, tag FROM key_tags WHERE org_id = ? ORDER BY tag", []any{org}, func(scan func(...any) error) error {
		var id wire.KeyID
		var tag wire.Tag
		err := scan(&id, &tag)
		list[at[id]].Tags = append(list[at[id]].Tags, tag)
		return err
	})
}

// FindKey returns the key with this ID or, when there is none, the only one with
// this name.
func (s *Store) FindKey(ctx context.Context, idOrName string) (k Key, err error) {
	err = s.view(ctx, "find key", func(r reader, org wire.OrgID) error {
		id, err := find(ctx, r, org, "key", "enrolment_keys", idOrName)
		if err != nil {
			return err
		}
		list, err := keys(ctx, r, org)
		for _, one := range list {
			if string(one.ID) == id {
				k = one
			}
		}
		return err
	})
	return k, err
}

// SetKeyEnabled lets a key be used, or stops it.
func (s *Store) SetKeyEnabled(ctx context.Context, c Change, id wire.KeyID, enabled bool) (wire.Revision, error) {
	return s.changeKey(ctx, verb("key", enabled), c, id, "UPDATE enrolment_keys SET enabled = ?1 WHERE org_id = ?2 AND id = ?3", enabled)
}

// DeleteKey removes a key. Systems that enrolled with it stay.
func (s *Store) DeleteKey(ctx context.Context, c Change, id wire.KeyID) (wire.Revision, error) {
	return s.changeKey(ctx, "key.delete", c, id, "DELETE FROM enrolment_keys WHERE ?1 IS NULL AND org_id = ?2 AND id = ?3", nil)
}

func (s *Store) changeKey(ctx context.Context, action string, c Change, id wire.KeyID, query string, arg any) (wire.Revision, error) {
	return s.change(ctx, action, c, func(w *writing) error {
		if err := w.exec(ctx, notFound("key", id), query, arg, w.org, id); err != nil {
			return err
		}
		return w.record(ctx, action, "key:"+string(id), nil)
	})
}
