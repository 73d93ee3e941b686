package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"enclave/wire"
)

// Clock is the time by which what was granted begins and ends. It is the wall clock's, but
// it does not go back with it: a machine whose clock is set back, by a battery that is
// empty or by whoever answers its questions about the time (NTP is in clear), would
// otherwise bring back tokens, keys and grants that have ended. Up to wire.MaxClockSkew it
// stands still until the wall clock has come along, as after a correction; beyond that the
// monotonic clock carries it on. Only an operator's word takes it back
// (docs/decisions/0218-controls-time-does-not-go-back.md). The zero Clock has seen nothing.
type Clock struct {
	mu    sync.Mutex // guards what follows
	time  latest
	began time.Time // the first reading, from which the monotonic clock counts
	kept  time.Time // the latest that is written down
	since time.Time // when it was first found behind, as the wall clock showed it; zero while it is not
}

// latest is the pure half of Clock: what the two clocks have shown at the latest look.
type latest struct {
	at  time.Time     // without a monotonic reading
	own time.Duration // of the monotonic clock, at that time
}

// look returns the time, and by how much the wall clock is behind it.
func (l *latest) look(wall time.Time, own time.Duration) (now time.Time, behind time.Duration) {
	wall = wall.Round(0)
	if behind = l.at.Sub(wall); behind > wire.MaxClockSkew {
		l.at = l.at.Add(max(own-l.own, 0))
		behind = l.at.Sub(wall)
	} else if behind <= 0 {
		l.at, behind = wall, 0
	}
	l.own = own
	return l.at, behind
}

func newClock(at time.Time) *Clock {
	return &Clock{time: latest{at: at}, kept: at}
}

// Now is the time.
func (c *Clock) Now() time.Time {
	now, _, _ := c.Look()
	return now
}

// Look returns the time and, where this machine's clock is so far behind it that it was set
// back, by how much and since when, as that clock shows it.
func (c *Clock) Look() (now time.Time, behind time.Duration, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := time.Now()
	if c.began.IsZero() {
		c.began = wall
	}
	now, behind = c.time.look(wall, wall.Sub(c.began))
	if behind <= wire.MaxClockSkew {
		c.since = time.Time{}
		return now, 0, c.since
	}
	if c.since.IsZero() {
		c.since = wall.Round(0)
	}
	return now, behind, c.since
}

// clockSchema is the first schema that has the latest time.
const clockSchema = 8

// keepEvery is how often the time is written down; a kill at the very instant at which the
// clock is set back can win so much.
const keepEvery = time.Minute

// Now is the time by which what this state grants begins and ends; see [Clock].
func (s *Store) Now() time.Time { return s.clock.Now() }

// Clock is what Now asks. It holds nothing else of the store.
func (s *Store) Clock() *Clock { return s.clock }

// KeepTime writes down what time it is, at most once in keepEvery: a later start goes on
// from it.
func (s *Store) KeepTime(ctx context.Context) error {
	now := s.Now()
	s.clock.mu.Lock()
	due := now.Sub(s.clock.kept) >= keepEvery
	s.clock.mu.Unlock()
	if !due {
		return nil
	}
	org, err := s.orgID()
	if err != nil {
		return err
	}
	if _, err := s.write.ExecContext(ctx, "UPDATE organisation SET latest = ?1 WHERE org_id = ?2 AND latest < ?1", now.UnixNano(), org); err != nil {
		return fmt.Errorf("keep the time: %w", explain(ctx, err))
	}
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.kept = now
	return nil
}

// setClock begins at the time that the state has seen.
func (s *Store) setClock(ctx context.Context) error {
	var at time.Time
	if err := s.read.QueryRowContext(ctx, "SELECT latest FROM organisation").Scan(instantCol{&at}); err != nil {
		return err
	}
	s.clock = newClock(at)
	return nil
}

// ErrClockRight is returned where a clock is to be believed that is believed already.
var ErrClockRight = errors.New("this machine's clock is not behind what the state has seen")

// BelieveClock makes what this machine's clock shows the time of the state in dir, which
// nobody may have open, and returns the later time that the state had seen. What ended by
// that time and stands in the state, such as a key that was disabled, stays ended. With dry
// nothing is changed.
func BelieveClock(ctx context.Context, dir string, c Change, dry bool, opts ...Option) (seen time.Time, err error) {
	if dry {
		look, err := Examine(ctx, dir, false, nil, opts...)
		if err == nil && look.Latest.Sub(c.At) <= wire.MaxClockSkew {
			err = ErrClockRight
		}
		return look.Latest, err
	}
	s, err := Open(ctx, dir, opts...)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	now, behind, _ := s.clock.Look()
	if behind == 0 {
		return now, ErrClockRight
	}
	s.clock = newClock(c.At) // which the revision of the change writes down
	_, err = s.change(ctx, "believe the clock", c, func(w *writing) error {
		if _, err := w.ExecContext(ctx, "UPDATE organisation SET latest = ? WHERE org_id = ?", c.At.UnixNano(), w.org); err != nil {
			return err
		}
		return w.record(ctx, "clock.believe", "state", map[string]any{"from": now.UTC(), "to": c.At.UTC()})
	})
	return now, err
}
