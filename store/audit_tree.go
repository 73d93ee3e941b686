package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
	"enclave/wire"
)

// AuditHead is where the audit trail stands.
type AuditHead struct {
	Org        wire.OrgID
	Last       audit.Hash       // of the newest record
	Checkpoint audit.Checkpoint // Size is the number of records
	Note       string           // the checkpoint, signed
	Key        string           // what verifies it
}

func auditSecret(org wire.OrgID) string { return "audit_log/" + string(org) + "/secret" }

// beginLog makes the key that signs the checkpoints of an organisation.
func (s *Store) beginLog(ctx context.Context, tx execReader, org wire.OrgID) error {
	secret, public, err := audit.NewKey(org)
	if err != nil {
		return err
	}
	sealed, err := s.keys.Seal(auditSecret(org), []byte(secret))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO audit_log (org_id, secret, public) VALUES (?, ?, ?)", org, sealed, public)
	return err
}

// adopt makes the tree over records of the time before it, once. A chain that is broken
// already is adopted as it stands, and the first record after it says where it breaks:
// what the tree proves is that nothing changed since (docs/decisions/0100).
func (s *Store) adopt(ctx context.Context, org wire.OrgID) error {
	var there int
	err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM audit_log WHERE org_id = ?", org).Scan(&there)
	if err != nil || there > 0 {
		return err
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := s.beginLog(ctx, tx, org); err != nil {
		return err
	}
	rev, err := revision(ctx, tx, org)
	if err != nil {
		return err
	}
	var last audit.Record
	var broken int64
	var buf []byte
	err = eachRecord(ctx, tx, org, 0, func(a *audit.Record) error {
		var sum audit.Hash
		if sum, buf = a.Sum(org, buf); broken == 0 && (sum != a.Hash || a.Prev != last.Hash || a.Seq != last.Seq+1) {
			broken = a.Seq
		}
		last = *a
		return appendLeaf(ctx, tx, org, a.Seq-1, a.Hash)
	})
	if err != nil {
		return fmt.Errorf("adopt the activity log: %w", err)
	}
	if last.Seq > 0 {
		detail := map[string]any{"records": last.Seq, "hash": fmt.Sprintf("%x", last.Hash)}
		if broken > 0 {
			detail["broken_at"] = broken
		}
		text, err := detailText(detail, "")
		if err != nil {
			return err
		}
		err = s.appendRecord(ctx, tx, org, &audit.Record{At: last.At, Actor: "control", Action: "audit.adopt",
			Object: "organisation:" + string(org), Revision: rev, Outcome: audit.Done}, text)
		if err != nil {
			return fmt.Errorf("adopt the activity log: %w", err)
		}
	}
	return tx.Commit()
}

// eachRecord calls f with every record after a number, in pages, so that no statement is
// open while f works.
func eachRecord(ctx context.Context, r reader, org wire.OrgID, after int64, f func(*audit.Record) error) error {
	for {
		page := make([]audit.Record, 0, maxAuditPage)
		err := records(ctx, r, "org_id = ? AND seq > ? ORDER BY seq LIMIT ?", []any{org, after, maxAuditPage}, func(a *audit.Record) error {
			page = append(page, *a)
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if err := f(&page[i]); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Seq
	}
}

// AuditHead returns where the trail stands, with a checkpoint signed now.
func (s *Store) AuditHead(ctx context.Context) (h AuditHead, err error) {
	err = s.view(ctx, "audit head", func(r reader, org wire.OrgID) error {
		n, last, err := lastRecord(ctx, r, org)
		if err != nil {
			return err
		}
		h, err = s.headAt(ctx, r, org, n)
		h.Last = last
		return err
	})
	return h, err
}

// AuditHeadAt returns the checkpoint that the trail had when it had size records.
func (s *Store) AuditHeadAt(ctx context.Context, size int64) (h AuditHead, err error) {
	err = s.view(ctx, "audit head", func(r reader, org wire.OrgID) error {
		if err := wantSize(ctx, r, org, size); err != nil {
			return err
		}
		h, err = s.headAt(ctx, r, org, size)
		return err
	})
	return h, err
}

func wantSize(ctx context.Context, r reader, org wire.OrgID, size int64) error {
	switch n, _, err := lastRecord(ctx, r, org); {
	case err != nil:
		return err
	case size < 1 || size > n:
		return notFound("audit record", fmt.Sprint(size))
	}
	return nil
}

// headAt signs the checkpoint of a size. What was signed before is signed to the same
// bytes: the hashes of the tree never change, and Ed25519 draws no chance.
func (s *Store) headAt(ctx context.Context, r reader, org wire.OrgID, size int64) (h AuditHead, err error) {
	root, err := tlog.TreeHash(size, hashReader{ctx, r, org})
	if err != nil {
		return h, err
	}
	h.Org, h.Checkpoint = org, audit.Checkpoint{Origin: audit.Origin(org), Size: size, Root: root}
	var sealed []byte
	if err := r.QueryRowContext(ctx, "SELECT secret, public FROM audit_log WHERE org_id = ?", org).Scan(&sealed, &h.Key); err != nil {
		return h, err
	}
	secret, err := s.keys.Open(auditSecret(org), sealed)
	if err != nil {
		return h, fmt.Errorf("key of the audit trail: %w", err)
	}
	defer clear(secret)
	h.Note, err = h.Checkpoint.Sign(string(secret))
	return h, err
}

// ProveRecord proves that the tree of size records has record seq.
func (s *Store) ProveRecord(ctx context.Context, seq, size int64) (proof []tlog.Hash, err error) {
	err = s.view(ctx, "prove record", func(r reader, org wire.OrgID) error {
		if err := wantSize(ctx, r, org, size); err != nil {
			return err
		}
		if seq < 1 || seq > size {
			return notFound("audit record", fmt.Sprint(seq))
		}
		proof, err = tlog.ProveRecord(size, seq-1, hashReader{ctx, r, org})
		return err
	})
	return proof, err
}

// ProveConsistency proves that the tree of size records continues that of old.
func (s *Store) ProveConsistency(ctx context.Context, old, size int64) (proof []tlog.Hash, err error) {
	err = s.view(ctx, "prove consistency", func(r reader, org wire.OrgID) error {
		if err := wantSize(ctx, r, org, size); err != nil {
			return err
		}
		switch {
		case old < 0 || old > size:
			return notFound("audit record", fmt.Sprint(old))
		case old == 0 || old == size:
			return nil
		}
		proof, err = tlog.ProveTree(size, old, hashReader{ctx, r, org})
		return err
	})
	return proof, err
}

// archived returns how many records are in files and no more in the table, and the hash
// of the last of them.
func archived(ctx context.Context, r reader, org wire.OrgID) (n int64, last audit.Hash, err error) {
	err = r.QueryRowContext(ctx, "SELECT last, last_hash FROM audit_segments WHERE org_id = ? ORDER BY first DESC LIMIT 1", org).
		Scan(&n, keyCol{&last})
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return n, last, err
}
