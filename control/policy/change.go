package policy

import (
	"maps"
	"slices"
	"time"

	"enclave/wire"
)

// affected gathers the systems whose Pairs may differ, and if asked to, which pairs.
type affected struct {
	systems map[wire.SystemID]struct{}
	touched *Touched
}

func (e *Engine) affected() *affected { return &affected{make(map[wire.SystemID]struct{}), e.touched} }

func (a *affected) add(s *system) { a.systems[s.ID] = struct{}{} }

func (a *affected) pair(s, o *system) {
	a.add(s)
	a.add(o)
	a.touched.add([]wire.SystemID{s.ID}, []wire.SystemID{o.ID})
}

func (a *affected) sorted() []wire.SystemID { return slices.Sorted(maps.Keys(a.systems)) }

// PutSystem adds a system or replaces the one of its ID. It returns the systems whose
// Pairs may differ from before, the system itself among them.
func (e *Engine) PutSystem(in System, now time.Time) []wire.SystemID {
	out := e.catchUp(now)
	in.IPs, in.Tags = slices.Clone(in.IPs), slices.Clone(in.Tags)
	in.Carries = slices.Clone(in.Carries)
	in.ExpiresAt, in.Trust = plain(in.ExpiresAt), maps.Clone(in.Trust)
	in.Adds = slices.Compact(slices.Sorted(slices.Values(in.Adds)))
	for r, until := range in.Trust {
		in.Trust[r] = plain(until)
	}
	s := e.systems[in.ID]
	if s == nil {
		s = &system{System: in}
		e.linkSystem(s)
		e.spread(s, e.changed(nil, e.seats(s)), e.now, out)
		rejoin(s, nil, maps.Collect(e.joins(s, e.now)), out)
	} else {
		before, moved := e.seats(s), !slices.Equal(s.IPs, in.IPs) || !slices.Equal(s.Carries, in.Carries) || (s.Carries == nil) != (in.Carries == nil)
		joined := maps.Collect(e.joins(s, e.now))
		e.unlinkSystem(s)
		s.System = in
		e.linkSystem(s)
		changed := e.changed(before, e.seats(s))
		if moved { // what it carries as a gateway is less its own addresses, and only what it may
			changed[receivers].add(e.gates[s.ID])
		}
		e.spread(s, changed, e.now, out)
		rejoin(s, joined, maps.Collect(e.joins(s, e.now)), out)
	}
	e.scheduleSystem(s)
	return out.sorted()
}

// DropSystem forgets a system.
func (e *Engine) DropSystem(id wire.SystemID, now time.Time) []wire.SystemID {
	out := e.catchUp(now)
	if s := e.systems[id]; s != nil {
		before := e.seats(s)
		rejoin(s, maps.Collect(e.joins(s, e.now)), nil, out)
		e.unlinkSystem(s)
		s.next = time.Time{}
		e.spread(s, e.changed(before, nil), e.now, out)
	}
	return out.sorted()
}

// seat is a place on a side of a policy.
type seat struct{ slot, side int }

// seats returns where s stands at the engine's instant, and until when.
func (e *Engine) seats(s *system) map[seat]time.Time {
	m := make(map[seat]time.Time)
	for side := range s.slots {
		for slot := range s.slots[side].all() {
			if r := e.slots[slot]; r.lives(e.now) {
				if end, ok := s.on(r, side); ok && !over(end, e.now) {
					m[seat{slot, side}] = end
				}
			}
		}
	}
	return m
}

func (e *Engine) changed(before, after map[seat]time.Time) (slots [2]bitset) {
	for at, end := range before {
		if now, ok := after[at]; !ok || !now.Equal(end) {
			slots[at.side].set(at.slot)
		}
	}
	for at := range after {
		if _, ok := before[at]; !ok {
			slots[at.side].set(at.slot)
		}
	}
	return slots
}

// spread adds s, when it changed on some side of some policy, and whoever stood on
// the other side at since. Tags are looked at once however many policies share them.
func (e *Engine) spread(s *system, changed [2]bitset, since time.Time, out *affected) {
	for side, slots := range changed {
		if !slots.empty() {
			out.add(s)
			out.touched.add([]wire.SystemID{s.ID}, e.opposite(slots, side, since, out))
		}
	}
}

// opposite adds, and returns, who stands on the other side of policies.
func (e *Engine) opposite(slots bitset, side int, since time.Time, out *affected) (all []wire.SystemID) {
	seen := make(map[wire.Tag]bool)
	counted := func(s *system) {
		if s.counts() && !over(s.ExpiresAt, since) {
			out.add(s)
			all = append(all, s.ID)
		}
	}
	for slot := range slots.all() {
		r := e.slots[slot]
		if !r.lives(since) {
			continue
		}
		if r.gateway && side == senders {
			for s := range e.members(r, receivers) {
				counted(s)
			}
			continue
		}
		for _, name := range r.tags[1-side] {
			if seen[name] {
				continue
			}
			seen[name] = true
			t := e.tags[name]
			for s := range t.members {
				if until, met := s.meets(t.trust); met && !over(until, since) {
					counted(s)
				}
			}
		}
	}
	return all
}

