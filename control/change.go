package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"enclave/control/admin"
	"enclave/control/discovery"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// Change implements admin.Control. The order is fixed: the store's transaction, which
// is the truth; then the hub, read again from the store; then the streams. What the
// store has taken takes effect even if the caller has gone away meanwhile.
func (h *hub) Change(ctx context.Context, do func(context.Context) (admin.Touched, wire.Revision, error)) (api.Changed, error) {
	if err := h.take(ctx); err != nil {
		return api.Changed{}, err
	}
	defer h.give()
	return h.change(ctx, do)
}

// change is Change for who has the turn.
func (h *hub) change(ctx context.Context, do func(context.Context) (admin.Touched, wire.Revision, error)) (api.Changed, error) {
	touched, rev, err := do(ctx)
	ctx = context.WithoutCancel(ctx)
	affected, reloadErr := h.reload(ctx, touched)
	if reloadErr != nil {
		h.log.Error("a change stands in the store but not in effect yet; trying again", "error", reloadErr)
	}
	h.reportRefused(ctx, h.clock.Now())
	h.look()
	return api.Changed{Revision: rev, Affected: affected}, err
}

// reload brings the hub to what the store says of what was touched, and wakes the
// streams that it concerns. What cannot be read stays owed, and the timer loop asks
// again. The caller has the turn.
func (h *hub) reload(ctx context.Context, touched admin.Touched) (affected int, err error) {
	h.mu.Lock()
	touched.Add(h.behind)
	h.behind = admin.Touched{}
	h.mu.Unlock()
	read, err := h.read(ctx, touched)
	now := h.clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.behind = touched
		return 0, err
	}
	return h.apply(read, now), nil
}

// fresh is what reload has read. A nil value is of something that is gone.
type fresh struct {
	revision wire.Revision
	made     []store.Revision // since the hub's, newest first, as many as a cause names
	systems  map[wire.SystemID]*store.System
	policies map[wire.PolicyID]*stored
	trust    map[wire.Tag][]string // nil when not read
	rules    *store.Rules          // nil when not read
	relays   []wire.Relay          // nil when not read
	dns      *store.DNS            // nil when not read
	whole    bool                  // what is not in it is gone
}

func (h *hub) read(ctx context.Context, touched admin.Touched) (fresh, error) {
	f := fresh{systems: make(map[wire.SystemID]*store.System), policies: make(map[wire.PolicyID]*stored)}
	if touched.All {
		return f, f.readAll(ctx, h.store)
	}
	var err error
	if f.revision, err = h.store.Revision(ctx); err != nil {
		return f, err
	}
	h.mu.Lock()
	have := h.revision
	h.mu.Unlock()
	if f.revision > have {
		if f.made, err = h.store.Revisions(ctx, store.RevisionQuery{After: have, Limit: maxCauses + 1}); err != nil {
			return f, err
		}
	}
	for _, id := range touched.Systems {
		s, err := h.store.System(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return f, err
		}
		f.systems[id] = unless(err, &s)
	}
	for _, id := range touched.Policies {
		p, err := h.store.Policy(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			f.policies[id] = nil
			continue
		}
		if err != nil {
			return f, err
		}
		if f.policies[id], err = hold(ctx, h.store, p); err != nil {
			return f, err
		}
	}
	if touched.Rules {
		rules, trust, err := h.store.Rules(ctx)
		if err != nil {
			return f, err
		}
		f.rules, f.trust = &rules, trust
	}
	if touched.Relays {
		list, err := h.store.Relays(ctx)
		if err != nil {
			return f, err
		}
		f.relays = wireRelays(list)
	}
	if touched.DNS {
		d, err := h.store.DNS(ctx)
		if err != nil {
			return f, err
		}
		f.dns = &d
	}
	return f, nil
}

func (f *fresh) readAll(ctx context.Context, st *store.Store) error {
	snap, err := st.Snapshot(ctx)
	if err != nil {
		return err
	}
	f.whole, f.revision, f.trust, f.relays, f.rules = true, snap.Revision, snap.TagTrust, wireRelays(snap.Relays), &snap.Rules
	f.dns = &snap.DNS
	for i := range snap.Systems {
		f.systems[snap.Systems[i].ID] = &snap.Systems[i]
	}
	for _, p := range snap.Policies {
		if f.policies[p.ID], err = hold(ctx, st, p); err != nil {
			return err
		}
	}
	if list, err := st.Revisions(ctx, store.RevisionQuery{Limit: 1}); err == nil && len(list) > 0 {
		f.made = list
	}
	return nil
}

func unless[T any](err error, v *T) *T {
	if err != nil {
		return nil
	}
	return v
}

func wireRelays(list []store.Relay) []wire.Relay {
	out := make([]wire.Relay, len(list))
	for i := range list {
		out[i] = list[i].Relay
	}
	return out
}

