package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"enclave/store/backup"
	"enclave/store/migrate"
	"enclave/store/seal"
)

// What can be wrong with bringing a backup back.
var (
	ErrNotEmpty = errors.New("there is a state here already")
	ErrRollback = errors.New("the backup is older than what is remembered: changes acknowledged since would be undone, revocations among them")
	ErrForked   = errors.New("the backup is not of the same history as what is remembered")
	ErrBackup   = errors.New("the backup does not hold what it says")
)

// RestoreConfig says how a backup is brought back.
type RestoreConfig struct {
	Identities []seal.Identity // open the backup, and will open the state
	At         time.Time
	// Remembered are heads of the audit trail that were seen before, of which the
	// backup must hold every one. AcceptRollback takes it although it does not; the
	// audit trail then says so.
	Remembered     []backup.AuditHead
	AcceptRollback bool
	Progress       Progress // may be nil
	// Finish, which may be nil, works on the state, stopped, before it gets its place; dir
	// is where it is until then. What it fails with ends the restore.
	Finish func(dir string) error
}

// Restored is what a backup was found to hold.
type Restored struct {
	Head     backup.Head
	Checked  int64 // records of the audit trail whose chain was followed
	Rollback bool  // it is older than what was remembered
}

// Restore makes a state in dir of the backup in r. Nothing may be there. The state gets
// keys of its own, which open with the identities given; what opened the old one opens
// nothing of it. Everything is checked and done before the database gets its name: a crash
// leaves either the state or a directory that nothing starts on (ErrRestoring) and into
// which it can be restored again.
func Restore(ctx context.Context, r io.Reader, dir string, cfg RestoreConfig) (out Restored, err error) {
	if err := emptyState(dir); err != nil {
		return out, fmt.Errorf("restore: %w", err)
	}
	lock, err := lockState(dir)
	if err != nil {
		return out, fmt.Errorf("restore: %w", err)
	}
	err = errors.Join(func() error {
		work := filepath.Join(dir, restoring)
		started := CheckRestored(dir) != nil // by one before, whose files may have their place
		if err := errors.Join(emptyState(dir), sweep(dir), takeBack(work, dir)); err != nil {
			return err // with the list of what is to be taken back, for the next one
		}
		if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o700)); err != nil {
			return err
		}
		if out, err = unpack(ctx, r, work, cfg); err == nil {
			err = finish(ctx, work, out, cfg)
		}
		if err == nil {
			err = notePlaces(work)
		}
		if err == nil {
			started, err = true, adopt(work, dir)
		}
		if err != nil && started {
			return err // work stays, and with it nothing takes what is in dir for a state
		}
		return errors.Join(err, os.RemoveAll(work))
	}(), lock.Close())
	if err != nil {
		return out, fmt.Errorf("restore: %w", err)
	}
	return out, nil
}

// finish makes a state in work of what was unpacked there.
func finish(ctx context.Context, work string, out Restored, cfg RestoreConfig) error {
	path := filepath.Join(work, dbName)
	if err := os.Rename(filepath.Join(work, next), path); err != nil {
		return err
	}
	if err := settle(ctx, work, out, cfg); err != nil {
		return err
	}
	if cfg.Finish != nil {
		if err := cfg.Finish(work); err != nil {
			return err
		}
	}
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return errors.New("the log was not written back")
	}
	return nil
}

// VerifyBackup brings a backup back into an empty directory, checks all of it and
// leaves what it made for the caller to remove.
func VerifyBackup(ctx context.Context, r io.Reader, scratch string, cfg RestoreConfig) (Restored, error) {
	out, err := unpack(ctx, r, scratch, cfg)
	if err != nil {
		return out, fmt.Errorf("verify: %w", err)
	}
	return out, nil
}

// stateFiles are what a state cannot be put beside.
var stateFiles = [...]string{dbName, dbName + "-wal", "agent.json", "relay.json", "sandbox.json"}

