package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
	"enclave/wire"
)

// record appends the change to the audit trail, and the first record of a revision to
// the list of revisions. detail is made JSON and holds no secret; the reason of the
// change goes with it.
func (w *writing) record(ctx context.Context, action, object string, detail any) error {
	if w.parts != nil {
		return w.parts.gather(action, object, detail)
	}
	text, err := detailText(detail, w.c.Reason)
	if err != nil {
		return err
	}
	if w.bumped {
		_, err := w.ExecContext(ctx, "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			w.org, w.rev, w.c.At.UnixNano(), w.c.By, action, object, w.c.Reason)
		if err != nil {
			return err
		}
	}
	return w.s.appendRecord(ctx, w.Tx, w.org, &audit.Record{
		At: w.c.At, Actor: string(w.c.By), Action: action, Object: object, Revision: w.rev,
		Outcome: w.c.outcome(), Request: w.c.Request,
	}, text)
}

// detailText makes the JSON of a detail, with the reason in it and without what looks
// like a secret.
func detailText(detail any, reason string) ([]byte, error) {
	text := []byte("{}")
	if detail != nil {
		var err error
		if text, err = json.Marshal(detail); err != nil {
			return nil, err
		}
	}
	if reason != "" {
		var err error
		if text, err = withReason(text, reason); err != nil {
			return nil, err
		}
	}
	text = withoutSecrets(text)
	if len(text) > audit.MaxDetail { // the change is kept whole elsewhere: the history of the policy set
		sum := sha256.Sum256(text)
		return withReason(fmt.Appendf(nil, `{"omitted_bytes":%d,"sha256":"%x"}`, len(text), sum), reason)
	}
	return text, nil
}

// secretForms are the forms of secrets that people paste where they do not belong, such
// as the reason of a change: API tokens, enrolment keys, age identities.
var secretForms = regexp.MustCompile(`enctok_[0-9A-Za-z]{8,}|\b[0-9a-hjkmnp-tv-zA-HJKMNP-TV-Z]{5}(?:-[0-9a-hjkmnp-tv-zA-HJKMNP-TV-Z]{5}){4}\b|AGE-SECRET-KEY-[0-9A-Z-]{8,}`)

func withoutSecrets(text []byte) []byte {
	s := string(text)
	if !strings.Contains(s, "enctok_") && !strings.Contains(s, "SECRET-KEY") && strings.Count(s, "-") < 4 {
		return text
	}
	return secretForms.ReplaceAll(text, []byte("[a secret was here]"))
}

// withReason puts the reason into a detail: as a member of an object, or beside what
// is none.
func withReason(detail []byte, reason string) ([]byte, error) {
	member, err := json.Marshal(reason)
	switch {
	case err != nil:
		return nil, err
	case reason == "":
		return detail, nil
	case string(detail) == "{}":
		return fmt.Appendf(nil, `{"reason":%s}`, member), nil
	case detail[0] == '{':
		return fmt.Appendf(nil, `{"reason":%s,%s`, member, detail[1:]), nil
	}
	return fmt.Appendf(nil, `{"reason":%s,"detail":%s}`, member, detail), nil
}

// appendRecord gives a record its place in the chain and the tree, seals its detail and
// writes all of it, within the transaction of what it records.
func (s *Store) appendRecord(ctx context.Context, tx execReader, org wire.OrgID, a *audit.Record, detail []byte) error {
	last, prev, err := lastRecord(ctx, tx, org)
	if err != nil {
		return err
	}
	a.Seq, a.Prev, a.Subject = last+1, prev, audit.Subject(a.Actor, a.Object)
	key, number, err := s.subjectKey(ctx, tx, org, a.Subject, a.At)
	if err != nil {
		return err
	}
	defer clear(key)
	if err := s.complete(a, org, key, number, detail); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, insertRecord, recordArgs(org, a)...); err != nil {
		return err
	}
	return appendLeaf(ctx, tx, org, a.Seq-1, a.Hash)
}

// complete seals the detail of a record that has its place, and hashes it.
func (s *Store) complete(a *audit.Record, org wire.OrgID, key []byte, number uint32, detail []byte) error {
	if s.onRecord != nil {
		if err := s.onRecord(a); err != nil {
			return fmt.Errorf("audit record: %w", err)
		}
	}
	a.Format, a.Key, a.At = audit.Current, number, a.At.UTC()
	a.Detail = audit.SealDetail(audit.RecordKey(key, org, a.Seq), org, a, detail)
	a.Hash, _ = a.Sum(org, nil)
	return a.Check()
}

const insertRecord = "INSERT INTO audit_records (org_id, " + recordColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

func recordArgs(org wire.OrgID, a *audit.Record) []any {
	return []any{org, a.Seq, a.Format, a.At.UnixNano(), a.Actor, a.Action, a.Object, a.Revision, a.Outcome, a.Request, a.Subject, a.Key,
		a.Detail, a.Prev[:], a.Hash[:]}
}

// appendLeaf adds the hash of record n, counted from 0, to the tree, with the nodes that
// it completes.
func appendLeaf(ctx context.Context, tx execReader, org wire.OrgID, n int64, record audit.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(n, audit.Leaf(record), hashReader{ctx, tx, org})
	if err != nil {
		return err
	}
	place := tlog.StoredHashIndex(0, n)
	query, args := "INSERT INTO audit_hashes VALUES ", make([]any, 0, 3*len(hashes))
	for i := range hashes {
		if i > 0 {
			query += ", "
		}
		query += "(?, ?, ?)"
		args = append(args, org, place+int64(i), hashes[i][:])
	}
	_, err = tx.ExecContext(ctx, query, args...)
	return err
}

// hashReader reads the tree's hashes for package tlog.
type hashReader struct {
	ctx context.Context
	r   reader
	org wire.OrgID
}

// ReadHashes implements tlog.HashReader: one query for all, since a proof takes some
// twenty.
func (h hashReader) ReadHashes(places []int64) ([]tlog.Hash, error) {
	if len(places) == 0 {
		return nil, nil
	}
	args := make([]any, 0, 1+len(places))
	args = append(args, h.org)
	for _, p := range places {
		args = append(args, p)
	}
	found := make(map[int64]tlog.Hash, len(places))
	query := "SELECT place, hash FROM audit_hashes WHERE org_id = ? AND place IN (?" + strings.Repeat(", ?", len(places)-1) + ")"
	err := rows(h.ctx, h.r, query, args, func(scan func(...any) error) error {
		var place int64
		var hash [32]byte
		err := scan(&place, keyCol{&hash})
		found[place] = hash
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]tlog.Hash, len(places))
	for i, p := range places {
		hash, ok := found[p]
		if !ok {
			return nil, fmt.Errorf("%w: hash %d of the tree is missing", ErrChain, p)
		}
		out[i] = hash
	}
	return out, nil
}
