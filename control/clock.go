package control

import (
	"context"
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
		next := h.tick(ctx, time.Now())
		timer.Reset(time.Until(next))
	}
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
	due := h.dueExpiries(now)
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
	lapse := h.nextLapse()
	if !lapse.IsZero() && !now.Before(lapse) {
		_, err := h.Change(ctx, func(ctx context.Context) (admin.Touched, wire.Revision, error) {
			gone, rev, err := h.store.DeleteLapsed(ctx, store.Change{By: store.Expiry, At: now})
			return admin.Touched{Systems: gone}, rev, err
		})
		note("ephemeral systems are kept too long", err)
		if lapse = h.nextLapse(); !lapse.IsZero() && !now.Before(lapse) {
			failed = true // the store sees it otherwise; do not ask in a loop
		}
	}
	note("what the store says is not in effect yet", h.catchUp(ctx))
	h.tickets.sweep(now)

	next := now.Add(lookAgain)
	if failed {
		next, lapse = now.Add(retryAfter), time.Time{}
	}
	if over(deadline, now) {
		deadline = time.Time{} // it failed, and is tried again with the rest
	}
	for _, at := range []time.Time{edge, h.nextExpiry(now), keys, lapse, deadline} {
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
	if len(ids) > 0 {
		h.wake(ids, h.ended(now))
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

// dueExpiries lists the actions whose instant has come and that have not run.
func (h *hub) dueExpiries(now time.Time) (due []expiry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, n := range h.nodes {
		remove := n.sys.ExpiryAction == wire.DeleteOnExpiry
		if over(n.sys.ExpiresAt, now) && !n.sys.Revoked && (remove || n.sys.Enabled) {
			due = append(due, expiry{system: id, remove: remove})
		}
	}
	for id, p := range h.policies {
		remove := p.ExpiryAction == wire.DeleteOnExpiry
		if p.Broken == "" && over(p.EndsAt, now) && (remove || p.Enabled) {
			due = append(due, expiry{policy: id, remove: remove})
		}
	}
	return due
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

// nextExpiry is the first instant after now at which an action is due.
func (h *hub) nextExpiry(now time.Time) (next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	consider := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, n := range h.nodes {
		consider(n.sys.ExpiresAt)
	}
	for _, p := range h.policies {
		consider(p.EndsAt)
	}
	return next
}

// nextLapse is the first instant at which an ephemeral system has been away for its
// retention; it may be past.
func (h *hub) nextLapse() (next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.nodes {
		if n.sys.Kind == store.General || n.stream != nil {
			continue
		}
		since := n.sys.Live.DisconnectedAt
		if since.IsZero() {
			since = n.sys.EnrolledAt.Add(neverConnected)
		}
		if at := since.Add(n.sys.Retention); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// over reports whether end has come at now; the zero time is never.
func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }
