package store

import (
	"context"
	"time"

	"enclave/wire"
)

// End is when a system or a key ends and what happens to it then. Either an instant
// or a time on a wall clock is given; neither is never.
type End struct {
	At     time.Time
	Local  *wire.LocalTime
	Action wire.ExpiryAction // empty is disable
}

// resolve returns the instant, which must be to come.
func (e *End) resolve(now time.Time) (at time.Time, err error) {
	if at = e.At; e.Local != nil {
		if at, err = e.Local.Instant(); err != nil {
			return at, conflict("expiry: %v", err)
		}
	}
	if (e.Local != nil || !at.IsZero()) && !at.After(now) {
		return at, conflict("expiry %s is in the past", at.Format(time.RFC3339))
	}
	return at, nil
}

// detail is what the log keeps of it.
func (e *End) detail(at time.Time) map[string]any {
	d := map[string]any{"at": at, "action": e.Action}
	if e.Local != nil {
		d["local"] = e.Local
	}
	return d
}

// moved is an expiry whose instant is another than the one that stands beside it.
type moved struct {
	table, object, id string
	was, is           time.Time
}

// FollowZones resolves every wall-clock expiry anew and keeps the instants that have
// moved, since the program that kept them knew other rules of their zones. It is for the
// start. A zone that is no longer known leaves its instant as it is.
func (s *Store) FollowZones(ctx context.Context, c Change) error {
	_, err := s.change(ctx, "follow zones", c, func(w *writing) error {
		list, err := w.movedExpiries(ctx)
		for _, m := range list {
			if err != nil {
				return err
			}
			if _, err = w.ExecContext(ctx, "UPDATE "+m.table+" SET expires_at = ? WHERE org_id = ? AND id = ?", instant(m.is), w.org, m.id); err == nil {
				err = w.record(ctx, "expiry.move", m.object+":"+m.id, map[string]time.Time{"from": m.was, "to": m.is})
			}
		}
		return err
	})
	return err
}

func (w *writing) movedExpiries(ctx context.Context) (list []moved, err error) {
	for table, object := range map[string]string{"systems": "system", "enrolment_keys": "key"} {
		err = rows(ctx, w, "SELECT id, expires_at, expires_local FROM "+table+" WHERE org_id = ? AND expires_local <> ''", []any{w.org}, func(scan func(...any) error) error {
			m := moved{table: table, object: object}
			var local *wire.LocalTime
			if err := scan(&m.id, instantCol{&m.was}, localCol{&local}); err != nil {
				return err
			}
			if at, err := local.Instant(); err == nil && !at.Equal(m.was) {
				m.is = at
				list = append(list, m)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	docs, err := policies(ctx, w, w.org)
	for _, p := range docs {
		if p.ExpiresLocal == nil {
			continue
		}
		if at, err := p.Expiry(); err == nil && !at.Equal(p.EndsAt) {
			list = append(list, moved{"policies", "policy", string(p.ID), p.EndsAt, at})
		}
	}
	return list, err
}

// KeyExpiry returns the first instant at which the expiry of a key is to be acted on,
// which may be past; zero is never.
func (s *Store) KeyExpiry(ctx context.Context) (at time.Time, err error) {
	err = s.view(ctx, "read key expiry", func(r reader, org wire.OrgID) error {
		return r.QueryRowContext(ctx, "SELECT min(expires_at) FROM enrolment_keys WHERE org_id = ? AND expires_at IS NOT NULL AND (enabled OR expiry_action = 'delete')", org).
			Scan(instantCol{&at})
	})
	return at, err
}

// ExpireKeys disables or deletes the keys whose expiry has come. They have enrolled
// nobody since that instant in any case.
func (s *Store) ExpireKeys(ctx context.Context, c Change) (wire.Revision, error) {
	return s.change(ctx, "expire keys", c, func(w *writing) error {
		list, err := keys(ctx, w, w.org)
		for _, k := range list {
			remove := k.ExpiryAction == wire.DeleteOnExpiry
			if k.ExpiresAt.IsZero() || c.At.Before(k.ExpiresAt) || !(k.Enabled || remove) {
				continue
			}
			query, action := "UPDATE enrolment_keys SET enabled = 0 WHERE org_id = ? AND id = ?", "key.disable"
			if remove {
				query, action = "DELETE FROM enrolment_keys WHERE org_id = ? AND id = ?", "key.delete"
			}
			if err := w.exec(ctx, notFound("key", k.ID), query, w.org, k.ID); err != nil {
				return err
			}
			if err := w.record(ctx, action, "key:"+string(k.ID), nil); err != nil {
				return err
			}
		}
		return err
	})
}