// restoring is where a restore works, inside the directory that it fills. It is gone when
// the restore ends, well or not; one that is there was left by a crash.
const restoring = ".restoring"

// ErrRestoring is returned for a directory in which a restore was interrupted.
var ErrRestoring = errors.New("a restore was interrupted here, and there is no state yet")

// CheckRestored returns ErrRestoring where that is so.
func CheckRestored(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, restoring)); err != nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, dbName)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrRestoring, filepath.Join(dir, restoring))
	}
	return nil
}

// adopt moves the state in work into dir, the database last: with its name the state is
// there, and before it nothing of dir has changed that counts. Locks stay behind.
func adopt(work, dir string) error {
	made, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	for _, f := range made {
		from, to := filepath.Join(work, f.Name()), filepath.Join(dir, f.Name())
		switch {
		case f.IsDir(): // the backup that an upgrade made
			err = errors.Join(makeDir(to), adopt(from, to))
		case staysBehind(f.Name()):
		default:
			err = seal.Rename(from, to)
		}
		if err != nil {
			return err
		}
	}
	if err := seal.Rename(filepath.Join(work, dbName), filepath.Join(dir, dbName)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil // a directory inside
}

// emptyState fails when something of a state is in dir. A keyring alone seals nothing,
// and what a restore left that did not come to its end may be written over.
func emptyState(dir string) error {
	if CheckRestored(dir) != nil {
		return nil
	}
	for _, name := range stateFiles {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%w: %s", ErrNotEmpty, filepath.Join(dir, name)))
		}
	}
	return nil
}

// unpack writes keyring, documents and, under the name next, the database into dir, and
// checks them.
func unpack(ctx context.Context, r io.Reader, dir string, cfg RestoreConfig) (out Restored, err error) {
	plain, err := seal.Decrypt(r, cfg.Identities)
	if err != nil {
		return out, err
	}
	b, secrets, err := backup.NewReader(plain)
	if err != nil {
		return out, err
	}
	defer clear(secrets)
	out.Head = b.Head
	if b.Head.Schema > migrate.Latest() {
		return out, fmt.Errorf("%w: its schema is version %d, this program knows %d; upgrade the program", ErrNewer, b.Head.Schema, migrate.Latest())
	}
	var to []seal.Recipient
	for _, id := range cfg.Identities {
		to = append(to, id.Recipient)
	}
	keys, err := seal.Reborn(filepath.Join(dir, seal.KeyringName), cfg.At, secrets, to...)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer keys.Wipe()
	if err := keys.Save(); err != nil {
		return out, err
	}
	for range b.Head.Documents {
		name, content, err := b.Document()
		if err == nil {
			err = keys.PutDocument(dir, name, content)
		}
		if err != nil {
			return out, err
		}
		clear(content)
	}
	root, _, _ := keys.Newest()
	path := filepath.Join(dir, next)
	if err := writePages(ctx, b, path, root, cfg.Progress); err != nil {
		return out, err
	}
	return out, out.check(ctx, dir, path, keys, cfg)
}

func writePages(ctx context.Context, b *backup.Reader, path string, root *seal.Root, progress Progress) error {
	w, err := seal.CreatePages(path, root)
	if err != nil {
		return err
	}
	for i := int64(0); ; i++ {
		page, bad := b.Page()
		if errors.Is(bad, io.EOF) {
			break
		}
		if bad == nil {
			// What SQLite keeps free, the page's MAC takes.
			clear(page[seal.PageSize-seal.MACSize:])
			bad = errors.Join(w.Write(page, i), ctx.Err())
		}
		if bad != nil {
			return errors.Join(bad, w.Close())
		}
		if progress != nil && i%256 == 0 {
			progress(i, b.Head.Pages)
		}
	}
	if progress != nil {
		progress(b.Head.Pages, b.Head.Pages)
	}
	return errors.Join(w.Sync(), w.Close())
}

