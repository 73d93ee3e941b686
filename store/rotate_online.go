package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"enclave/store/seal"
)

const (
	// fewPages is how many changed pages a rotation leaves for the moment in which
	// nobody writes; each costs some 20 µs then.
	fewPages = 64
	// maxRounds bounds how often it tries to get there under a load that changes pages
	// as fast as they are copied; the rest is copied while writers wait.
	maxRounds = 20
	// maxHolds bounds how often it tries to find a moment without readers.
	maxHolds = 120
)

// Rotate seals the state under a new root while the store is in use, and drops the old
// one. The whole file is written again beside the old one; changes made meanwhile are
// copied after it, the last of them in one short pause in which the new file takes the
// old one's place. The order of steps is that of the rotation of a stopped state, and a
// crash at any of them leaves what that leaves: a state that opens, and a rotation that
// may be run again.
func (s *Store) Rotate(ctx context.Context, c Change, progress Progress) (r Rotated, err error) {
	if s.vfs == nil {
		return r, errors.New("rotate: the store is not sealed")
	}
	leave, err := s.enterHeavy()
	if err != nil {
		return r, fmt.Errorf("rotate: %w", err)
	}
	defer leave()
	if r, err = s.rotateOnline(ctx, c, progress); err != nil {
		return r, fmt.Errorf("rotate: %w", explain(ctx, err))
	}
	return r, nil
}

func (s *Store) rotateOnline(ctx context.Context, c Change, progress Progress) (r Rotated, err error) {
	to := filepath.Join(s.dir, next)
	if err := s.growRoot(c.At); err != nil {
		return r, err
	}
	newest, number, _ := s.keys.Newest()
	if err := s.resealRows(ctx); err != nil {
		return r, err
	}
	if err := s.recordSeal(ctx, c, "seal.rotate", map[string]any{"root": number}); err != nil {
		return r, err
	}
	vfs, err := seal.NewVFS(newest)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			vfs.Close()
			os.Remove(to)
		}
	}()
	w, err := seal.CreatePages(to, newest)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	s.vfs.Watch()
	defer func(old *seal.VFS) { old.Unwatch() }(s.vfs)
	if r.Pages, err = s.copyPages(ctx, w, progress); err != nil {
		return r, err
	}
	// What was copied is read back before anything depends on it; what the pause adds
	// is a handful of pages, which the first reader checks.
	if err := w.Sync(); err != nil {
		return r, err
	}
	if _, err := seal.Pages(to, newest, nil); err != nil {
		return r, err
	}
	if r.Pages, r.Pause, err = s.swap(ctx, w, to, vfs); err != nil {
		return r, err
	}
	r.Root = number
	return r, s.retireRoots(ctx)
}

// growRoot puts a new root into the keyring, unless a rotation was interrupted after it
// had.
func (s *Store) growRoot(now time.Time) error {
	if len(s.keys.Roots()) > 1 {
		newest, _, _ := s.keys.Newest()
		if at, err := s.keys.RootOf(s.path()); err != nil || at != newest {
			return err // the file still is under an older one
		}
	}
	return s.keys.Grow(now)
}

// retireRoots drops every root but the newest, once nothing needs them.
func (s *Store) retireRoots(ctx context.Context) error {
	if err := s.keys.ResealFiles(ctx, s.dir); err != nil {
		return err
	}
	if err := s.wantResealed(ctx); err != nil {
		return err
	}
	s.keys.Retire()
	return s.keys.Save()
}

// copyPages copies the database page by page, then what changed meanwhile, until only a
// few are left. Watch must have begun.
func (s *Store) copyPages(ctx context.Context, w *seal.PageWriter, progress Progress) (int64, error) {
	at, _, err := s.mark(ctx)
	if err != nil {
		return 0, err
	}
	err = at.each(ctx, func(page []byte, i int64) error {
		if progress != nil && i%256 == 0 {
			progress(i, at.Pages)
		}
		return w.Write(page, i)
	})
	pages := at.Pages
	if err = errors.Join(err, at.close()); err != nil {
		return 0, err
	}
	if progress != nil {
		progress(pages, pages)
	}
	for range maxRounds {
		at, changed, err := s.mark(ctx)
		if err != nil {
			return 0, err
		}
		err = some(ctx, at.tx, changed, w.Write)
		pages = at.Pages
		if err = errors.Join(err, at.close()); err != nil {
			return 0, err
		}
		if len(changed) <= fewPages {
			break
		}
	}
	return pages, w.Truncate(pages)
}

// mark begins to read at an instant at which no change is half-way, and returns what
// was written to the log since the mark before: a change that is not visible yet must
// not be among that, for it would be copied as it was before.
func (s *Store) mark(ctx context.Context) (*pagesAt, map[uint32]bool, error) {
	conn, err := s.write.Conn(ctx) // the only one that writes
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	at, err := s.pagesNow(ctx)
	if err != nil {
		return nil, nil, err
	}
	return at, s.vfs.Watch(), nil
}

// swap puts the copy in the place of the database, and returns for how long nobody could
// write.
func (s *Store) swap(ctx context.Context, w *seal.PageWriter, to string, vfs *seal.VFS) (pages int64, pause time.Duration, err error) {
	// Written back now, the log takes no time in the pause.
	if _, err := s.write.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return 0, 0, err
	}
	for try := 0; ; try++ {
		began := time.Now()
		patience, cancel := context.WithTimeout(ctx, holdPatience)
		readers, err := s.read.hold(patience)
		cancel()
		if err == nil {
			pages, err = s.swapHeld(ctx, readers, w, to, vfs)
			return pages, time.Since(began), err
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || try == maxHolds {
			return 0, 0, fmt.Errorf("readers do not come to an end: %w", err)
		}
		select {
		case <-time.After(holdPatience):
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}

// swapHeld does it while nobody reads.
func (s *Store) swapHeld(ctx context.Context, readers []conn, w *seal.PageWriter, to string, vfs *seal.VFS) (pages int64, err error) {
	defer func() { err = errors.Join(err, release(readers)) }()
	writer, err := s.write.hold(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, release(writer)) }()
	if err := writer[0].QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		return 0, err
	}
	if err := errors.Join(some(ctx, writer[0], s.vfs.Watch(), w.Write), w.Truncate(pages), w.Sync()); err != nil {
		return 0, err
	}
	for _, p := range []*pool{s.read, s.write} {
		p.door.shut()
	}
	use := (*seal.VFS)(nil) // the old one, unless all goes well
	defer func() {
		for _, p := range []*pool{s.read, s.write} {
			err = errors.Join(err, p.door.open(use))
		}
	}()
	// The last connection writes the log back and removes it.
	if err := errors.Join(discard(readers), discard(writer)); err != nil {
		return 0, err
	}
	if info, err := os.Stat(s.path() + "-wal"); err == nil && info.Size() > 0 {
		return 0, errors.New("the log was not written back")
	}
	if err := seal.Rename(to, s.path()); err != nil {
		return 0, err
	}
	vfs.Notify(s.fail)
	use, s.vfs, vfs = vfs, vfs, s.vfs
	vfs.Close()
	return pages, nil
}
