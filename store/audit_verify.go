package store

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
	"enclave/wire"
)

// verifyEvery is how many records pass between two words of progress.
const verifyEvery = 4096

// VerifyAudit reads the whole trail and checks it: every record against its hash and the
// one before, every hash of the tree against the records and each other, the segments
// that were archived against the checkpoints they left. progress, which may be nil, is
// told how far it is. The error is an ErrChain that names the first record that is wrong.
func (s *Store) VerifyAudit(ctx context.Context, progress func(done, total int64)) (h AuditHead, err error) {
	err = s.view(ctx, "verify audit trail", func(r reader, org wire.OrgID) error {
		n, last, err := lastRecord(ctx, r, org)
		if err != nil {
			return err
		}
		v := verification{ctx: ctx, r: r, org: org, total: n, progress: progress}
		if err := v.run(); err != nil {
			return err
		}
		if h, err = s.headAt(ctx, r, org, n); err != nil {
			return err
		}
		h.Last = last
		if h.Checkpoint.Root != v.tree.Root() {
			return fmt.Errorf("%w: the root of the tree is not that of its records", ErrChain)
		}
		return s.verifySegments(ctx, r, org, &v, h.Key)
	})
	return h, err
}

// verification is a walk over records and hashes, side by side.
type verification struct {
	ctx      context.Context
	r        reader
	org      wire.OrgID
	total    int64
	progress func(done, total int64)

	tree  audit.Tree
	prev  audit.Hash
	buf   []byte
	page  []tlog.Hash // hashes of the tree, read ahead
	place int64       // of the next
	roots map[int64]tlog.Hash
}

func (v *verification) run() error {
	first, last, err := archived(v.ctx, v.r, v.org)
	if err != nil {
		return err
	}
	ends, err := segmentEnds(v.ctx, v.r, v.org)
	if err != nil {
		return err
	}
	v.roots = make(map[int64]tlog.Hash, len(ends))
	for n := int64(1); n <= first; n++ { // archived: the tree alone knows them
		leaf, err := v.next()
		if err != nil {
			return err
		}
		if err := v.grow(n, leaf); err != nil {
			return err
		}
		if ends[n] {
			v.roots[n] = v.tree.Root()
		}
		if n == first && leaf != audit.Leaf(last) {
			return fmt.Errorf("%w: archived record %d is not the one that was archived", ErrChain, n)
		}
	}
	v.prev = last
	at := first
	err = eachRecord(v.ctx, v.r, v.org, 0, func(a *audit.Record) error {
		at++
		if err := v.record(at, a); err != nil {
			return err
		}
		leaf, err := v.next()
		switch {
		case err != nil:
			return err
		case leaf != audit.Leaf(a.Hash):
			return fmt.Errorf("%w: record %d is not the one in the tree", ErrChain, at)
		}
		return v.grow(at, leaf)
	})
	if err != nil {
		return err
	}
	var count int64
	if err := v.r.QueryRowContext(v.ctx, "SELECT count(*) FROM audit_hashes WHERE org_id = ?", v.org).Scan(&count); err != nil {
		return err
	}
	if want := tlog.StoredHashCount(at); count > want {
		return fmt.Errorf("%w: record %d is missing; the tree has it", ErrChain, at+1)
	}
	return nil
}

func (v *verification) record(n int64, a *audit.Record) (err error) {
	var sum audit.Hash
	sum, v.buf = a.Sum(v.org, v.buf)
	switch {
	case a.Seq != n:
		return fmt.Errorf("%w: record %d is missing", ErrChain, n)
	case sum != a.Hash:
		return fmt.Errorf("%w: record %d has been changed", ErrChain, n)
	case a.Prev != v.prev:
		return fmt.Errorf("%w: record %d does not follow the one before", ErrChain, n)
	}
	v.prev = a.Hash
	return nil
}

// next reads the next hash of the tree.
func (v *verification) next() (tlog.Hash, error) {
	if len(v.page) == 0 {
		var list []tlog.Hash
		from := v.place
		err := rows(v.ctx, v.r, "SELECT place, hash FROM audit_hashes WHERE org_id = ? AND place >= ? ORDER BY place LIMIT ?",
			[]any{v.org, from, 2 * maxAuditPage}, func(scan func(...any) error) error {
				var place int64
				var h [32]byte
				if err := scan(&place, keyCol{&h}); err != nil {
					return err
				}
				if place != from+int64(len(list)) {
					return fmt.Errorf("%w: hash %d of the tree is missing", ErrChain, from+int64(len(list)))
				}
				list = append(list, h)
				return nil
			})
		if err != nil {
			return tlog.Hash{}, err
		}
		if len(list) == 0 {
			return tlog.Hash{}, fmt.Errorf("%w: the tree ends before record %d", ErrChain, v.tree.Size()+1)
		}
		v.page = list
	}
	h := v.page[0]
	v.page, v.place = v.page[1:], v.place+1
	return h, nil
}

// grow adds a leaf and compares the nodes that it completes with those that are stored.
func (v *verification) grow(n int64, leaf tlog.Hash) error {
	for _, want := range v.tree.AppendLeaf(leaf) {
		switch got, err := v.next(); {
		case err != nil:
			return err
		case got != want:
			return fmt.Errorf("%w: a node of the tree above record %d has been changed", ErrChain, n)
		}
	}
	if v.progress != nil && (n%verifyEvery == 0 || n == v.total) {
		v.progress(n, v.total)
	}
	return v.ctx.Err()
}

func segmentEnds(ctx context.Context, r reader, org wire.OrgID) (map[int64]bool, error) {
	ends := make(map[int64]bool)
	err := rows(ctx, r, "SELECT last FROM audit_segments WHERE org_id = ?", []any{org}, func(scan func(...any) error) error {
		var last int64
		err := scan(&last)
		ends[last] = true
		return err
	})
	return ends, err
}

// verifySegments compares what each archived segment left behind with the tree.
func (s *Store) verifySegments(ctx context.Context, r reader, org wire.OrgID, v *verification, key string) error {
	next := int64(1)
	return rows(ctx, r, "SELECT first, last, checkpoint FROM audit_segments WHERE org_id = ? ORDER BY first", []any{org}, func(scan func(...any) error) error {
		var first, last int64
		var note string
		if err := scan(&first, &last, &note); err != nil {
			return err
		}
		c, err := audit.OpenCheckpoint(note, key)
		if err != nil || first != next || c.Size != last || c.Root != v.roots[last] {
			return fmt.Errorf("%w: the archived segment from record %d is not the one in the tree", ErrChain, first)
		}
		next = last + 1
		return nil
	})
}
