package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
	"enclave/wire"
)

// group lets records that come at the same time share one transaction, and so one wait
// for the disk. One caller leads: it writes what has gathered while the commit before was
// under way, its own among it, and hands over. A record that comes alone waits for nobody.
type group struct {
	mu      sync.Mutex // guards what follows
	waiting []*waiting
	led     bool
}

// waiting is a record on its way. Its caller is told the result, or that it leads.
type waiting struct {
	rec    audit.Record
	detail []byte
	done   chan error    // capacity 1: the leader waits for nobody
	lead   chan struct{} // capacity 1
}

// maxGroup is the most records of one transaction: beyond it the disk is not what takes
// the time.
const maxGroup = 256

// Record appends a record of something that changed no row here: a sign-in, a refused
// enrolment, a tool call, an export. Those that come at the same time are written
// together; when Record returns nil the record is on the disk.
func (s *Store) Record(ctx context.Context, c Change, action, object string, detail any) error {
	if s.trial(ctx) != nil {
		_, err := s.change(ctx, "audit", c, func(w *writing) error { return w.record(ctx, action, object, detail) })
		return err
	}
	org, err := s.orgID()
	if err == nil {
		err = c.check()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	text, err := detailText(detail, c.Reason)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	m := &waiting{detail: text, done: make(chan error, 1), lead: make(chan struct{}, 1),
		rec: audit.Record{At: c.At, Actor: string(c.By), Action: action, Object: object, Outcome: c.outcome(), Request: c.Request}}
	m.rec.Format, m.rec.Seq = audit.Current, 1 // for the check alone: one bad record must not fail its neighbours
	if err := m.rec.Check(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	g := &s.group
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.led {
		g.led = true
		m.lead <- struct{}{}
	}
	g.mu.Unlock()
	select {
	case err = <-m.done:
	case <-m.lead:
		s.writeGroup(context.WithoutCancel(ctx), org)
		err = <-m.done
	}
	if err != nil {
		return fmt.Errorf("audit: %w", translate(err))
	}
	return nil
}

// writeGroup writes what waits, in the order in which it came, and hands the lead on. Its
// caller is the first of them.
func (s *Store) writeGroup(ctx context.Context, org wire.OrgID) {
	tx, err := s.write.BeginTx(ctx, nil) // waits for the change under way; meanwhile others gather
	g := &s.group
	g.mu.Lock()
	n := min(len(g.waiting), maxGroup)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()
	if err == nil {
		if err = s.appendGroup(ctx, tx, org, batch); err == nil {
			if err = tx.Commit(); err == nil {
				s.news.tell()
			}
		} else {
			_ = tx.Rollback()
		}
	}
	for _, m := range batch {
		m.done <- err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.led = len(g.waiting) > 0; g.led {
		g.waiting[0].lead <- struct{}{}
	}
}

// appendGroup writes a group within one transaction. It keeps at hand what every record
// of it needs: where the chain and the tree stand, the subjects' keys, the statements.
func (s *Store) appendGroup(ctx context.Context, tx *sql.Tx, org wire.OrgID, batch []*waiting) (err error) {
	rev, err := revision(ctx, tx, org)
	if err != nil {
		return err
	}
	if len(batch) == 1 {
		batch[0].rec.Revision = rev
		return s.appendRecord(ctx, tx, org, &batch[0].rec, batch[0].detail)
	}
	g := grouped{s: s, ctx: ctx, tx: tx, org: org, keys: make(map[string]subjectNow)}
	if g.seq, g.prev, err = lastRecord(ctx, tx, org); err != nil {
		return err
	}
	tops, err := hashReader{ctx, tx, org}.ReadHashes(audit.TopIndexes(g.seq))
	if err != nil {
		return err
	}
	if g.tree, err = audit.TreeOf(g.seq, tops); err != nil {
		return err
	}
	if g.record, err = tx.PrepareContext(ctx, insertRecord); err != nil {
		return err
	}
	defer g.record.Close()
	if g.hash, err = tx.PrepareContext(ctx, "INSERT INTO audit_hashes VALUES (?, ?, ?)"); err != nil {
		return err
	}
	defer g.hash.Close()
	for _, m := range batch {
		m.rec.Revision = rev
		if err := g.append(&m.rec, m.detail); err != nil {
			return err
		}
	}
	return nil
}

// grouped is a group being written.
type grouped struct {
	s            *Store
	ctx          context.Context // of the transaction
	tx           *sql.Tx
	org          wire.OrgID
	seq          int64
	prev         audit.Hash
	tree         audit.Tree
	keys         map[string]subjectNow
	record, hash *sql.Stmt
}

type subjectNow struct {
	secret []byte
	key    uint32
}

func (g *grouped) append(a *audit.Record, detail []byte) error {
	a.Seq, a.Prev, a.Subject = g.seq+1, g.prev, audit.Subject(a.Actor, a.Object)
	k, ok := g.keys[a.Subject]
	if !ok {
		var err error
		if k.secret, k.key, err = g.s.subjectKey(g.ctx, g.tx, g.org, a.Subject, a.At); err != nil {
			return err
		}
		g.keys[a.Subject] = k
	}
	if err := g.s.complete(a, g.org, k.secret, k.key, detail); err != nil {
		return err
	}
	if _, err := g.record.ExecContext(g.ctx, recordArgs(g.org, a)...); err != nil {
		return err
	}
	leaf := audit.Leaf(a.Hash)
	place := tlog.StoredHashIndex(0, g.seq)
	for i, h := range append([]tlog.Hash{leaf}, g.tree.AppendLeaf(leaf)...) {
		if _, err := g.hash.ExecContext(g.ctx, g.org, place+int64(i), h[:]); err != nil {
			return err
		}
	}
	g.seq, g.prev = a.Seq, a.Hash
	return nil
}