// PutPolicy adds a policy or replaces the one of its ID. A policy with any mistake
// changes nothing, and the mistakes are returned instead.
func (e *Engine) PutPolicy(p wire.Policy, now time.Time) ([]wire.SystemID, []wire.Problem) {
	l := problems(Validate(&p, ""))
	if p.ID == "" || len(p.ID) > MaxPolicyIDLen {
		l.add("id", "a policy ID has 1 to %d bytes", MaxPolicyIDLen)
	}
	if len(l) > 0 {
		return nil, l
	}
	r, err := e.compile(&p)
	if err != nil {
		l.add("active_hours", "%v", err)
		return nil, l
	}
	out := e.catchUp(now)
	old := e.policies[p.ID]
	before := e.sides(old, e.now)
	if old != nil {
		e.unlinkPolicy(old)
		old.next = time.Time{}
	}
	e.linkPolicy(r)
	after := e.sides(r, e.now)
	if old != nil && old.sameTerms(r) {
		compareSides(before, after, out)
	} else {
		before.addTo(out)
		after.addTo(out)
	}
	e.schedulePolicy(r)
	return out.sorted(), nil
}

// DropPolicy forgets a policy.
func (e *Engine) DropPolicy(id wire.PolicyID, now time.Time) []wire.SystemID {
	out := e.catchUp(now)
	if r := e.policies[id]; r != nil {
		e.sides(r, e.now).addTo(out)
		e.unlinkPolicy(r)
		r.next = time.Time{}
	}
	return out.sorted()
}

// sides is who stands on either side of a policy, and until when.
type sides [2]map[*system]time.Time

// sides returns who stood on the sides of r at since; nobody when r did not live.
func (e *Engine) sides(r *rules, since time.Time) (out sides) {
	if r == nil || !r.lives(since) {
		return out
	}
	for side := range out {
		out[side] = make(map[*system]time.Time)
		for s := range e.members(r, side) {
			if end, ok := s.on(r, side); ok && !over(end, since) {
				out[side][s] = end
			}
		}
	}
	return out
}

// addTo adds everybody, unless one side is empty and nobody has a pair.
func (d sides) addTo(out *affected) {
	if len(d[senders]) == 0 || len(d[receivers]) == 0 {
		return
	}
	for _, side := range d {
		for s := range side {
			out.add(s)
		}
	}
	out.touched.add(idsOf(d[senders]), idsOf(d[receivers]))
}

func idsOf(side map[*system]time.Time) []wire.SystemID {
	out := make([]wire.SystemID, 0, len(side))
	for s := range side {
		out = append(out, s.ID)
	}
	return out
}

// compareSides adds who came to a side, left it or stays for another time, and for
// each side on which someone did, all of the other.
func compareSides(before, after sides, out *affected) {
	for side := range before {
		var moved []wire.SystemID
		note := func(a, b map[*system]time.Time) {
			for s, end := range a {
				if other, ok := b[s]; !ok || !other.Equal(end) {
					out.add(s)
					moved = append(moved, s.ID)
				}
			}
		}
		note(before[side], after[side])
		note(after[side], before[side])
		if len(moved) > 0 {
			for _, d := range []sides{before, after} {
				for s := range d[1-side] {
					out.add(s)
				}
				out.touched.add(moved, idsOf(d[1-side]))
			}
		}
	}
}

// PutTag sets the trust requirements of a tag. A tag needs no PutTag to be used.
func (e *Engine) PutTag(in Tag, now time.Time) []wire.SystemID {
	out := e.catchUp(now)
	t := e.tag(in.Name)
	old := t.trust
	t.trust = slices.Clone(in.Trust)
	var moved []wire.SystemID
	for s := range t.members {
		was, had := s.meets(old)
		is, has := s.meets(t.trust)
		had, has = had && !over(was, e.now), has && !over(is, e.now)
		if had != has || (has && !was.Equal(is)) {
			if s.counts() {
				out.add(s)
				moved = append(moved, s.ID)
			}
		}
	}
	if len(moved) > 0 {
		out.touched.add(moved, e.opposite(t.slots[senders], senders, e.now, out))
		out.touched.add(moved, e.opposite(t.slots[receivers], receivers, e.now, out))
		if t.slots[senders].meets(t.slots[receivers]) { // in a mesh they stood opposite each other
			out.touched.add(moved, moved)
		}
	}
	e.forget(t)
	return out.sorted()
}
