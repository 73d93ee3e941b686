package store

import (
	"context"
	"database/sql"
	"fmt"
)

// trialKey marks a context under which changes do not stay, or stay together.
type trialKey struct{}

// trial is a transaction that will be rolled back, whatever happens in it, or one that
// several changes share.
type trial struct {
	s     *Store
	tx    *sql.Tx
	parts *parts // nil in a trial
}

// Try runs f with a context under which changes of this store are made and can be
// read back, and are undone when f returns: the way to learn what a change would do,
// refusals included. The transaction travels in the context because every change and
// every question takes one already; a second set of methods would be a second place
// for each rule (docs/decisions/0086). Other changes wait, so f must be brief, and must
// not make changes under another context.
func (s *Store) Try(ctx context.Context, f func(ctx context.Context) error) error {
	if s.trial(ctx) != nil {
		return f(ctx)
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("try a change: %w", explain(ctx, err))
	}
	defer tx.Rollback()
	return f(context.WithValue(ctx, trialKey{}, &trial{s, tx, nil}))
}

func (s *Store) trial(ctx context.Context) *sql.Tx {
	if t, ok := ctx.Value(trialKey{}).(*trial); ok && t.s == s {
		return t.tx
	}
	return nil
}

// begin opens the transaction of one change. end keeps it when keep is set and no
// error is at hand, and undoes it otherwise; it may be called again. In a trial the
// change is a savepoint: refused, it leaves nothing, and accepted, it stays for as
// long as the trial.
func (s *Store) begin(ctx context.Context) (tx *sql.Tx, end func(keep bool) error, err error) {
	if tx := s.trial(ctx); tx != nil {
		if _, err := tx.ExecContext(ctx, "SAVEPOINT change"); err != nil {
			return nil, nil, err
		}
		open := true
		return tx, func(keep bool) error {
			if !open {
				return nil
			}
			open = false
			if !keep {
				if _, err := tx.ExecContext(ctx, "ROLLBACK TO change"); err != nil {
					return err
				}
			}
			_, err := tx.ExecContext(ctx, "RELEASE change")
			return err
		}, nil
	}
	tx, err = s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	return tx, func(keep bool) error {
		if keep {
			return tx.Commit()
		}
		return tx.Rollback()
	}, nil
}
