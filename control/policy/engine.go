package policy

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// Engine holds a world of systems, tags and policies and answers for it. It is not
// safe for concurrent use, not even to read; the caller owns it.
//
// The time it is told never goes back: an earlier instant than one already seen
// counts as that one when changes are applied. Questions may ask for any instant.
type Engine struct {
	systems  map[wire.SystemID]*system
	byAddr   map[netip.Addr]*system
	tags     map[wire.Tag]*tag
	policies map[wire.PolicyID]*rules
	slots    []*rules // policies by slot; nil is free
	free     []int
	viaGates bitset // slots of gateway policies
	gates    map[wire.SystemID]bitset
	overlay  []netip.Prefix
	zones    map[string]*time.Location
	mutual   *rules   // what two systems that add each other may do
	touched  *Touched // where changes are recorded; nil is nowhere
	queue    edgeQueue
	now      time.Time
	stamp    uint64
}

// New returns an engine with nothing in it, which introduces nobody.
func New() *Engine {
	return &Engine{
		systems:  make(map[wire.SystemID]*system),
		byAddr:   make(map[netip.Addr]*system),
		tags:     make(map[wire.Tag]*tag),
		policies: make(map[wire.PolicyID]*rules),
		gates:    make(map[wire.SystemID]bitset),
		overlay:  DefaultOverlay(),
		zones:    make(map[string]*time.Location),
		mutual:   mutualRules(),
	}
}

// SetOverlay says which ranges the overlay uses, so that no gateway's subnet covers
// them. It is for the start: call it before the first policy.
func (e *Engine) SetOverlay(ranges ...netip.Prefix) { e.overlay = slices.Clone(ranges) }

func (e *Engine) zone(name string) (*time.Location, error) {
	if loc := e.zones[name]; loc != nil {
		return loc, nil
	}
	loc, err := time.LoadLocation(name)
	if err == nil {
		e.zones[name] = loc
	}
	return loc, err
}

// tag returns the tag of that name, made by first use.
func (e *Engine) tag(name wire.Tag) *tag {
	t := e.tags[name]
	if t == nil {
		t = &tag{name: name, members: make(map[*system]struct{})}
		e.tags[name] = t
	}
	return t
}

func (e *Engine) forget(t *tag) {
	if t.unused() {
		delete(e.tags, t.name)
	}
}

// linkSystem enters s into the indexes under its tags and addresses.
func (e *Engine) linkSystem(s *system) {
	e.systems[s.ID] = s
	for _, ip := range s.IPs {
		e.byAddr[ip] = s
	}
	for _, name := range s.Tags {
		t := e.tag(name)
		if _, twice := t.members[s]; twice {
			continue
		}
		t.members[s] = struct{}{}
		s.tags = append(s.tags, t)
		s.slots[senders].add(t.slots[senders])
		s.slots[receivers].add(t.slots[receivers])
	}
	s.slots[receivers].add(e.gates[s.ID])
}

func (e *Engine) unlinkSystem(s *system) {
	delete(e.systems, s.ID)
	for _, ip := range s.IPs {
		if e.byAddr[ip] == s {
			delete(e.byAddr, ip)
		}
	}
	for _, t := range s.tags {
		delete(t.members, s)
		e.forget(t)
	}
	s.tags, s.slots = nil, [2]bitset{}
}

// linkPolicy gives r a slot and marks it at its tags, gateways and their systems.
func (e *Engine) linkPolicy(r *rules) {
	if n := len(e.free); n > 0 {
		r.slot, e.free = e.free[n-1], e.free[:n-1]
		e.slots[r.slot] = r
	} else {
		r.slot, e.slots = len(e.slots), append(e.slots, r)
	}
	e.policies[r.id] = r
	for side, names := range r.tags {
		for _, name := range names {
			t := e.tag(name)
			t.slots[side].set(r.slot)
			for s := range t.members {
				s.slots[side].set(r.slot)
			}
		}
	}
	if !r.gateway {
		return
	}
	e.viaGates.set(r.slot)
	for _, g := range r.gateways {
		b := e.gates[g.id]
		b.set(r.slot)
		e.gates[g.id] = b
		if s := e.systems[g.id]; s != nil {
			s.slots[receivers].set(r.slot)
		}
	}
}

func (e *Engine) unlinkPolicy(r *rules) {
	delete(e.policies, r.id)
	e.slots[r.slot], e.free = nil, append(e.free, r.slot)
	for side, names := range r.tags {
		for _, name := range names {
			t := e.tags[name]
			if t == nil {
				continue
			}
			t.slots[side].clear(r.slot)
			for s := range t.members {
				s.slots[side].clear(r.slot)
			}
			e.forget(t)
		}
	}
	e.viaGates.clear(r.slot)
	for _, g := range r.gateways {
		e.gates[g.id].clear(r.slot)
		if e.gates[g.id].empty() {
			delete(e.gates, g.id)
		}
		if s := e.systems[g.id]; s != nil {
			s.slots[receivers].clear(r.slot)
		}
	}
}

// members yields, once each, the systems that r names on a side, whether they count
// or not. One walk at a time: a walk within a walk would spoil the stamps.
func (e *Engine) members(r *rules, side int) iter.Seq[*system] {
	return func(yield func(*system) bool) {
		if r.gateway && side == receivers {
			for _, g := range r.gateways {
				if s := e.systems[g.id]; s != nil && !yield(s) {
					return
				}
			}
			return
		}
		e.stamp++
		stamp := e.stamp
		for _, name := range r.tags[side] {
			for s := range e.tags[name].members {
				if s.stamp == stamp {
					continue
				}
				s.stamp = stamp
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Systems returns the IDs of all systems, sorted.
func (e *Engine) Systems() []wire.SystemID { return slices.Sorted(maps.Keys(e.systems)) }
