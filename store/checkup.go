package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"enclave/store/backup"
	"enclave/store/migrate"
	"enclave/store/seal"
	"enclave/wire"
)

// CheckUp is what was found in a state.
type CheckUp struct {
	Schema   int
	Revision wire.Revision
	Pages    int64
	Records  int64 // of the audit trail
	Org      wire.OrgID
	Head     backup.AuditHead
	Newest   int64     // instant of the newest record, Unix nanoseconds; 0 for none
	Latest   time.Time // that the state has acted by; zero for one of before that was kept

	// Of a full one; nil when all is well.
	PagesErr, IntegrityErr, ChainErr error
}

// CheckUp looks at the state. With full it deciphers and checks every page, has SQLite
// check what they say, and follows the audit trail, all at one instant while changes go
// on.
func (s *Store) CheckUp(ctx context.Context, full bool, progress Progress) (c CheckUp, err error) {
	if !full {
		err = s.view(ctx, "check", func(r reader, _ wire.OrgID) error {
			c, err = lookAt(ctx, r)
			return err
		})
		return c, err
	}
	leave, err := s.enterHeavy()
	if err != nil {
		return c, fmt.Errorf("check: %w", err)
	}
	defer leave()
	at, err := s.pagesNow(ctx)
	if err != nil {
		return c, fmt.Errorf("check: %w", explain(ctx, err))
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if c, err = lookAt(ctx, at.tx); err != nil {
		return c, fmt.Errorf("check: %w", explain(ctx, err))
	}
	c.PagesErr = explain(ctx, at.each(ctx, func(_ []byte, i int64) error {
		if progress != nil && i%256 == 0 {
			progress(i, at.Pages)
		}
		return nil
	}))
	if progress != nil {
		progress(at.Pages, at.Pages)
	}
	c.IntegrityErr = explain(ctx, wholeDatabase(ctx, at.tx))
	if c.Org != "" && c.Schema == migrate.Latest() {
		_, c.ChainErr = s.VerifyAudit(ctx, nil)
	}
	return c, ctx.Err()
}

// lookAt reads where a state is.
func lookAt(ctx context.Context, r reader) (c CheckUp, err error) {
	head, err := describe(ctx, r)
	if err != nil {
		return c, err
	}
	c = CheckUp{Schema: head.Schema, Revision: head.Revision, Records: head.Audit.Records, Org: head.Org, Head: head.Audit}
	if err := r.QueryRowContext(ctx, "SELECT page_count FROM pragma_page_count").Scan(&c.Pages); err != nil || head.Org == "" {
		return c, err
	}
	err = r.QueryRowContext(ctx, "SELECT coalesce((SELECT at FROM "+auditTable(head.Schema)+" WHERE org_id = ? ORDER BY seq DESC LIMIT 1), 0)", head.Org).Scan(&c.Newest)
	if err == nil && head.Schema >= clockSchema {
		err = r.QueryRowContext(ctx, "SELECT latest FROM organisation WHERE org_id = ?", head.Org).Scan(instantCol{&c.Latest})
	}
	return c, err
}

// Examine opens the state in dir to look at it and for nothing else: nothing is made,
// brought up or written. Nobody may have it open.
func Examine(ctx context.Context, dir string, full bool, progress Progress, opts ...Option) (c CheckUp, err error) {
	lock, err := lockState(dir)
	if err != nil {
		return c, err
	}
	defer lock.Close()
	o := choose(opts)
	path := filepath.Join(dir, dbName)
	if kind, err := seal.Look(path); err != nil || kind != seal.Sealed {
		return c, errors.Join(err, fmt.Errorf("check %s: %w", path, ErrNotFound))
	}
	keys, _, err := seal.Unseal(dir, o.identities)
	if err != nil {
		return c, fmt.Errorf("unseal: %w", err)
	}
	defer keys.Wipe()
	root, err := keys.RootOf(path)
	if err != nil {
		return c, err
	}
	vfs, err := seal.NewVFS(root)
	if err != nil {
		return c, err
	}
	defer vfs.Close()
	s := &Store{dir: dir, keys: keys, vfs: vfs, heavy: make(chan struct{}, 1)}
	if err := inspect(ctx, vfs, path); err != nil {
		return c, fmt.Errorf("check %s: %w", path, err)
	}
	if s.read, err = connectPool(vfs, path, 1, "mode=ro"); err != nil {
		return c, err
	}
	defer s.read.close()
	var org wire.OrgID
	if err := s.read.QueryRowContext(ctx, "SELECT org_id FROM organisation").Scan(&org); err == nil {
		s.org.Store(&org)
	}
	return s.CheckUp(ctx, full, progress)
}