// check reads everything back.
func (out *Restored) check(ctx context.Context, dir, path string, keys *seal.Keyring, cfg RestoreConfig) error {
	root, _, _ := keys.Newest()
	if n, err := seal.Pages(path, root, nil); err != nil || n != out.Head.Pages {
		return fmt.Errorf("%w: %d pages of %d (%w)", ErrBackup, n, out.Head.Pages, err)
	}
	vfs, err := seal.NewVFS(root)
	if err != nil {
		return err
	}
	defer vfs.Close()
	read, err := connectPool(vfs, path, 1, "mode=ro")
	if err != nil {
		return err
	}
	defer read.close()
	if err := wholeDatabase(ctx, read); err != nil {
		return err
	}
	have, err := describe(ctx, read)
	if err != nil {
		return err
	}
	want := out.Head
	if have.Org != want.Org || have.Schema != want.Schema || have.Revision != want.Revision || have.Audit.Records != want.Audit.Records ||
		have.Audit.Last != want.Audit.Last || !maps.Equal(have.Rows, want.Rows) {
		return fmt.Errorf("%w: the database is not the one that its head describes", ErrBackup)
	}
	if have.Org == "" {
		return nil
	}
	t := trail{&Store{dir: dir, read: read, keys: keys}, have}
	t.s.org.Store(&have.Org)
	if out.Checked, err = t.follow(ctx); err != nil {
		return err
	}
	for _, seen := range cfg.Remembered {
		err := t.holds(ctx, seen)
		if forked := errors.Is(err, ErrRollback) || errors.Is(err, ErrForked); err != nil && !(forked && cfg.AcceptRollback) {
			return err
		}
		out.Rollback = out.Rollback || err != nil
	}
	return nil
}

// wholeDatabase runs SQLite's own checks to the end.
func wholeDatabase(ctx context.Context, r reader) error {
	for _, q := range []string{"SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
		`SELECT "table" || ' refers to ' || parent || ', which is not there' FROM pragma_foreign_key_check`} {
		var wrong []string
		err := rows(ctx, r, q, nil, func(scan func(...any) error) error {
			var text string
			err := scan(&text)
			if len(wrong) < 3 {
				wrong = append(wrong, text)
			}
			return err
		})
		if err != nil {
			return damaged(err)
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%w: %s", ErrDamaged, wrong[0])
		}
	}
	return nil
}

// restoreGap is how far the revision jumps. Agents refuse a map that is older than one
// they have applied, and they may have applied every revision that was made between the
// backup and the loss.
const restoreGap = 1 << 20

// settle ends a restore in the state itself: old roots go, and the trail says what was
// done.
func settle(ctx context.Context, dir string, out Restored, cfg RestoreConfig) error {
	s, err := Open(ctx, dir, WithIdentities(cfg.Identities...))
	if err != nil {
		return err
	}
	detail := map[string]any{"made": out.Head.Made, "revision": out.Head.Revision, "records": out.Head.Audit.Records}
	if out.Rollback {
		detail["rollback_accepted"] = true
		var seen int64
		for _, m := range cfg.Remembered {
			seen = max(seen, m.Records)
		}
		detail["records_seen_before"] = seen
	}
	if out.Head.Org != "" {
		_, err = s.change(ctx, "restore", Change{By: "operator", At: cfg.At}, func(w *writing) error {
			if _, err := w.ExecContext(ctx, "UPDATE organisation SET revision = revision + ? WHERE org_id = ?", restoreGap, w.org); err != nil {
				return err
			}
			if err := w.bump(ctx); err != nil {
				return err
			}
			return w.record(ctx, "backup.restore", "state", detail)
		})
	}
	if err == nil {
		err = s.resealRows(ctx)
	}
	if err == nil {
		err = s.retireRoots(ctx)
	}
	return errors.Join(err, s.Close())
}
