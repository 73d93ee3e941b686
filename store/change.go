package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"enclave/wire"
)

// Actor names who makes a change, for the activity log: admin:alice, token:ci,
// key:<id>, system:<id>, control.
type Actor string

// Actors that are no person.
const (
	Expiry        Actor = "expiry"         // an expiry whose action came due
	ConfirmWithin Actor = "confirm-within" // a change that was not confirmed in time
)

// Change says who changes something, when and why. IfMatch, when set, is the version
// the caller has seen; the change is refused with ErrStale when the object has a
// newer one. Objects without a version ignore it.
type Change struct {
	By      Actor
	At      time.Time
	Reason  string // for the record; may be empty
	IfMatch wire.Revision
}

// reader is what reads: the pool, or a transaction.
type reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// writing is one change under way: a transaction on the only connection that
// writes.
type writing struct {
	*sql.Tx
	org wire.OrgID
	c   Change
	rev wire.Revision // current, or the one this change makes

	bumped bool // it makes one
}

// change runs f in one transaction and returns the revision after it. Nothing of
// an f that returns an error remains.
func (s *Store) change(ctx context.Context, what string, c Change, f func(w *writing) error) (wire.Revision, error) {
	org, err := s.orgID()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if c.By == "" || c.At.IsZero() {
		return 0, fmt.Errorf("%s: a change needs an actor and an instant", what)
	}
	if len(c.Reason) > wire.MaxNotesLen {
		return 0, fmt.Errorf("%s: reason: %d bytes, at most %d", what, len(c.Reason), wire.MaxNotesLen)
	}
	tx, end, err := s.begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, explain(ctx, err))
	}
	defer end(false)
	w := &writing{Tx: tx, org: org, c: c}
	if w.rev, err = revision(ctx, tx, org); err != nil {
		return 0, fmt.Errorf("%s: %w", what, explain(ctx, err))
	}
	if err := f(w); err != nil {
		return 0, fmt.Errorf("%s: %w", what, explain(ctx, err))
	}
	if err := end(true); err != nil {
		return 0, fmt.Errorf("%s: %w", what, explain(ctx, err))
	}
	return w.rev, nil
}

// bump makes the next revision. Changes that no map can show do not call it.
func (w *writing) bump(ctx context.Context) error {
	w.bumped = true
	return w.QueryRowContext(ctx,
		"UPDATE organisation SET revision = revision + 1 WHERE org_id = ? RETURNING revision", w.org).Scan(&w.rev)
}

// exec runs a statement that must change exactly one row; otherwise it returns
// missing.
func (w *writing) exec(ctx context.Context, missing error, query string, args ...any) error {
	res, err := w.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(missing, err)
	}
	return nil
}

// record appends the change to the activity log, and the first record of a revision to
// the list of revisions. detail is made JSON and holds no secret; the reason of the
// change goes with it.
func (w *writing) record(ctx context.Context, action, object string, detail any) error {
	text := []byte("{}")
	if detail != nil {
		var err error
		if text, err = json.Marshal(detail); err != nil {
			return err
		}
	}
	if w.c.Reason != "" {
		var err error
		if text, err = withReason(text, w.c.Reason); err != nil {
			return err
		}
	}
	if w.bumped {
		_, err := w.ExecContext(ctx, "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			w.org, w.rev, w.c.At.UnixNano(), w.c.By, action, object, w.c.Reason)
		if err != nil {
			return err
		}
	}
	return appendActivity(ctx, w.Tx, w.org, Activity{
		At: w.c.At, Actor: w.c.By, Action: action, Object: object, Revision: w.rev, Detail: string(text),
	})
}

// withReason puts the reason into a detail: as a member of an object, or beside what
// is none.
func withReason(detail []byte, reason string) ([]byte, error) {
	member, err := json.Marshal(reason)
	switch {
	case err != nil:
		return nil, err
	case string(detail) == "{}":
		return fmt.Appendf(nil, `{"reason":%s}`, member), nil
	case detail[0] == '{':
		return fmt.Appendf(nil, `{"reason":%s,%s`, member, detail[1:]), nil
	}
	return fmt.Appendf(nil, `{"reason":%s,"detail":%s}`, member, detail), nil
}

// orgID returns the organisation, which every query names.
func (s *Store) orgID() (wire.OrgID, error) {
	if org := s.org.Load(); org != nil {
		return *org, nil
	}
	return "", fmt.Errorf("the store has no organisation yet: %w", ErrNotFound)
}

func revision(ctx context.Context, r reader, org wire.OrgID) (rev wire.Revision, err error) {
	err = r.QueryRowContext(ctx, "SELECT revision FROM organisation WHERE org_id = ?", org).Scan(&rev)
	return rev, err
}

// view runs f in a read transaction: everything f reads is of one instant.
func (s *Store) view(ctx context.Context, what string, f func(r reader, org wire.OrgID) error) error {
	org, err := s.orgID()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if tx := s.trial(ctx); tx != nil {
		if err := f(tx, org); err != nil {
			return fmt.Errorf("%s: %w", what, explain(ctx, err))
		}
		return nil
	}
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, explain(ctx, err))
	}
	defer tx.Rollback()
	if err := f(tx, org); err != nil {
		return fmt.Errorf("%s: %w", what, explain(ctx, err))
	}
	return nil
}
