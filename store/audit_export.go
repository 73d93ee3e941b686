package store

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
	"enclave/wire"
)

// ExportQuery says what an export has.
type ExportQuery struct {
	Last   int64     // its last record; 0 is the newest
	Before time.Time // where set, it ends before the first record of this instant or later
	Sealed bool      // details stay sealed, also those that could be read
}

// ExportAudit writes the records that are kept, from the first, as docs/format/audit.md
// has it. It holds no transaction while it writes: records never change, so a slow reader
// costs nobody anything. A record that is archived meanwhile ends it.
func (s *Store) ExportAudit(ctx context.Context, out io.Writer, q ExportQuery) (h audit.Header, err error) {
	err = s.view(ctx, "export audit trail", func(r reader, org wire.OrgID) error {
		h, err = s.exportHeader(ctx, r, org, q)
		return err
	})
	if err != nil {
		return h, err
	}
	w := audit.NewWriter(out)
	if err := w.Header(&h); err != nil {
		return h, err
	}
	for next := h.First; next <= h.Last; {
		err := s.view(ctx, "export audit trail", func(r reader, org wire.OrgID) error {
			to := min(next+maxAuditPage-1, h.Last)
			next, err = s.exportPage(ctx, r, org, w, next, to, h.Last, q.Sealed)
			return err
		})
		if err != nil {
			return h, err
		}
	}
	return h, w.Flush()
}

func (s *Store) exportHeader(ctx context.Context, r reader, org wire.OrgID, q ExportQuery) (h audit.Header, err error) {
	n, _, err := lastRecord(ctx, r, org)
	if err != nil {
		return h, err
	}
	before, prev, err := archived(ctx, r, org)
	if err != nil {
		return h, err
	}
	h = audit.Header{Version: audit.ExportVersion, Org: org, First: before + 1, Last: n, Prev: fmt.Sprintf("%x", prev)}
	if q.Last != 0 {
		if err := wantSize(ctx, r, org, q.Last); err != nil {
			return h, err
		}
		h.Last = q.Last
	}
	if !q.Before.IsZero() {
		var first *int64
		if err := r.QueryRowContext(ctx, "SELECT min(seq) FROM audit_records WHERE org_id = ? AND at >= ?", org, q.Before.UnixNano()).Scan(&first); err != nil {
			return h, err
		}
		if first != nil {
			h.Last = min(h.Last, *first-1)
		}
	}
	if h.Last < h.First {
		return h, fmt.Errorf("audit records before that: %w", ErrNotFound)
	}
	tops, err := hashReader{ctx, r, org}.ReadHashes(audit.TopIndexes(before))
	if err != nil {
		return h, err
	}
	h.Tops = append([]tlog.Hash{}, tops...)
	head, err := s.headAt(ctx, r, org, h.Last)
	h.Key, h.Checkpoint = head.Key, head.Note
	return h, err
}

// exportPage writes some records and returns the number of the next.
func (s *Store) exportPage(ctx context.Context, r reader, org wire.OrgID, w *audit.Writer, next, to, last int64, sealed bool) (int64, error) {
	page := make([]Entry, 0, to-next+1)
	err := records(ctx, r, "org_id = ? AND seq BETWEEN ? AND ? ORDER BY seq", []any{org, next, to}, func(a *audit.Record) error {
		page = append(page, Entry{Record: *a})
		return nil
	})
	if err != nil {
		return next, err
	}
	if int64(len(page)) != to-next+1 {
		return next, fmt.Errorf("%w: a record between %d and %d is missing, or was archived meanwhile", ErrChain, next, to)
	}
	keys := s.subjectKeys(r, org)
	for i := range page {
		e := &page[i]
		key, err := keys.record(ctx, &e.Record)
		if err != nil {
			return next, err
		}
		var clear []byte
		if sealed {
			key = nil
		}
		if key != nil {
			if clear, err = audit.OpenDetail(key, org, &e.Record); err != nil {
				return next, fmt.Errorf("%w: record %d: %w", ErrChain, e.Seq, err)
			}
		}
		if err := w.Record(&e.Record, key, clear); err != nil {
			return next, err
		}
		if e.Seq%audit.CheckpointEvery == 0 && e.Seq != last {
			head, err := s.headAt(ctx, r, org, e.Seq)
			if err != nil {
				return next, err
			}
			if err := w.Checkpoint(head.Note); err != nil {
				return next, err
			}
		}
	}
	return to + 1, nil
}

// AuditLine returns a record as the line of an export, with the key of its detail.
func (s *Store) AuditLine(ctx context.Context, seq int64) (line []byte, err error) {
	err = s.view(ctx, "read audit record", func(r reader, org wire.OrgID) error {
		var found *audit.Record
		err := records(ctx, r, "org_id = ? AND seq = ?", []any{org, seq}, func(a *audit.Record) error {
			found = a
			return nil
		})
		if err != nil {
			return err
		}
		if found == nil {
			return notFound("audit record", fmt.Sprint(seq))
		}
		key, err := s.subjectKeys(r, org).record(ctx, found)
		if err != nil {
			return err
		}
		var clear []byte
		if key != nil {
			if clear, err = audit.OpenDetail(key, org, found); err != nil {
				return fmt.Errorf("%w: record %d: %w", ErrChain, seq, err)
			}
		}
		line = audit.AppendLine(nil, found, key, clear)
		return nil
	})
	return line, err
}
