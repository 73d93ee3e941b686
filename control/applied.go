package control

import (
	"cmp"
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

// Status implements admin.Control. Revision zero asks about the present one.
func (h *hub) Status(rev wire.Revision) api.RevisionStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status(rev)
}

func (h *hub) status(rev wire.Revision) api.RevisionStatus {
	if rev == 0 {
		rev = h.revision
	}
	st := api.RevisionStatus{Revision: h.revision, At: h.revisedAt, Applied: rev <= h.revision}
	for id, n := range h.nodes {
		if n.stream != nil && !n.sys.Revoked && !n.applied(rev) {
			st.Applied = false
			st.Waiting = append(st.Waiting, id)
		}
	}
	slices.SortFunc(st.Waiting, func(a, b wire.SystemID) int { return cmp.Compare(a, b) })
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
		st, news, stopping := h.status(rev), h.news, h.stopping
		h.mu.Unlock()
		if st.Applied || stopping {
			return st, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return st, ctx.Err()
		}
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

// News implements admin.Control.
func (h *hub) News() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.logged
}

// recorded wakes those who follow the activity log.
func (h *hub) recorded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.logged)
	h.logged = make(chan struct{})
}
