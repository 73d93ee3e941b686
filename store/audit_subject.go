package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"enclave/store/audit"
	"enclave/wire"
)

// execReader is a transaction, or the connection that holds one.
type execReader interface {
	reader
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func subjectSecret(org wire.OrgID, key uint32) string {
	return fmt.Sprintf("audit_subjects/%s/%d/secret", org, key)
}

// subjectKey returns the key under which a subject's details are sealed now, and makes
// one where there is none.
func (s *Store) subjectKey(ctx context.Context, tx execReader, org wire.OrgID, subject string, at time.Time) (secret []byte, key uint32, err error) {
	var sealed []byte
	err = tx.QueryRowContext(ctx, "SELECT key, secret FROM audit_subjects WHERE org_id = ? AND subject = ? AND erased_at IS NULL", org, subject).
		Scan(&key, &sealed)
	switch {
	case err == nil:
		if secret, err = s.keys.Open(subjectSecret(org, key), sealed); err != nil {
			err = fmt.Errorf("key %d of the audit trail: %w", key, err)
		}
		return secret, key, err
	case !errors.Is(err, sql.ErrNoRows):
		return nil, 0, err
	}
	if err := tx.QueryRowContext(ctx, "SELECT 1 + coalesce(max(key), 0) FROM audit_subjects WHERE org_id = ?", org).Scan(&key); err != nil {
		return nil, 0, err
	}
	secret = audit.NewSubjectKey()
	if sealed, err = s.keys.Seal(subjectSecret(org, key), secret); err != nil {
		return nil, 0, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO audit_subjects (org_id, key, subject, secret, created_at) VALUES (?, ?, ?, ?, ?)",
		org, key, subject, sealed, at.UnixNano())
	return secret, key, err
}

// subjectKeys opens the keys of subjects as a reading needs them.
type subjectKeys struct {
	s    *Store
	r    reader
	org  wire.OrgID
	open map[uint32][]byte // nil is erased
}

// maxOpenKeys bounds how many keys a reading has in memory.
const maxOpenKeys = 4096

func (s *Store) subjectKeys(r reader, org wire.OrgID) *subjectKeys {
	return &subjectKeys{s, r, org, make(map[uint32][]byte)}
}

// record returns the key of one record's detail, nil where it is in clear or erased.
func (k *subjectKeys) record(ctx context.Context, a *audit.Record) ([]byte, error) {
	if a.Format == audit.Activity {
		return nil, nil
	}
	secret, ok := k.open[a.Key]
	if !ok {
		var sealed []byte
		err := k.r.QueryRowContext(ctx, "SELECT secret FROM audit_subjects WHERE org_id = ? AND key = ?", k.org, a.Key).Scan(&sealed)
		if err != nil {
			return nil, fmt.Errorf("key %d of the audit trail: %w", a.Key, err)
		}
		if sealed != nil {
			if secret, err = k.s.keys.Open(subjectSecret(k.org, a.Key), sealed); err != nil {
				return nil, fmt.Errorf("key %d of the audit trail: %w", a.Key, err)
			}
		}
		if len(k.open) >= maxOpenKeys {
			clear(k.open)
		}
		k.open[a.Key] = secret
	}
	if secret == nil {
		return nil, nil
	}
	return audit.RecordKey(secret, k.org, a.Seq), nil
}

// Erased is what an erasure did.
type Erased struct {
	Subject string
	Keys    int   // destroyed
	Records int64 // whose details nobody can read any more
}

// Erase destroys the keys of a subject, a person or a system: the details of all records
// about it become unreadable, here and in every copy of this store that is made from now
// on. The records, their hashes and every proof stay.
func (s *Store) Erase(ctx context.Context, c Change, subject string) (e Erased, err error) {
	e.Subject = subject
	_, err = s.change(ctx, "erase", c, func(w *writing) error {
		err := w.QueryRowContext(ctx, `SELECT count(*) FROM audit_records WHERE org_id = ?1 AND subject = ?2
			AND key IN (SELECT key FROM audit_subjects WHERE org_id = ?1 AND subject = ?2 AND erased_at IS NULL)`, w.org, subject).Scan(&e.Records)
		if err != nil {
			return err
		}
		res, err := w.ExecContext(ctx, "UPDATE audit_subjects SET secret = NULL, erased_at = ? WHERE org_id = ? AND subject = ? AND erased_at IS NULL",
			c.At.UnixNano(), w.org, subject)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound("subject with details that can be read", subject)
		}
		e.Keys = int(n)
		// The record is about the erasure and not about the subject: under its new key
		// it would be what is to be erased next.
		return w.record(ctx, "audit.erase", "subject:"+subject, map[string]any{"keys": e.Keys, "records": e.Records})
	})
	if err != nil {
		return Erased{}, err
	}
	// The old bytes are overwritten in the database (secure_delete); this ends them in
	// the log, too.
	if s.trial(ctx) == nil {
		_, _ = s.write.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	return e, nil
}

// Subjects lists whom records are about and whose details can be read.
func (s *Store) Subjects(ctx context.Context) (list []string, err error) {
	err = s.view(ctx, "read subjects", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, "SELECT subject FROM audit_subjects WHERE org_id = ? AND erased_at IS NULL ORDER BY subject", []any{org},
			func(scan func(...any) error) error {
				var subject string
				err := scan(&subject)
				list = append(list, subject)
				return err
			})
	})
	return list, err
}
