package policy

import (
	"cmp"
	"slices"
	"time"

	"enclave/wire"
)

// Pair is a system that some policy introduces to another, or that has added it and was
// added by it, and what the two may do, in both directions and in a fixed order.
type Pair struct {
	Peer   wire.SystemID
	Grants []wire.Grant
}

// Pairs returns the systems introduced to id at now, sorted. The grants are those that
// count at now, whose NotBefore is zero, and those of the same pairs that open again
// before horizon. NotAfter is the first instant at which a grant stops, whichever of
// expiry, hours, a system's life or a trust mark comes first; zero is never. Ports and
// Subnets belong to the engine: read only.
func (e *Engine) Pairs(id wire.SystemID, now, horizon time.Time) []Pair {
	s := e.systems[id]
	if s == nil || !s.counts() || over(s.ExpiresAt, now) {
		return nil
	}
	now = plain(now)
	w := walk{e: e, self: s, now: now, horizon: horizon, peers: make(map[*system]*Pair)}
	// What counts now comes first: it alone introduces.
	for _, later := range []bool{false, true} {
		for side := range s.slots {
			for slot := range s.slots[side].all() {
				if r := e.slots[slot]; r.lives(now) && r.hours.active(now) != later {
					w.policy(r, side, later)
				}
			}
		}
	}
	w.mutual()
	out := make([]Pair, 0, len(w.peers))
	for _, p := range w.peers {
		slices.SortFunc(p.Grants, compareGrants)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Pair) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// Peers names whom Pairs introduces to id at now, in no order, without deriving what
// they may do. It may name a gateway that carries nothing, and never misses anybody.
func (e *Engine) Peers(id wire.SystemID, now time.Time) (out []wire.SystemID) {
	s := e.systems[id]
	if s == nil || !s.counts() || over(s.ExpiresAt, now) {
		return nil
	}
	seen := map[*system]struct{}{s: {}}
	add := func(peer *system) {
		seen[peer] = struct{}{}
		out = append(out, peer.ID)
	}
	for side := range s.slots {
		for slot := range s.slots[side].all() {
			r := e.slots[slot]
			if !r.active(now) || !s.stands(r, side, now) {
				continue
			}
			for peer := range e.members(r, 1-side) {
				if _, known := seen[peer]; !known && peer.stands(r, 1-side, now) {
					add(peer)
				}
			}
		}
	}
	for peer := range e.joins(s, now) {
		if _, known := seen[peer]; !known {
			add(peer)
		}
	}
	return out
}

// Tagged returns the systems that carry a tag, whether it counts or not, sorted.
func (e *Engine) Tagged(name wire.Tag) (out []wire.SystemID) {
	if t := e.tags[name]; t != nil {
		for s := range t.members {
			out = append(out, s.ID)
		}
	}
	slices.Sort(out)
	return out
}

// walk gathers the pairs of one system.
type walk struct {
	e            *Engine
	self         *system
	now, horizon time.Time
	peers        map[*system]*Pair
	openings     []opening
}

// policy adds what r grants between self, on one side, and everybody on the other.
func (w *walk) policy(r *rules, side int, later bool) {
	mine, ok := w.self.on(r, side)
	if !ok || over(mine, w.now) {
		return
	}
	w.openings = r.openingsAt(w.now, w.horizon)
	for peer := range w.e.members(r, 1-side) {
		theirs, ok := peer.on(r, 1-side)
		if peer == w.self || !ok || over(theirs, w.now) {
			continue
		}
		pair := w.peers[peer]
		if pair == nil {
			if later {
				continue
			}
			pair = &Pair{Peer: peer.ID}
		}
		if w.grant(pair, r, side, peer, sooner(mine, theirs)) {
			w.peers[peer] = pair
		}
	}
}

// between adds what r grants between self, on one side, and a peer that r names on the
// other.
func (w *walk) between(pair *Pair, r *rules, side int, peer *system) {
	mine, ok := w.self.on(r, side)
	theirs, also := peer.on(r, 1-side)
	if !ok || !also || over(mine, w.now) || over(theirs, w.now) {
		return
	}
	w.openings = r.openingsAt(w.now, w.horizon)
	w.grant(pair, r, side, peer, sooner(mine, theirs))
}

// grant appends to the pair until end, and reports whether there was anything to append.
func (w *walk) grant(pair *Pair, r *rules, side int, peer *system, end time.Time) bool {
	from, to := w.self, peer
	if side == receivers {
		from, to = to, from
	}
	before := len(pair.Grants)
	pair.Grants = grants(pair.Grants, r, from, to, end, w.openings)
	return len(pair.Grants) > before
}

// grants appends one grant for each rule and opening, future openings only while the
// pair stays below the limit of the protocol: the receiver then hears of them later.
func grants(out []wire.Grant, r *rules, from, to *system, end time.Time, openings []opening) []wire.Grant {
	g := wire.Grant{From: from.ID, To: to.ID, Policy: r.id, Name: r.doc.Name}
	if r.gateway {
		if g.Subnets = r.carries(to); len(g.Subnets) == 0 {
			return out
		}
		g.Priority, g.Order = r.doc.Priority, r.order(to.ID)
		if gate := &r.gateways[g.Order]; len(gate.names) > 0 {
			if within := gate.answers(to); len(within) > 0 {
				g.Names, g.Within = gate.names, within
			}
		}
	}
	for _, o := range openings {
		if !o.from.IsZero() && (over(end, o.from) || len(out)+len(r.acls) > wire.MaxGrantsPerPeer) {
			break
		}
		g.NotBefore, g.NotAfter = o.from, sooner(o.to, end)
		g.Ends = clock(g.NotAfter, r.expires, o.to, from, to)
		for i, a := range r.acls {
			g.Rule, g.Proto, g.Ports = i, a.proto, a.ports
			out = append(out, g)
		}
	}
	return out
}

// clock says what ends a grant at an instant: of several at once the most lasting.
func clock(at, expires, closes time.Time, from, to *system) wire.Clock {
	switch {
	case at.IsZero():
		return ""
	case at.Equal(expires):
		return wire.EndsPolicy
	case at.Equal(from.ExpiresAt):
		return wire.EndsSender
	case at.Equal(to.ExpiresAt):
		return wire.EndsReceiver
	case at.Equal(closes):
		return wire.EndsHours
	}
	return wire.EndsTrust
}

func compareGrants(a, b wire.Grant) int {
	return cmp.Or(
		cmp.Compare(a.From, b.From),
		cmp.Compare(a.Policy, b.Policy),
		cmp.Compare(a.Rule, b.Rule),
		a.NotBefore.Compare(b.NotBefore),
	)
}

// Introduced reports whether some policy introduces a and b to each other at now, or
// their adds do.
func (e *Engine) Introduced(a, b wire.SystemID, now time.Time) bool {
	x, y := e.systems[a], e.systems[b]
	return x != nil && y != nil && (e.opens(x, y, now) || e.opens(y, x, now))
}

// opens reports whether from may start flows to to, or through it.
func (e *Engine) opens(from, to *system, now time.Time) bool {
	if joinedAt(from, to, now) {
		return true
	}
	for slot := range common(from, to).all() {
		if r := e.slots[slot]; from != to && r.active(now) && from.stands(r, senders, now) &&
			to.stands(r, receivers, now) && (!r.gateway || len(r.carries(to)) > 0) {
			return true
		}
	}
	return false
}

// common returns the policies that name from as a sender and to as a receiver.
func common(from, to *system) bitset {
	out := make(bitset, min(len(from.slots[senders]), len(to.slots[receivers])))
	for i := range out {
		out[i] = from.slots[senders][i] & to.slots[receivers][i]
	}
	return out
}

// Connected returns every introduced pair at now, each sorted, the list sorted.
func (e *Engine) Connected(now time.Time) [][2]wire.SystemID {
	seen := make(map[[2]wire.SystemID]struct{})
	for _, r := range e.policies {
		if !r.active(now) {
			continue
		}
		d := e.sides(r, now)
		for b := range d[receivers] {
			if r.gateway && len(r.carries(b)) == 0 {
				continue
			}
			for a := range d[senders] {
				if a != b {
					seen[[2]wire.SystemID{min(a.ID, b.ID), max(a.ID, b.ID)}] = struct{}{}
				}
			}
		}
	}
	for _, s := range e.systems {
		for peer := range e.joins(s, now) {
			seen[[2]wire.SystemID{min(s.ID, peer.ID), max(s.ID, peer.ID)}] = struct{}{}
		}
	}
	out := make([][2]wire.SystemID, 0, len(seen))
	for p := range seen {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b [2]wire.SystemID) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	return out
}

// The states of a policy.
const (
	Active       = "active"
	Disabled     = "disabled"
	Expired      = "expired"
	OutsideHours = "outside hours"
	NoRules      = "inactive: no rules"
)

// State derives the state of a policy, the most lasting cause first; it is empty for
// a policy that does not exist.
func (e *Engine) State(id wire.PolicyID, now time.Time) string {
	r := e.policies[id]
	switch {
	case r == nil:
		return ""
	case !r.enabled:
		return Disabled
	case over(r.expires, now):
		return Expired
	case len(r.acls) == 0:
		return NoRules
	case !r.hours.active(now):
		return OutsideHours
	}
	return Active
}
