package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"enclave/store/audit"
	"enclave/wire"
)

// Segment is a run of records that is in a file and no more in the table.
type Segment struct {
	First, Last     int64
	FirstAt, LastAt time.Time
	LastHash        audit.Hash
	Checkpoint      string // over the records up to Last
	FileHash        [32]byte
	At              time.Time
}

// Archived says which export whoever archives has written and verified.
type Archived struct {
	Last     int64      // its last record
	LastHash audit.Hash // whoever has the file can tell it
	FileHash [32]byte   // SHA-256 of the export in clear, for whoever looks for the file
}

// ErrNotExported is returned for an archive that is not the one of these records.
var ErrNotExported = errors.New("the archive is not of these records")

// Archive takes the records up to a number out of the table. They are in a file that the
// caller has written and verified. Their hashes stay in the tree, so that every proof
// stays valid, and the chain goes on from the last of them.
func (s *Store) Archive(ctx context.Context, c Change, a Archived) (seg Segment, err error) {
	_, err = s.change(ctx, "archive", c, func(w *writing) error {
		seg, err = s.archive(ctx, w, a)
		return err
	})
	return seg, err
}

func (s *Store) archive(ctx context.Context, w *writing, a Archived) (seg Segment, err error) {
	before, _, err := archived(ctx, w, w.org)
	if err != nil {
		return seg, err
	}
	n, _, err := lastRecord(ctx, w, w.org)
	if err != nil {
		return seg, err
	}
	if a.Last <= before || a.Last >= n {
		return seg, conflict("records %d to %d can be archived; the newest stays", before+1, n-1)
	}
	seg = Segment{First: before + 1, Last: a.Last, LastHash: a.LastHash, FileHash: a.FileHash, At: w.c.At}
	var have audit.Hash
	err = w.QueryRowContext(ctx, `SELECT hash, at, (SELECT at FROM audit_records WHERE org_id = ?1 AND seq = ?3)
		FROM audit_records WHERE org_id = ?1 AND seq = ?2`, w.org, seg.Last, seg.First).
		Scan(keyCol{&have}, instantCol{&seg.LastAt}, instantCol{&seg.FirstAt})
	if err != nil {
		return seg, err
	}
	if have != a.LastHash {
		return seg, fmt.Errorf("%w: record %d has another hash", ErrNotExported, a.Last)
	}
	head, err := s.headAt(ctx, w, w.org, a.Last)
	if err != nil {
		return seg, err
	}
	seg.Checkpoint = head.Note
	_, err = w.ExecContext(ctx, "INSERT INTO audit_segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", w.org, seg.First, seg.Last,
		seg.FirstAt.UnixNano(), seg.LastAt.UnixNano(), seg.LastHash[:], seg.Checkpoint, seg.FileHash[:], seg.At.UnixNano())
	if err != nil {
		return seg, err
	}
	if _, err := w.ExecContext(ctx, "DELETE FROM audit_records WHERE org_id = ? AND seq <= ?", w.org, seg.Last); err != nil {
		return seg, err
	}
	return seg, w.record(ctx, "audit.archive", fmt.Sprintf("records:%d-%d", seg.First, seg.Last),
		map[string]any{"file_sha256": fmt.Sprintf("%x", seg.FileHash), "last_hash": fmt.Sprintf("%x", seg.LastHash)})
}

// Segments lists what was archived, oldest first.
func (s *Store) Segments(ctx context.Context) (list []Segment, err error) {
	err = s.view(ctx, "read segments", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, `SELECT first, last, first_at, last_at, last_hash, checkpoint, file_hash, at FROM audit_segments
			WHERE org_id = ? ORDER BY first`, []any{org}, func(scan func(...any) error) error {
			var g Segment
			err := scan(&g.First, &g.Last, instantCol{&g.FirstAt}, instantCol{&g.LastAt}, keyCol{&g.LastHash}, &g.Checkpoint, keyCol{&g.FileHash}, instantCol{&g.At})
			list = append(list, g)
			return err
		})
	})
	return list, err
}
