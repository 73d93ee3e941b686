package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// plane is the data plane as the loop sees it.
type plane interface {
	// apply makes peers the ones in force. What they are not granted passes no more
	// when it returns, also when it returns an error. at is the time by which grants
	// end for a plane that comes into being with it.
	apply(m *wire.Map, peers []wire.Peer, cause string, now, at time.Time) error
	// expire cuts flows whose time has come and returns when to look again; zero is
	// not until the next apply.
	expire(now time.Time) time.Time
	// set makes wall the time by which grants end, also where that is earlier than
	// what it went by so far.
	set(wall time.Time)
}

// word is what the loop is told, in order; one of the first three is set.
type word struct {
	msg    *wire.Message
	away   error      // the stream has ended with it
	svid   [][]byte   // a renewed one
	forget bool       // the checkpoint that is remembered
	answer chan error // capacity 1
}

// tell hands w to the loop and waits for what it says.
func (a *Agent) tell(ctx context.Context, w word) error {
	w.answer = make(chan error, 1)
	select {
	case a.words <- w:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loop owns the agent's state. It takes what control says, runs the instants that
// the map carries, and publishes a view after every change. Nothing control says ends
// it: a message that makes no sense is answered with an error, and the stream ends.
func (a *Agent) loop(ctx context.Context, p plane) error {
	trust, err := a.trust()
	if err != nil {
		return err
	}
	l := &looper{Agent: a, plane: p, names: new(directory), began: time.Now()}
	l.chart = chart{self: a.st.System, keys: a.keys, org: a.st.Org, roots: trust.Roots, seen: a.st.Seen}
	l.status = api.ControlStatus{URL: a.cfg.Control}
	a.witnessed.Store(a.st.Witness.size())
	l.recall(l.wake())
	l.settle("restart", l.clock.at)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.publish()
		timer.Reset(l.pause(l.clock.at)) // which control's word may have taken back
		cause := "time"
		select {
		case w := <-a.words:
			err := l.hear(w, l.look())
			if w.answer <- err; err == nil && w.msg != nil {
				cause = "policy"
				if d := w.msg.Delta; d != nil && d.Cause != "" {
					cause = d.Cause
				}
			}
		case <-timer.C:
			if now := l.look(); now.Sub(l.saved) > saveBeat && l.chart.told != nil {
				l.remember(now)
			}
		case <-a.events.wake:
			l.look()
			l.reach = a.events.take()
		case <-ctx.Done():
			l.remember(l.look())
			return ctx.Err()
		}
		l.settle(cause, l.clock.at)
	}
}

// looper is the loop's own state; nothing else touches it.
type looper struct {
	*Agent
	plane   plane
	clock   clock
	began   time.Time // on the monotonic clock
	wall    time.Time // what the wall clock showed when the loop last looked
	behind  bool      // that is well behind the time, and was said
	chart   chart
	stale   bool // what was told has changed since the plane has followed it
	trouble error
	closed  bool // the map's life is over, and that was said
	ended   bool // the identity was revoked: nothing opens again
	applied wire.Revision
	names   *directory // of the peers in force
	reach   *wire.Reach
	status  api.ControlStatus
	next    time.Time // when the plane wants to expire flows
	saved   time.Time // when the state was last handed to the saver
}

const (
	// saveBeat is how often an extended validity and the time are written down when
	// nothing else changes: an agent that crashes and finds no control loses at most so
	// much of the one, and its clock can be set back by no more than that of the other.
	saveBeat = 10 * time.Minute

	// longestPause bounds the loop's sleep. A timer stands still while the machine
	// sleeps, but the instants of grants do not.
	longestPause = 10 * time.Second

	// leastPause is for an instant that has come already: whatever clock it is by, the
	// loop does not spin.
	leastPause = time.Millisecond
)

// hear takes a word in.
func (l *looper) hear(w word, now time.Time) error {
	switch {
	case w.away != nil:
		l.status.Connected, l.status.Error, l.status.Since = false, w.away.Error(), time.Time{}
		if errors.Is(w.away, ErrRevoked) {
			l.revoked(now)
		}
	case w.svid != nil:
		l.st.SVID = w.svid
		l.remember(now)
	case w.msg != nil:
		return l.message(w.msg, now)
	case w.forget:
		l.st.Witness = nil
		l.witnessed.Store(0)
		l.remember(now)
	}
	return nil
}

// revoked cuts every flow before the agent ends, so that what ends here is reset and
// logged like any other cut, and is no connection that a closing program has dropped.
func (l *looper) revoked(now time.Time) {
	if l.chart.told == nil {
		return
	}
	l.ended = true
	if err := l.plane.apply(l.chart.told, nil, "this system was revoked", l.wall, now); err != nil {
		l.log.Error("the data plane does not end with the identity", "error", err)
	}
}

func (l *looper) message(m *wire.Message, now time.Time) error {
	if m.Checkpoint != nil {
		l.witness(m.Checkpoint, now)
		return nil
	}
	before := l.chart.rejected
	changed, err := l.chart.take(m, l.wall)
	if err != nil {
		return err
	}
	moved := l.st.Control != l.cfg.Control // it has been told another address, and there is our control
	l.st.Control = l.cfg.Control
	if !l.status.Connected {
		l.status = api.ControlStatus{URL: l.cfg.Control, Connected: true, Since: l.wall, ClockSkew: l.status.ClockSkew}
	}
	l.status.LastHeard = l.wall
	if h := m.Heartbeat; h != nil {
		now = l.heard(h, now)
	}
	if changed {
		l.sayRejected(before)
		l.stale = true
		l.st.Seen, l.st.MapAt = l.chart.seen, l.wall
	}
	if changed || moved || now.Sub(l.saved) > saveBeat {
		l.remember(now)
	}
	return nil
}

// sayRejected logs that control names peers that do not verify, once for each: the
// status names them all.
func (l *looper) sayRejected(before []api.RejectedPeer) {
	for _, r := range l.chart.rejected {
		if !slices.ContainsFunc(before, func(b api.RejectedPeer) bool { return b.ID == r.ID }) {
			l.log.Warn("control names a peer that does not verify", "peer", r.ID, "reason", r.Reason, "rejected", len(l.chart.rejected))
			return // one line a message, whatever control says
		}
	}
}

// settle makes the plane follow the chart.
func (l *looper) settle(cause string, now time.Time) {
	if l.chart.told == nil || l.ended {
		return
	}
	if over := l.chart.over(now); over != l.closed {
		if l.closed = over; over {
			cause = "the life of the map is over"
			l.log.Warn("no word from control for the life of the map: closing", "valid_until", l.chart.told.ValidUntil)
		}
	}
	peers := l.chart.inForce(now)
	same := slices.EqualFunc(peers, l.names.peers, func(a, b wire.Peer) bool { return a.ID == b.ID })
	if !same {
		l.remember(now) // also that their time has come
	}
	if l.stale || !same {
		err := l.plane.apply(l.chart.told, peers, cause, l.wall, now)
		if l.stale = err != nil; err != nil && (l.trouble == nil || l.trouble.Error() != err.Error()) {
			l.log.Error("the data plane does not follow the map; trying again", "revision", l.chart.told.Revision, "error", err)
		}
		l.trouble = err
		before := l.names
		l.names = before.follow(l.chart.told.Self.Zone, l.chart.told.DNS, peers)
		l.names.lapses = before.lapsesAfter(l.names, cause, now)
	}
	if l.trouble == nil {
		l.applied = l.chart.told.Revision
	}
	l.next = l.plane.expire(l.wall)
}

// pause is how long the loop may sleep.
func (l *looper) pause(now time.Time) time.Duration {
	pause := longestPause
	for _, t := range []time.Time{l.chart.next(now), l.next} {
		switch in := t.Sub(now); {
		case t.IsZero():
		case in > 0:
			pause = min(pause, in)
		default:
			pause = min(pause, leastPause)
		}
	}
	return pause
}

// errClockBack is why a stored map is not used although its life is not over.
var errClockBack = errors.New("it is from the future: this machine's clock was set back, and what has ended since would count again")

// recall charts the stored map, so that an agent starts without control. Peers are
// verified again, as of when the map came: some may be offline since.
func (l *looper) recall(now time.Time) {
	if len(l.st.Map) == 0 {
		l.log.Info("no map yet: nothing is reachable until control answers")
		return
	}
	m := new(wire.Map)
	err := json.Unmarshal(l.st.Map, m)
	if err == nil && l.wall.Before(now.Add(-wire.MaxClockSkew)) {
		err = errClockBack
	}
	if err == nil {
		err = l.chart.chartMap(*m, l.st.MapAt)
	}
	if err != nil {
		l.log.Warn("the stored map is not used; nothing is reachable until control answers", "error", err)
		return
	}
	l.stale = true
	l.log.Info("running on the stored map until control answers", "revision", m.Revision, "valid_until", m.ValidUntil)
}

// remember hands the state to the saver.
func (l *looper) remember(now time.Time) {
	l.saved = now
	l.save.put(&memory{state: *l.st, told: l.chart.told})
}
