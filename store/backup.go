package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"enclave/store/backup"
	"enclave/store/migrate"
	"enclave/store/seal"
	"enclave/wire"
)

// BackupConfig says how a backup is made.
type BackupConfig struct {
	To       []seal.Recipient // who can open it; none: who can open the state
	Made     time.Time
	Program  string   // its version, for people
	Progress Progress // may be nil
	// Ready is told what will be in it before the first byte; its error is the end of the
	// backup. May be nil.
	Ready func(backup.Head) error
}

// Backup writes the state as it is at this instant, encrypted, while changes go on. For
// as long as it takes the log of the database grows.
func (s *Store) Backup(ctx context.Context, w io.Writer, cfg BackupConfig) (head backup.Head, err error) {
	leave, err := s.enterHeavy()
	if err != nil {
		return head, fmt.Errorf("back up: %w", err)
	}
	defer leave()
	to := cfg.To
	if len(to) == 0 {
		to = s.keys.Recipients()
	}
	if head, err = s.backup(ctx, w, to, cfg); err != nil {
		return head, fmt.Errorf("back up: %w", explain(ctx, err))
	}
	return head, nil
}

func (s *Store) backup(ctx context.Context, to io.Writer, recipients []seal.Recipient, cfg BackupConfig) (head backup.Head, err error) {
	documents, err := s.keys.Documents(s.dir)
	if err != nil {
		return head, err
	}
	at, err := s.pagesNow(ctx)
	if err != nil {
		return head, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if head, err = describe(ctx, at.tx); err != nil {
		return head, err
	}
	if head.Org != "" && head.Schema == migrate.Latest() {
		h, err := s.headAt(ctx, at.tx, head.Org, head.Audit.Records)
		if err != nil {
			return head, err
		}
		head.Audit.Checkpoint = h.Note
	}
	head.Made, head.Program, head.Pages = cfg.Made.UTC(), cfg.Program, at.Pages
	names := slices.Sorted(maps.Keys(documents))
	for _, name := range names {
		head.Documents = append(head.Documents, backup.Document{Name: name, Size: int64(len(documents[name]))})
	}
	secrets, err := s.keys.Secrets()
	if err != nil {
		return head, err
	}
	defer clear(secrets)
	if cfg.Ready != nil {
		if err := cfg.Ready(head); err != nil {
			return head, err
		}
	}
	w, err := seal.Encrypt(to, recipients)
	if err != nil {
		return head, err
	}
	b, err := backup.NewWriter(w, head, secrets)
	if err != nil {
		return head, err
	}
	for _, name := range names {
		if err := b.Document(documents[name]); err != nil {
			return head, err
		}
		clear(documents[name])
	}
	err = at.each(ctx, func(page []byte, i int64) error {
		if cfg.Progress != nil && i%256 == 0 {
			cfg.Progress(i, at.Pages)
		}
		return b.Page(page)
	})
	if err != nil {
		return head, err
	}
	if cfg.Progress != nil {
		cfg.Progress(at.Pages, at.Pages)
	}
	return head, errors.Join(b.Close(), w.Close())
}

// describe says what a database has: where it is, and how much of everything.
func describe(ctx context.Context, r reader) (head backup.Head, err error) {
	if err := r.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&head.Schema); err != nil {
		return head, err
	}
	err = r.QueryRowContext(ctx, "SELECT org_id, revision FROM organisation").Scan(&head.Org, &head.Revision)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return head, err
	}
	if err == nil {
		if head.Audit, err = auditHead(ctx, r, head.Org, head.Schema); err != nil {
			return head, err
		}
	}
	head.Rows, err = countRows(ctx, r)
	return head, err
}

// auditHead is the newest record of the trail.
func auditHead(ctx context.Context, r reader, org wire.OrgID, schema int) (h backup.AuditHead, err error) {
	var last []byte
	err = r.QueryRowContext(ctx, "SELECT seq, hash FROM "+auditTable(schema)+" WHERE org_id = ? ORDER BY seq DESC LIMIT 1", org).Scan(&h.Records, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return h, nil
	}
	h.Last = hex.EncodeToString(last)
	return h, err
}

// recordAt is the hash of a record, empty when the table does not have it.
func recordAt(ctx context.Context, r reader, org wire.OrgID, schema int, seq int64) (string, error) {
	var hash []byte
	err := r.QueryRowContext(ctx, "SELECT hash FROM "+auditTable(schema)+" WHERE org_id = ? AND seq = ?", org, seq).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return hex.EncodeToString(hash), err
}

// auditTable is where a schema keeps the records.
func auditTable(schema int) string {
	if schema < 3 {
		return "activity"
	}
	return "audit_records"
}

// countRows counts what every table has.
func countRows(ctx context.Context, r reader) (map[string]int64, error) {
	var names []string
	err := rows(ctx, r, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int64, len(names))
	for _, name := range names {
		var n int64
		if err := r.QueryRowContext(ctx, `SELECT count(*) FROM "`+name+`"`).Scan(&n); err != nil {
			return nil, err
		}
		counts[name] = n
	}
	return counts, nil
}
