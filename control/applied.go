package control

import (
	"context"
	"slices"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// applied reports whether the connected system n has applied what rev made of its map:
// the map that was sent is right up to rev (or up to the last revision that concerned
// the system at all), and it is acknowledged.
func (n *node) applied(rev wire.Revision) bool {
	return n.stream.good >= min(rev, n.needs) && n.stream.good > 0 && n.acked >= n.stream.sent
}

// settle notes whether n is behind; mu is held. It is called whenever that may differ.
func (h *hub) settle(n *node) {
	if n != nil && n.stream != nil && !n.sys.Revoked && !n.applied(h.revision) {
		h.late[n] = true
	} else {
		delete(h.late, n)
	}
}

// waiting lists who is connected and has not applied rev, sorted; mu is held. Whoever
// has applied the present revision has applied every one.
func (h *hub) waiting(rev wire.Revision) (ids []wire.SystemID) {
	for n := range h.late {
		if !n.applied(rev) {
			ids = append(ids, n.sys.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// followed is whether rev is there and nobody waits; mu is held.
func (h *hub) followed(rev wire.Revision) bool {
	if rev == 0 {
		rev = h.revision
	}
	for n := range h.late {
		if !n.applied(rev) {
			return false
		}
	}
	return rev <= h.revision
}

// away counts who is not connected and may act on a map from before what concerned it, at
// revision since or later, and tells until when the last of them may: without a word of
// control a map counts for its life. The zero time with a count is never, of maps that
// count for ever. Whoever is connected has cut such a system off; two of them may go on
// with each other. Whoever was connected when it was revoked counts as told: without that,
// every revocation would say that it has not reached the system that it ended. One whose
// connection was dead already was not; whom it could still talk to counts himself. Since a
// start of control everybody was concerned by what stood then: that claims too much at
// times. mu is held.
func (h *hub) away(since wire.Revision, now time.Time) (count int, until time.Time) {
	for _, n := range h.nodes {
		if n.stream != nil || n.barred || n.held >= n.needs || n.needs < since || n.sys.Live.DisconnectedAt.IsZero() {
			continue
		}
		ends := n.sys.Live.DisconnectedAt.Add(h.mapLife)
		if h.mapLife > 0 && !now.Before(ends) {
			continue
		}
		if count++; h.mapLife > 0 && ends.After(until) {
			until = ends
		}
	}
	return count, until
}

// Status implements admin.Control. Revision zero asks about the present one.
func (h *hub) Status(rev wire.Revision) api.RevisionStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status(rev)
}

func (h *hub) status(rev wire.Revision) api.RevisionStatus {
	since := rev
	if rev == 0 {
		rev = h.revision
	}
	st := api.RevisionStatus{Revision: h.revision, At: h.revisedAt, Waiting: h.waiting(rev)}
	st.Applied = rev <= h.revision && len(st.Waiting) == 0
	if away, until := h.away(since, h.clock.Now()); away > 0 {
		if st.Away = away; !until.IsZero() {
			st.AwayUntil = &until
		}
	}
	st.Warnings = h.warnings()
	if p := h.rules.Pending; p != nil {
		st.ConfirmBy = &p.Deadline
	}
	return st
}

// WaitApplied implements admin.Control.
func (h *hub) WaitApplied(ctx context.Context, rev wire.Revision) (api.RevisionStatus, error) {
	for {
		h.mu.Lock()
		if !h.stopping && ctx.Err() == nil && !h.followed(rev) {
			news := h.news
			h.mu.Unlock()
			select {
			case <-news:
			case <-ctx.Done():
			}
			continue
		}
		st := h.status(rev)
		h.mu.Unlock()
		if st.Applied {
			return st, nil
		}
		return st, ctx.Err()
	}
}

// Live implements admin.Control.
func (h *hub) Live(id wire.SystemID) (store.Live, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.nodes[id]
	if n == nil || n.stream == nil {
		return store.Live{}, false
	}
	live := n.sys.Live
	live.Applied, live.LastSeen = n.acked, n.seen
	return live, true
}

// PolicyState implements admin.Control.
func (h *hub) PolicyState(id wire.PolicyID, now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if state := h.engine.State(id, now); state != "" {
		return state
	}
	return "inactive: does not validate"
}

// Stopping implements admin.Control.
func (h *hub) Stopping() <-chan struct{} { return h.stopped }

// News implements admin.Control.
func (h *hub) News() <-chan struct{} { return h.store.AuditNews() }
