package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"enclave/wire"
)

// changeSystem is the frame of every change to one system: it exists, its version
// is what the caller saw, it gets the next one, and the log gets a record.
func (s *Store) changeSystem(ctx context.Context, action string, c Change, id wire.SystemID, detail any,
	f func(w *writing, revoked bool) error) (wire.Revision, error) {
	return s.change(ctx, action+" "+string(id), c, func(w *writing) error {
		var version wire.Revision
		var revoked bool
		err := w.QueryRowContext(ctx, "SELECT version, revoked FROM systems WHERE org_id = ? AND id = ?", w.org, id).Scan(&version, &revoked)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("system", id)
		case err != nil:
			return err
		}
		if err := w.stale(version); err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := f(w, revoked); err != nil {
			return err
		}
		// The row may be gone when the change was to delete it.
		if _, err := w.ExecContext(ctx, "UPDATE systems SET version = ? WHERE org_id = ? AND id = ?", w.rev, w.org, id); err != nil {
			return err
		}
		return w.record(ctx, action, "system:"+string(id), detail)
	})
}

// Approve lets a pending system take part.
func (s *Store) Approve(ctx context.Context, c Change, id wire.SystemID) (wire.Revision, error) {
	return s.changeSystem(ctx, "system.approve", c, id, nil, func(w *writing, revoked bool) error {
		return w.exec(ctx, conflict("it is not pending"),
			"UPDATE systems SET approved = 1 WHERE org_id = ? AND id = ? AND approved = 0 AND revoked = 0", w.org, id)
	})
}

// SetEnabled takes a system out of all policies, or lets it in again.
func (s *Store) SetEnabled(ctx context.Context, c Change, id wire.SystemID, enabled bool) (wire.Revision, error) {
	return s.changeSystem(ctx, verb("system", enabled), c, id, nil, func(w *writing, revoked bool) error {
		return w.exec(ctx, conflict("it is revoked"),
			"UPDATE systems SET enabled = ? WHERE org_id = ? AND id = ? AND revoked = 0", enabled, w.org, id)
	})
}

// Revoke ends an identity for good; the machine has to enrol with a new one.
func (s *Store) Revoke(ctx context.Context, c Change, id wire.SystemID) (wire.Revision, error) {
	return s.changeSystem(ctx, "system.revoke", c, id, nil, func(w *writing, revoked bool) error {
		return w.exec(ctx, conflict("it is revoked already"),
			"UPDATE systems SET revoked = 1 WHERE org_id = ? AND id = ? AND revoked = 0", w.org, id)
	})
}

// Rename gives a system another name. Names need not be unique.
func (s *Store) Rename(ctx context.Context, c Change, id wire.SystemID, name string) (wire.Revision, error) {
	if _, err := wire.ParseName(name); err != nil {
		return 0, err
	}
	return s.changeSystem(ctx, "system.rename", c, id, map[string]string{"name": name}, func(w *writing, _ bool) error {
		return w.exec(ctx, ErrNotFound, "UPDATE systems SET name = ? WHERE org_id = ? AND id = ?", name, w.org, id)
	})
}

// SetNotes replaces the free text of a system.
func (s *Store) SetNotes(ctx context.Context, c Change, id wire.SystemID, notes string) (wire.Revision, error) {
	if len(notes) > wire.MaxNotesLen {
		return 0, fmt.Errorf("notes: %d bytes, at most %d", len(notes), wire.MaxNotesLen)
	}
	return s.changeSystem(ctx, "system.notes", c, id, nil, func(w *writing, _ bool) error {
		return w.exec(ctx, ErrNotFound, "UPDATE systems SET notes = ? WHERE org_id = ? AND id = ?", notes, w.org, id)
	})
}

