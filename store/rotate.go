package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"enclave/store/audit"
	"enclave/store/seal"
)

// ChangeRecipients opens the store in dir, lets f change whom its keyring is
// encrypted to and keeps the result. No file but the keyring changes. Detail of the
// activity record is what f returns.
func ChangeRecipients(ctx context.Context, dir string, c Change, f func(*seal.Keyring) (detail any, err error), opts ...Option) (err error) {
	s, err := Open(ctx, dir, opts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.ChangeRecipients(ctx, c, f)
}

// ChangeRecipients does the same while the store is in use. The record comes first, so
// that nobody is let in or out without one; when the keyring cannot be written after it,
// another record says that it failed.
func (s *Store) ChangeRecipients(ctx context.Context, c Change, f func(*seal.Keyring) (detail any, err error)) error {
	leave, err := s.enterHeavy() // a rotation writes the keyring, too
	if err != nil {
		return fmt.Errorf("change recipients: %w", err)
	}
	defer leave()
	var detail any
	recorded := false
	err = s.keys.Rewrap(func() (err error) {
		detail, err = f(s.keys)
		return err
	}, func() error {
		err := s.recordSeal(ctx, c, "seal.recipients", detail)
		recorded = err == nil
		return err
	})
	if err == nil {
		return nil
	}
	if recorded {
		c.Outcome = audit.Failed
		err = errors.Join(err, s.recordSeal(context.WithoutCancel(ctx), c, "seal.recipients", detail))
	}
	return fmt.Errorf("change recipients: %w", translate(err))
}

// Rotated is what a rotation did.
type Rotated struct {
	Root  uint32        // the new one
	Pages int64         // encrypted again
	Pause time.Duration // for which nobody could write; 0 for a state that was stopped
}

// Rotate seals the state in dir under a new root and drops the old one: whoever had
// that reads nothing that is written from now on. The new root is in the keyring
// before anything is sealed with it and the old one until nothing is, so that a crash
// at any point leaves a state that opens; Rotate may be run again then.
func Rotate(ctx context.Context, dir string, c Change, opts ...Option) (r Rotated, err error) {
	s, err := Open(ctx, dir, opts...)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if r, err = s.rotate(ctx, dir, c); err != nil {
		return r, fmt.Errorf("rotate: %w", translate(err))
	}
	return r, nil
}

func (s *Store) rotate(ctx context.Context, dir string, c Change) (r Rotated, err error) {
	path, to := filepath.Join(dir, dbName), filepath.Join(dir, next)
	if len(s.keys.Roots()) == 1 { // else this ends a rotation that was interrupted
		if err := s.growRoot(c.At); err != nil {
			return r, err
		}
	}
	newest, number, _ := s.keys.Newest()
	if err := s.resealRows(ctx); err != nil {
		return r, err
	}
	if err := s.recordSeal(ctx, c, "seal.rotate", map[string]any{"root": number}); err != nil {
		return r, err
	}
	if err := s.wantResealed(ctx); err != nil {
		return r, err
	}
	if err := errors.Join(s.read.Close(), s.write.Close()); err != nil { // writes the log back
		return r, err
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return r, errors.New("the log was not written back")
	}
	old, err := s.keys.RootOf(path)
	if err != nil {
		return r, err
	}
	if r.Pages, err = seal.Reseal(path, old, to, newest); err != nil {
		return r, err
	}
	switch n, err := seal.Pages(to, newest, nil); {
	case err != nil:
		return r, err
	case n != r.Pages:
		return r, fmt.Errorf("the copy has %d pages of %d", n, r.Pages)
	}
	if err := seal.Rename(to, path); err != nil {
		return r, err
	}
	if err := s.keys.ResealFiles(ctx, dir); err != nil {
		return r, err
	}
	s.keys.Retire()
	r.Root = number
	return r, s.keys.Save()
}

// resealRows seals the secrets inside rows under the newest root.
func (s *Store) resealRows(ctx context.Context) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := run(ctx, conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	again := func(place string, value []byte) ([]byte, error) {
		secret, err := s.keys.Open(place, value)
		if err != nil {
			return nil, err
		}
		defer clear(secret)
		return s.keys.Seal(place, secret)
	}
	if err = eachSecret(ctx, conn, again); err == nil {
		err = eachSealed(ctx, conn, again)
	}
	if err != nil {
		return errors.Join(err, run(context.WithoutCancel(ctx), conn, "ROLLBACK"))
	}
	return run(ctx, conn, "COMMIT")
}

// wantResealed fails when a value anywhere is sealed under an older root: the root that
// is about to go would be the last that opens it. It looks at every column that can hold
// one, so that a table which resealRows does not know is found and not lost.
func (s *Store) wantResealed(ctx context.Context) error {
	_, newest, _ := s.keys.Newest()
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var queries []string
	err = rows(ctx, tx, `SELECT format('SELECT count(*) FROM "%w" WHERE typeof("%w") = ''blob'' AND substr("%w", 1, 1) = x''e1''
			AND length("%w") > 32 AND substr("%w", 2, 4) < ?', m.name, c.name, c.name, c.name, c.name)
		FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND c.type LIKE 'BLOB%'`, nil,
		func(scan func(...any) error) error {
			var q string
			err := scan(&q)
			queries = append(queries, q)
			return err
		})
	if err != nil {
		return err
	}
	for _, q := range queries {
		var n int
		if err := tx.QueryRowContext(ctx, q, binary.BigEndian.AppendUint32(nil, newest)).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%d values are still sealed under an older key, which stays: %s", n, q)
		}
	}
	return nil
}

// path is the database.
func (s *Store) path() string { return filepath.Join(s.dir, dbName) }

// recordSeal records what was done to the seal, where there is an organisation.
func (s *Store) recordSeal(ctx context.Context, c Change, action string, detail any) error {
	if s.org.Load() == nil {
		return nil
	}
	return s.Record(ctx, c, action, "state", detail)
}

// CheckPages deciphers and checks every page of the database in dir, also those that
// no table uses, and returns how many there are. Nobody may have the store open, and
// its log must have been written back, as it is after a stop.
func CheckPages(dir string, k *seal.Keyring) (int64, error) {
	lock, err := lockState(dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	path := filepath.Join(dir, dbName)
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return 0, fmt.Errorf("check pages: %w", ErrNotStopped)
	}
	root, err := k.RootOf(path)
	if err != nil {
		return 0, err
	}
	n, err := seal.Pages(path, root, nil)
	if errors.Is(err, seal.ErrPage) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return n, err
}
