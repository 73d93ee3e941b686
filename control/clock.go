package control

import (
	"context"
	"fmt"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
)

const (
	// lookAgain bounds how long the timer loop sleeps: a clock that is set, or a
	// machine that was suspended, moves instants without moving timers.
	lookAgain = time.Minute
	// retryAfter spaces attempts at something that the store refused.
	retryAfter = time.Second
	// neverConnected is what store.DeleteLapsed grants on top of the retention to an
	// ephemeral system that has not connected even once.
	neverConnected = time.Hour
)

// run is the timer loop: it makes happen what happens by the clock alone.
func (h *hub) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.kick:
		}
		now := h.now()
		// The time may stand still until the wall clock has come along: no busy loop.
		timer.Reset(max(h.tick(ctx, now).Sub(h.clock.Now()), time.Millisecond))
	}
}

// now is the time, and tells the log when this machine's clock is found behind it.
func (h *hub) now() time.Time {
	now, behind, since := h.clock.Look()
	h.mu.Lock()
	was := h.clockBehind
	h.clockBehind = since
	h.mu.Unlock()
	switch {
	case was.IsZero() && behind > 0:
		h.log.Warn("this machine's clock was set back: what has ended stays so, and time goes on from what it was; set the clock, or, if it is right now and was ahead before, stop and run enclave clock believe",
			"by", behind.Round(time.Second), "time", now.UTC())
	case !was.IsZero() && behind == 0:
		h.log.Info("this machine's clock is right again")
	}
	return now
}

// clockWarning says that this machine's clock is behind; mu is held.
func (h *hub) clockWarning() []string {
	now, behind, since := h.clock.Look()
	if behind == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the control plane's clock is %s behind since %s: it goes on from %s, and what has ended stays so; set the clock or see \"enclave clock believe --help\"",
		behind.Round(time.Second), since.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))}
}

// tick does what is due at now and returns when to look again.
func (h *hub) tick(ctx context.Context, now time.Time) time.Time {
	// The edges first: an expiry cuts at its instant, however long its action takes.
	edge := h.advance(now)
	failed := false
	note := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			failed = true
			h.log.Error(what, "error", err)
		}
	}
	due, _ := h.dueExpiries(now)
	if len(due) > 0 {
		_, err := h.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
			return h.expire(ctx, due, now)
		})
		note("an expiry action is late", err)
	}
	keys, err := h.expireKeys(ctx, now)
	note("the expiry of an enrolment key is late", err)
	deadline := h.pendingUntil()
	if over(deadline, now) {
		_, err := h.Change(ctx, h.revert(now))
		note("a change that was not confirmed stands still", err)
		deadline = h.pendingUntil()
	}
	lapsed, lapse := h.dueLapses(now)
	if len(lapsed) > 0 {
		_, err := h.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
			gone, rev, err := h.store.DeleteLapsed(ctx, store.Change{By: store.Expiry, At: now})
			return admin.Touched{Systems: gone}, rev, err
		})
		note("ephemeral systems are kept too long", err)
		if lapsed, lapse = h.dueLapses(now); len(lapsed) > 0 {
			failed = true // the store sees it otherwise; do not ask in a loop
		}
	}
	note("what the store says is not in effect yet", h.catchUp(ctx))
	note("what time it is was not written down", h.store.KeepTime(ctx))

	_, expiry := h.dueExpiries(now)
	next := now.Add(lookAgain)
	if failed {
		next = now.Add(retryAfter)
	}
	if over(deadline, now) {
		deadline = time.Time{} // it failed, and is tried again with the rest
	}
	for _, at := range []time.Time{edge, expiry, keys, lapse, deadline} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
}

// advance tells the engine the time and wakes whom the edges since concern.
func (h *hub) advance(now time.Time) (next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.advanceHeld(now)
}

// advanceHeld is advance with mu held.
func (h *hub) advanceHeld(now time.Time) (next time.Time) {
	ids, next := h.engine.Advance(now)
	selves, _ := h.touched.Edges() // its own map shows that it has expired, whoever knows it
	if ids = append(ids, selves...); len(ids) > 0 {
		h.follow(ids, h.ended(h.touched, now))
	}
	h.advanced = now
	return next
}

