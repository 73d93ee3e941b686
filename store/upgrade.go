package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"enclave/store/migrate"
	"enclave/store/seal"
)

// BackupDir is where a store keeps the backups that it makes by itself.
const BackupDir = "backups"

// UpgradeBackups matches the names of those that an upgrade left there: of the state as it
// was before.
const UpgradeBackups = "before-schema-*.backup"

// migrate brings the schema up. One that is older is first brought up on a copy, which
// is checked and thrown away, and then backed up: what goes wrong goes wrong there.
func (s *Store) migrate(ctx context.Context) error {
	var have int
	if err := s.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have == 0 || have == migrate.Latest() || s.vfs == nil {
		return migrate.Up(ctx, s.write.DB)
	}
	if err := s.rehearse(ctx); err != nil {
		return fmt.Errorf("upgrade of schema %d to %d, tried on a copy: %w", have, migrate.Latest(), err)
	}
	name := fmt.Sprintf("before-schema-%04d.backup", migrate.Latest())
	if err := s.backupTo(ctx, filepath.Join(s.dir, BackupDir), name, time.Now()); err != nil {
		return fmt.Errorf("back up before the upgrade of schema %d to %d: %w", have, migrate.Latest(), err)
	}
	if err := migrate.Up(ctx, s.write.DB); err != nil {
		return err
	}
	return s.keepOne(name)
}

// rehearse runs the migrations on a copy.
func (s *Store) rehearse(ctx context.Context) (err error) {
	path := filepath.Join(s.dir, next)
	defer func() {
		names, _ := filepath.Glob(path + "*")
		for _, name := range names {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	root, err := s.keys.RootOf(s.path())
	if err != nil {
		return err
	}
	at, err := s.pagesNow(ctx)
	if err != nil {
		return err
	}
	w, err := seal.CreatePages(path, root)
	if err == nil {
		err = errors.Join(at.each(ctx, w.Write), w.Close())
	}
	if err = errors.Join(err, at.close()); err != nil {
		return err
	}
	db, err := connect(s.vfs, path, 1, "_txlock=immediate")
	if err != nil {
		return err
	}
	if err = migrate.Up(ctx, db); err == nil {
		err = wholeDatabase(ctx, db)
	}
	return errors.Join(err, db.Close())
}

// backupTo makes a backup for who can open the state; a crash leaves a whole one or none.
func (s *Store) backupTo(ctx context.Context, dir, name string, now time.Time) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	return ReplaceWith(filepath.Join(dir, name), func(f *os.File) error {
		_, err := s.Backup(ctx, f, BackupConfig{Made: now})
		return err
	})
}

// keepOne removes the backups of earlier upgrades.
func (s *Store) keepOne(name string) error {
	old, err := filepath.Glob(filepath.Join(s.dir, BackupDir, UpgradeBackups))
	for _, path := range old {
		if filepath.Base(path) != name {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// ReplaceWith writes a file of mode 0600 through f and puts it in the place of the one
// at path: a crash leaves the old one or the new one, whole.
func ReplaceWith(path string, f func(*os.File) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), seal.Leftover(path))
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	if err := errors.Join(f(tmp), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return seal.Rename(tmp.Name(), path)
}
