package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"enclave/store/audit"
	"enclave/wire"
)

// ErrChain is returned where the audit trail does not fit together.
var ErrChain = errors.New("the audit trail has been tampered with")

// Entry is a record as whoever may read the trail sees it.
type Entry struct {
	audit.Record
	Clear  string // the detail, a JSON object; empty when it is erased
	Erased bool   // the key of its subject was destroyed
}

// AuditQuery says which records are wanted. The zero query wants the oldest.
type AuditQuery struct {
	After, Before         int64 // numbers, both exclusive; 0 is open
	Actor, Action, Object string
	Outcome, Request      string
	Since, Until          time.Time // Until is exclusive
	Limit                 int       // at most 1,000, which 0 also means
	Newest                bool      // from the end, newest first
}

// maxAuditPage bounds one answer of Audit.
const maxAuditPage = 1000

// where is the condition of the query. A word that ends in * stands for all that begin
// so: policy.*, system:*.
func (q *AuditQuery) where(org wire.OrgID) (string, []any) {
	cond, args := []string{"org_id = ?", "seq > ?"}, []any{org, q.After}
	add := func(c string, a any) { cond, args = append(cond, c), append(args, a) }
	if q.Before > 0 {
		add("seq < ?", q.Before)
	}
	for _, w := range []struct{ column, want string }{
		{"actor", q.Actor}, {"action", q.Action}, {"object", q.Object}, {"outcome", q.Outcome}, {"request", q.Request},
	} {
		switch begin, more := strings.CutSuffix(w.want, "*"); {
		case w.want == "":
		case more:
			add("substr("+w.column+", 1, length(?)) = ?", begin)
			args = append(args, begin)
		case w.column == "outcome" && w.want == audit.Done: // records of the first format have none
			add("outcome IN ('', ?)", w.want)
		default:
			add(w.column+" = ?", w.want)
		}
	}
	if !q.Since.IsZero() {
		add("at >= ?", q.Since.UnixNano())
	}
	if !q.Until.IsZero() {
		add("at < ?", q.Until.UnixNano())
	}
	return strings.Join(cond, " AND "), args
}

// Audit returns the records that a query wants. Archived ones are in their files.
func (s *Store) Audit(ctx context.Context, q AuditQuery) (list []Entry, err error) {
	if q.Limit <= 0 || q.Limit > maxAuditPage {
		q.Limit = maxAuditPage
	}
	err = s.view(ctx, "read audit trail", func(r reader, org wire.OrgID) error {
		where, args := q.where(org)
		order := " ORDER BY seq LIMIT ?"
		if q.Newest {
			order = " ORDER BY seq DESC LIMIT ?"
		}
		err := records(ctx, r, where+order, append(args, q.Limit), func(rec *audit.Record) error {
			list = append(list, Entry{Record: *rec})
			return nil
		})
		if err != nil {
			return err
		}
		keys := s.subjectKeys(r, org)
		for i := range list {
			if err := list[i].open(ctx, org, keys); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// open reads the detail of an entry, or notes that nobody can any more.
func (e *Entry) open(ctx context.Context, org wire.OrgID, keys *subjectKeys) error {
	key, err := keys.record(ctx, &e.Record)
	switch {
	case err != nil:
		return err
	case e.Format == audit.Activity:
		e.Clear = string(e.Detail)
		return nil
	case key == nil:
		e.Erased = true
		return nil
	}
	clear, err := audit.OpenDetail(key, org, &e.Record)
	if err != nil {
		return fmt.Errorf("%w: record %d: %w", ErrChain, e.Seq, err)
	}
	e.Clear = string(clear)
	return nil
}

const recordColumns = "seq, format, at, actor, action, object, revision, outcome, request, subject, key, detail, prev_hash, hash"

// records calls f with each record of a condition; it owns the record until it returns.
func records(ctx context.Context, r reader, where string, args []any, f func(*audit.Record) error) error {
	return rows(ctx, r, "SELECT "+recordColumns+" FROM audit_records WHERE "+where, args, func(scan func(...any) error) error {
		var a audit.Record
		err := scan(&a.Seq, &a.Format, instantCol{&a.At}, &a.Actor, &a.Action, &a.Object, &a.Revision,
			&a.Outcome, &a.Request, &a.Subject, &a.Key, &a.Detail, keyCol{&a.Prev}, keyCol{&a.Hash})
		if err != nil {
			return err
		}
		return f(&a)
	})
}

// LastRecord returns the number of the newest record, 0 when there is none.
func (s *Store) LastRecord(ctx context.Context) (seq int64, err error) {
	err = s.view(ctx, "read audit trail", func(r reader, org wire.OrgID) (err error) {
		seq, _, err = lastRecord(ctx, r, org)
		return err
	})
	return seq, err
}

// lastRecord returns the number and hash of the newest record; zero where there is none.
func lastRecord(ctx context.Context, r reader, org wire.OrgID) (seq int64, hash audit.Hash, err error) {
	err = r.QueryRowContext(ctx, "SELECT seq, hash FROM audit_records WHERE org_id = ? ORDER BY seq DESC LIMIT 1", org).
		Scan(&seq, keyCol{&hash})
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return seq, hash, err
}