// catchUp repeats a reload that failed.
func (h *hub) catchUp(ctx context.Context) error {
	h.mu.Lock()
	owed := !h.behind.Empty()
	h.mu.Unlock()
	if !owed {
		return nil
	}
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.give()
	_, err := h.reload(ctx, admin.Touched{})
	return err
}

// expiry is an action that is due.
type expiry struct {
	system wire.SystemID
	policy wire.PolicyID
	remove bool
}

// expiring is what an expiry acts on; one of the two is empty.
type expiring struct {
	system wire.SystemID
	policy wire.PolicyID
}

// schedule notes when something is to be done about a system; mu is held.
func (h *hub) schedule(n *node) {
	s := &n.sys
	expires, lapses := s.ExpiresAt, time.Time{}
	if s.Revoked || s.ExpiryAction != wire.DeleteOnExpiry && !s.Enabled {
		expires = time.Time{}
	}
	if s.Kind != store.General && n.stream == nil {
		since := s.Live.DisconnectedAt
		if since.IsZero() {
			since = s.EnrolledAt.Add(neverConnected)
		}
		lapses = since.Add(s.Retention)
	}
	h.expiries.set(expiring{system: s.ID}, expires)
	h.lapses.set(s.ID, lapses)
}

// schedulePolicy is schedule for a policy; nil is gone.
func (h *hub) schedulePolicy(id wire.PolicyID, p *stored) {
	var expires time.Time
	if p != nil && p.Broken == "" && (p.Enabled || p.ExpiryAction == wire.DeleteOnExpiry) {
		expires = p.EndsAt
	}
	h.expiries.set(expiring{policy: id}, expires)
}

// dueExpiries lists the actions whose instant has come and that have not run, and says
// when the next one comes.
func (h *hub) dueExpiries(now time.Time) (due []expiry, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	come, next := h.expiries.due(now)
	for _, x := range come {
		switch n, p := h.nodes[x.system], h.policies[x.policy]; {
		case n != nil:
			due = append(due, expiry{system: x.system, remove: n.sys.ExpiryAction == wire.DeleteOnExpiry})
		case p != nil:
			due = append(due, expiry{policy: x.policy, remove: p.ExpiryAction == wire.DeleteOnExpiry})
		}
	}
	return due, next
}

// dueLapses lists the ephemeral systems that have been away for their retention, and
// says when the next one will have been.
func (h *hub) dueLapses(now time.Time) (due []wire.SystemID, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lapses.due(now)
}

// expire runs actions, as many as go well.
func (h *hub) expire(ctx context.Context, due []expiry, now time.Time) (touched admin.Touched, rev wire.Revision, err error) {
	c := store.Change{By: store.Expiry, At: now}
	for _, x := range due {
		switch {
		case x.system != "" && x.remove:
			rev, err = h.store.DeleteSystem(ctx, c, x.system)
		case x.system != "":
			rev, err = h.store.SetEnabled(ctx, c, x.system, false)
		case x.remove:
			rev, err = h.store.DeletePolicy(ctx, c, x.policy)
		default:
			rev, err = h.store.SetPolicyEnabled(ctx, c, x.policy, false)
		}
		if err != nil {
			return touched, rev, err
		}
		if x.system != "" {
			touched.Systems = append(touched.Systems, x.system)
		} else {
			touched.Policies = append(touched.Policies, x.policy)
		}
	}
	return touched, rev, nil
}

// expireKeys does what is due at the expiry of enrolment keys, and returns when the next
// is; zero is never. Keys stand in nobody's map, so only the store knows them.
func (h *hub) expireKeys(ctx context.Context, now time.Time) (time.Time, error) {
	next, err := h.store.KeyExpiry(ctx)
	if err != nil || !over(next, now) {
		return next, err
	}
	_, err = h.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
		rev, err := h.store.ExpireKeys(ctx, store.Change{By: store.Expiry, At: now})
		return admin.Touched{}, rev, err
	})
	if err != nil {
		return time.Time{}, err
	}
	return h.store.KeyExpiry(ctx)
}

// over reports whether end has come at now; the zero time is never.
func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }
