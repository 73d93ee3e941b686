package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"enclave/store/audit"
	"enclave/wire"
)

// Actor names who makes a change, for the audit trail: admin:alice, token:ci,
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
	Request string // ID of the request of the API that asks for it; may be empty
	Outcome string // for the record: audit.Done, which empty means, Denied or Failed
}

func (c *Change) outcome() string { return cmp.Or(c.Outcome, audit.Done) }

// check says what every change needs.
func (c *Change) check() error {
	switch {
	case c.By == "" || c.At.IsZero():
		return errors.New("a change needs an actor and an instant")
	case len(c.Reason) > wire.MaxNotesLen:
		return fmt.Errorf("reason: %d bytes, at most %d", len(c.Reason), wire.MaxNotesLen)
	}
	return nil
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
	s   *Store
	org wire.OrgID
	c   Change
	rev wire.Revision // current, or the one this change makes

	bumped bool // it makes one

	parts *parts // what it is part of, or nil
}

// change runs f in one transaction and returns the revision after it. Nothing of
// an f that returns an error remains.
func (s *Store) change(ctx context.Context, what string, c Change, f func(w *writing) error) (rev wire.Revision, err error) {
	defer func() {
		if err != nil {
			rev, err = 0, fmt.Errorf("%s: %w", what, explain(ctx, err))
		}
	}()
	org, err := s.orgID()
	if err != nil {
		return 0, err
	}
	if err := c.check(); err != nil {
		return 0, err
	}
	tx, end, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end(false)
	w := &writing{Tx: tx, s: s, org: org, c: c, parts: s.together(ctx)}
	if w.rev, err = revision(ctx, tx, org); err != nil {
		return 0, err
	}
	if err := f(w); err != nil {
		return 0, err
	}
	if err := end(true); err != nil {
		return 0, err
	}
	s.news.tell() // in a trial, too: whoever follows looks once in vain
	return w.rev, nil
}

// stale compares the version of what is changed with the one that the caller saw.
func (w *writing) stale(have wire.Revision) error {
	if w.c.IfMatch != 0 && w.c.IfMatch != have {
		return fmt.Errorf("%w (version %d, you have %d)", ErrStale, have, w.c.IfMatch)
	}
	return nil
}

// bump makes the next revision. Changes that no map can show do not call it.
func (w *writing) bump(ctx context.Context) error {
	w.bumped = true
	if w.parts != nil {
		if w.parts.bumped {
			return nil // by another part of the same change
		}
		w.parts.bumped = true
	}
	return w.QueryRowContext(ctx,
		"UPDATE organisation SET revision = revision + 1, latest = max(latest, ?) WHERE org_id = ? RETURNING revision", w.s.Now().UnixNano(), w.org).Scan(&w.rev)
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
func (s *Store) view(ctx context.Context, what string, f func(r reader, org wire.OrgID) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", what, explain(ctx, err))
		}
	}()
	org, err := s.orgID()
	if err != nil {
		return err
	}
	if tx := s.trial(ctx); tx != nil {
		return f(tx, org)
	}
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return f(tx, org)
}
