package store

import (
	"context"
	"fmt"
	"sync"

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

func (s *Store) appendGroup(ctx context.Context, tx execReader, org wire.OrgID, batch []*waiting) error {
	rev, err := revision(ctx, tx, org)
	if err != nil {
		return err
	}
	for _, m := range batch {
		m.rec.Revision = rev
		if err := s.appendRecord(ctx, tx, org, &m.rec, m.detail); err != nil {
			return err
		}
	}
	return nil
}