// apply puts what was read into effect and returns how many connected systems it
// concerns; mu is held.
func (h *hub) apply(f fresh, now time.Time) int {
	h.advanceHeld(now) // what the clock has ended has a cause of its own
	h.missing(&f)
	if f.whole { // everybody looks at everything; noting whom each step concerns costs more
		h.engine.Record(nil)
		defer h.engine.Record(h.touched)
		for _, n := range h.nodes {
			if n.stream != nil {
				n.stream.owed = debt{all: true}
			}
		}
	}
	cause := h.cause(&f)
	concerned := make(map[wire.SystemID]bool)
	concern := func(ids []wire.SystemID) {
		for _, id := range ids {
			concerned[id] = true
		}
	}
	concern(h.compile(&f, now))
	for id, s := range f.systems {
		concern(h.seat(id, s, now, cause))
	}
	if f.dns != nil {
		concern(h.rebook(*f.dns, now, cause))
	}
	for id, p := range f.policies {
		h.note(id, p)
	}
	if f.relays != nil && !slices.EqualFunc(f.relays, h.relays, func(a, b wire.Relay) bool {
		return a.ID == b.ID && a.Addr == b.Addr && slices.Equal(a.STUN, b.STUN)
	}) {
		h.relays = f.relays
		for id := range h.nodes {
			concerned[id] = true
		}
	}
	if f.revision > h.revision {
		h.revision, h.revisedAt = f.revision, now
	}
	ids := make([]wire.SystemID, 0, len(concerned))
	for id := range concerned {
		ids = append(ids, id)
		if n := h.nodes[id]; n != nil {
			n.needs = h.revision
			h.settle(n)
		}
	}
	h.announce()
	return h.follow(ids, cause)
}

// missing completes a whole reading with what the hub has and the store has not.
func (h *hub) missing(f *fresh) {
	if !f.whole {
		return
	}
	for id := range h.nodes {
		if _, ok := f.systems[id]; !ok {
			f.systems[id] = nil
		}
	}
	for id := range h.policies {
		if _, ok := f.policies[id]; !ok {
			f.policies[id] = nil
		}
	}
}

// seat keeps what the store says of a system, and returns whose maps show it.
func (h *hub) seat(id wire.SystemID, s *store.System, now time.Time, cause string) (affected []wire.SystemID) {
	n := h.nodes[id]
	h.rename(id, n, s)
	if (s == nil || s.Revoked) && n != nil && n.stream != nil {
		n.barred = true // so far as its connection still carries the word
		n.stream.end(wire.Bye{Code: wire.ByeRevoked, Message: "this identity has been removed or revoked"})
	}
	if s == nil {
		delete(h.nodes, id)
		delete(h.late, n)
		h.expiries.set(expiring{system: id}, time.Time{})
		h.lapses.set(id, time.Time{})
		return nil
	}
	if n == nil {
		n = &node{sys: *s, seen: s.Live.LastSeen, acked: s.Live.Applied, held: s.Live.Applied, judged: h.met(s)}
		h.call(n)
		n.refresh(now)
		h.nodes[id] = n
		h.schedule(n)
		return []wire.SystemID{id}
	}
	live, before := n.sys.Live, n.entry // memory is ahead of the store about Live
	n.sys = *s
	n.sys.Live = live
	h.call(n)
	n.refresh(now)
	h.schedule(n)
	h.settle(n)
	affected = []wire.SystemID{id} // its own map shows its state, name and tags
	if !discovery.SameToPeers(before, n.entry) {
		peers := h.engine.Peers(id, now)
		h.show(id, peers, cause)
		affected = append(affected, peers...)
	}
	return affected
}

// rename keeps the index of names.
func (h *hub) rename(id wire.SystemID, n *node, s *store.System) {
	if n != nil && s != nil && n.sys.Name == s.Name {
		return
	}
	if n != nil {
		rest := slices.DeleteFunc(h.named[n.sys.Name], func(o wire.SystemID) bool { return o == id })
		if h.named[n.sys.Name] = rest; len(rest) == 0 {
			delete(h.named, n.sys.Name)
		}
	}
	if s != nil {
		h.named[s.Name] = append(h.named[s.Name], id)
	}
}

// load reads everything, at the start.
func (h *hub) load(ctx context.Context) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.give()
	now := h.clock.Now()
	if err := h.store.DisconnectAll(ctx, now); err != nil {
		return err
	}
	if err := h.store.FollowZones(ctx, store.Change{By: "control", At: now}); err != nil {
		return err
	}
	if _, err := h.reload(ctx, admin.Touched{All: true}); err != nil {
		return err
	}
	at, err := h.store.RevisionAt(ctx, h.revision)
	h.mu.Lock()
	if h.advanced = now; err == nil {
		h.revisedAt = at
	}
	h.mu.Unlock()
	h.reportRefused(ctx, now)
	return nil
}
