package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"enclave/wire"
)

// Activity is one record of the activity log. Its hash covers every other field
// and the hash of the record before it (docs/format/activity.md).
type Activity struct {
	Seq      int64 // from 1, without gaps
	At       time.Time
	Actor    Actor
	Action   string // noun.verb: policy.create
	Object   string // what it happened to: system:k3j9x
	Revision wire.Revision
	Detail   string // JSON object
	Prev     [32]byte
	Hash     [32]byte
}

// activityMagic begins the hashed bytes, so that they mean nothing else.
const activityMagic = "enclave activity v1\x00"

// Sum computes the record's hash from its other fields.
func (a *Activity) Sum(org wire.OrgID) [32]byte {
	b := make([]byte, 0, 256+len(a.Detail))
	b = append(b, activityMagic...)
	b = append(b, a.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(a.At.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(a.Revision))
	for _, s := range []string{string(org), string(a.Actor), a.Action, a.Object, a.Detail} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// ErrChain is returned where the activity log does not fit together.
var ErrChain = errors.New("the activity log has been tampered with")

// VerifyActivity checks that records follow prev (the hash before the first of
// them; zero for the start of the log) without a gap and are what was hashed.
func VerifyActivity(org wire.OrgID, prev [32]byte, records []Activity) error {
	for i := range records {
		a := &records[i]
		switch {
		case a.Prev != prev:
			return fmt.Errorf("%w: record %d does not follow the one before", ErrChain, a.Seq)
		case i > 0 && a.Seq != records[i-1].Seq+1:
			return fmt.Errorf("%w: record %d follows %d", ErrChain, a.Seq, records[i-1].Seq)
		case a.Sum(org) != a.Hash:
			return fmt.Errorf("%w: record %d has been changed", ErrChain, a.Seq)
		}
		prev = a.Hash
	}
	return nil
}

// maxActivityPage bounds one answer of Activity.
const maxActivityPage = 1000

// Activity returns records after seq, oldest first, at most limit (and at most
// 1,000, which 0 also means).
func (s *Store) Activity(ctx context.Context, after int64, limit int) (list []Activity, err error) {
	if limit <= 0 || limit > maxActivityPage {
		limit = maxActivityPage
	}
	err = s.view(ctx, "read activity", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, `SELECT seq, at, actor, action, object, revision, detail, prev_hash, hash
			FROM activity WHERE org_id = ? AND seq > ? ORDER BY seq LIMIT ?`, []any{org, after, limit},
			func(scan func(...any) error) error {
				var a Activity
				err := scan(&a.Seq, instantCol{&a.At}, &a.Actor, &a.Action, &a.Object, &a.Revision, &a.Detail,
					keyCol{&a.Prev}, keyCol{&a.Hash})
				list = append(list, a)
				return err
			})
	})
	return list, err
}

// LastActivity returns the number of the newest record, 0 when there is none.
func (s *Store) LastActivity(ctx context.Context) (seq int64, err error) {
	err = s.view(ctx, "read activity", func(r reader, org wire.OrgID) error {
		return r.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM activity WHERE org_id = ?", org).Scan(&seq)
	})
	return seq, err
}

// Record appends a record of something that changed no row here: a sign-in, a
// refused enrolment, an export.
func (s *Store) Record(ctx context.Context, c Change, action, object string, detail any) error {
	_, err := s.change(ctx, "record activity", c, func(w *writing) error {
		return w.record(ctx, action, object, detail)
	})
	return err
}

// CheckActivity reads the whole log and verifies its chain. It returns how many
// records it has and the hash of the last.
func (s *Store) CheckActivity(ctx context.Context) (n int64, last [32]byte, err error) {
	org, err := s.orgID()
	if err != nil {
		return 0, last, err
	}
	for {
		list, err := s.Activity(ctx, n, maxActivityPage)
		if err != nil || len(list) == 0 {
			return n, last, err
		}
		if list[0].Seq != n+1 {
			return n, last, fmt.Errorf("%w: record %d is missing", ErrChain, n+1)
		}
		if err := VerifyActivity(org, last, list); err != nil {
			return n, last, err
		}
		n, last = list[len(list)-1].Seq, list[len(list)-1].Hash
	}
}

func appendActivity(ctx context.Context, tx *sql.Tx, org wire.OrgID, a Activity) error {
	err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM activity WHERE org_id = ? ORDER BY seq DESC LIMIT 1", org).
		Scan(&a.Seq, keyCol{&a.Prev})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	a.Seq++
	a.Hash = a.Sum(org)
	_, err = tx.ExecContext(ctx, "INSERT INTO activity VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		org, a.Seq, a.At.UnixNano(), string(a.Actor), a.Action, a.Object, a.Revision, a.Detail, a.Prev[:], a.Hash[:])
	return err
}