// AddTags adds tags; those it has already are left as they are.
func (s *Store) AddTags(ctx context.Context, c Change, id wire.SystemID, tags ...wire.Tag) (wire.Revision, error) {
	if err := checkTags(tags, wire.MaxTagsPerSystem); err != nil {
		return 0, err
	}
	return s.changeSystem(ctx, "system.tag", c, id, map[string]any{"add": tags}, func(w *writing, _ bool) error {
		if err := w.tagSystem(ctx, id, tags); err != nil {
			return err
		}
		var n int
		err := w.QueryRowContext(ctx, "SELECT count(*) FROM system_tags WHERE org_id = ? AND system_id = ?", w.org, id).Scan(&n)
		if err == nil && n > wire.MaxTagsPerSystem {
			return conflict("it would have %d tags, at most %d", n, wire.MaxTagsPerSystem)
		}
		return err
	})
}

// RemoveTags removes tags; those it does not have are no mistake.
func (s *Store) RemoveTags(ctx context.Context, c Change, id wire.SystemID, tags ...wire.Tag) (wire.Revision, error) {
	return s.changeSystem(ctx, "system.tag", c, id, map[string]any{"remove": tags}, func(w *writing, _ bool) error {
		for _, tag := range tags {
			_, err := w.ExecContext(ctx, "DELETE FROM system_tags WHERE org_id = ? AND system_id = ? AND tag = ?", w.org, id, tag)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// SetSystemExpiry sets the instant from which a system no longer counts, and what
// happens to it then. The zero expiry removes it; a past one is refused.
func (s *Store) SetSystemExpiry(ctx context.Context, c Change, id wire.SystemID, e End) (wire.Revision, error) {
	at, err := e.resolve(c.At)
	if err != nil {
		return 0, err
	}
	local, err := localText(e.Local)
	if err != nil {
		return 0, err
	}
	return s.changeSystem(ctx, "system.expiry", c, id, e.detail(at), func(w *writing, _ bool) error {
		return w.exec(ctx, ErrNotFound, "UPDATE systems SET expires_at = ?, expires_local = ?, expiry_action = ? WHERE org_id = ? AND id = ?",
			instant(at), local, e.Action, w.org, id)
	})
}

// maxClaims is how many values of claims one trust mark may keep.
const maxClaims = 64

// MarkTrust notes that a system meets a requirement. The record names the claims but
// not their values, which may be personal.
func (s *Store) MarkTrust(ctx context.Context, c Change, id wire.SystemID, m TrustMark) (wire.Revision, error) {
	if _, err := wire.ParseTag(m.Requirement); err != nil {
		return 0, fmt.Errorf("trust requirement: %w", err)
	}
	n := 0
	for _, values := range m.Claims {
		n += 1 + len(values)
	}
	if n > maxClaims {
		return 0, conflict("%d claims and values, at most %d", n, maxClaims)
	}
	claims := m.Claims
	if claims == nil {
		claims = map[string][]string{}
	}
	text, err := toJSON(claims)
	if err != nil {
		return 0, err
	}
	detail := map[string]any{"mark": m.Requirement, "until": m.Until}
	if len(claims) > 0 {
		detail["claims"] = slices.Sorted(maps.Keys(claims))
	}
	return s.changeSystem(ctx, "system.trust", c, id, detail, func(w *writing, _ bool) error {
		_, err := w.ExecContext(ctx, `INSERT INTO trust_marks VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET until = excluded.until, claims = excluded.claims`, w.org, id, m.Requirement, instant(m.Until), text)
		return err
	})
}

// UnmarkTrust ends a mark, or is ErrNotFound.
func (s *Store) UnmarkTrust(ctx context.Context, c Change, id wire.SystemID, requirement string) (wire.Revision, error) {
	return s.changeSystem(ctx, "system.trust", c, id, map[string]any{"unmark": requirement}, func(w *writing, _ bool) error {
		return w.exec(ctx, notFound("trust mark", requirement),
			"DELETE FROM trust_marks WHERE org_id = ? AND system_id = ? AND requirement = ?", w.org, id, requirement)
	})
}

// maxAdds is how many systems one may have added.
const maxAdds = 256

// SetAdd makes a system add another, or takes that back. Two systems without tags
// connect when each has added the other.
func (s *Store) SetAdd(ctx context.Context, c Change, id, other wire.SystemID, on bool) (wire.Revision, error) {
	if id == other {
		return 0, conflict("a system needs no leave to reach itself")
	}
	action := map[bool]string{true: "system.add", false: "system.unadd"}[on]
	return s.changeSystem(ctx, action, c, id, map[string]wire.SystemID{"system": other}, func(w *writing, _ bool) error {
		if !on {
			return w.exec(ctx, notFound("added system", other),
				"DELETE FROM system_adds WHERE org_id = ? AND system_id = ? AND added = ?", w.org, id, other)
		}
		var there, n int
		err := w.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM systems WHERE org_id = ?1 AND id = ?3),
			(SELECT count(*) FROM system_adds WHERE org_id = ?1 AND system_id = ?2)`, w.org, id, other).Scan(&there, &n)
		switch {
		case err != nil:
			return err
		case there == 0:
			return notFound("system", other)
		case n >= maxAdds:
			return conflict("it has added %d systems, the most there are", n)
		}
		_, err = w.ExecContext(ctx, "INSERT INTO system_adds VALUES (?, ?, ?) ON CONFLICT DO NOTHING", w.org, id, other)
		return err
	})
}

// DeleteSystem removes a system. Its ID is never given out again; its identity may
// enrol again unless it was revoked.
func (s *Store) DeleteSystem(ctx context.Context, c Change, id wire.SystemID) (wire.Revision, error) {
	return s.changeSystem(ctx, "system.delete", c, id, nil, func(w *writing, _ bool) error {
		return w.retire(ctx, id)
	})
}

// neverConnected is how much longer than its retention an ephemeral system may
// stay that has not connected even once.
const neverConnected = time.Hour

// DeleteLapsed removes the ephemeral systems whose retention has passed since they
// disconnected, and returns their IDs. One that is online again is left alone.
func (s *Store) DeleteLapsed(ctx context.Context, c Change) (gone []wire.SystemID, rev wire.Revision, err error) {
	rev, err = s.change(ctx, "delete lapsed systems", c, func(w *writing) error {
		gone = nil
		err := rows(ctx, w, `SELECT s.id FROM systems s JOIN system_live l ON l.org_id = s.org_id AND l.system_id = s.id
			WHERE s.org_id = ? AND s.kind <> 'general' AND NOT l.online
			AND coalesce(l.disconnected_at, s.enrolled_at + ?) + s.retention <= ?`,
			[]any{w.org, int64(neverConnected), c.At.UnixNano()}, func(scan func(...any) error) error {
				var id wire.SystemID
				err := scan(&id)
				gone = append(gone, id)
				return err
			})
		if err != nil || len(gone) == 0 {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		for _, id := range gone {
			if err := w.retire(ctx, id); err != nil {
				return err
			}
			if err := w.record(ctx, "system.lapse", "system:"+string(id), nil); err != nil {
				return err
			}
		}
		return nil
	})
	return gone, rev, err
}

// retire deletes a system's row and remembers its ID and identity.
func (w *writing) retire(ctx context.Context, id wire.SystemID) error {
	_, err := w.ExecContext(ctx, `INSERT INTO retired_systems
		SELECT org_id, id, identity, revoked, ? FROM systems WHERE org_id = ? AND id = ?`, w.c.At.UnixNano(), w.org, id)
	if err != nil {
		return err
	}
	return w.exec(ctx, notFound("system", id), "DELETE FROM systems WHERE org_id = ? AND id = ?", w.org, id)
}

func (w *writing) tagSystem(ctx context.Context, id wire.SystemID, tags []wire.Tag) error {
	for _, tag := range tags {
		_, err := w.ExecContext(ctx, "INSERT INTO system_tags VALUES (?, ?, ?) ON CONFLICT DO NOTHING", w.org, id, tag)
		if err != nil {
			return err
		}
	}
	return nil
}

func checkTags(tags []wire.Tag, limit int) error {
	if len(tags) > limit {
		return fmt.Errorf("%d tags, at most %d", len(tags), limit)
	}
	for _, tag := range tags {
		if _, err := wire.ParseTag(string(tag)); err != nil {
			return err
		}
	}
	return nil
}

// verb names the action of switching something.
func verb(noun string, enabled bool) string {
	if enabled {
		return noun + ".enable"
	}
	return noun + ".disable"
}
