package policy

import (
	"iter"
	"math/bits"
	"slices"
	"time"

	"enclave/wire"
)

// Touched gathers which pairs a change may have altered, so that what follows from a
// change is derived pair by pair with Between. A service that everybody knows is
// concerned by every newcomer; without this each would cost all its pairs.
//
// It holds products of two sets, not pairs: a change of a policy between a thousand
// senders and a thousand receivers is two lists.
type Touched struct {
	blocks [][2][]wire.SystemID
	at     map[wire.SystemID][]blockSide

	systems  []wire.SystemID // of which an edge has come
	policies []wire.PolicyID
}

type blockSide struct{ block, side int }

// Record makes every change from now on add to t, until Record is called with nil.
func (e *Engine) Record(t *Touched) { e.touched = t }

// add notes that whatever is between a system of a and one of b may differ.
func (t *Touched) add(a, b []wire.SystemID) {
	if t == nil || len(a) == 0 || len(b) == 0 {
		return
	}
	if t.at == nil {
		t.at = make(map[wire.SystemID][]blockSide)
	}
	for side, list := range [2][]wire.SystemID{a, b} {
		for _, id := range list {
			t.at[id] = append(t.at[id], blockSide{len(t.blocks), side})
		}
	}
	t.blocks = append(t.blocks, [2][]wire.SystemID{a, b})
}

// edge notes that something of a system or a policy has begun or ended by the clock.
func (t *Touched) edge(d edge) {
	switch {
	case t == nil:
	case d.policy != nil:
		t.policies = append(t.policies, d.policy.id)
	default:
		t.systems = append(t.systems, d.system.ID)
	}
}

// Edges returns the systems and the policies of which something has begun or ended by
// the clock alone.
func (t *Touched) Edges() ([]wire.SystemID, []wire.PolicyID) { return t.systems, t.policies }

// Empty reports whether nothing is in it.
func (t *Touched) Empty() bool { return len(t.blocks)+len(t.systems)+len(t.policies) == 0 }

// Systems returns the systems of which some pair may differ, sorted.
func (t *Touched) Systems() []wire.SystemID {
	out := make([]wire.SystemID, 0, len(t.at))
	for id := range t.at {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// Peers returns the systems whose pair with id may differ from before, sorted. Some may
// be gone, or be as they were.
func (t *Touched) Peers(id wire.SystemID) (out []wire.SystemID) {
	for _, at := range t.at[id] {
		out = append(out, t.blocks[at.block][1-at.side]...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.DeleteFunc(out, func(peer wire.SystemID) bool { return peer == id })
}

// Pairs yields each pair that may differ from before, once, the lower ID first.
func (t *Touched) Pairs() iter.Seq2[wire.SystemID, wire.SystemID] {
	return func(yield func(a, b wire.SystemID) bool) {
		for _, a := range t.Systems() {
			for _, b := range t.Peers(a) {
				if a < b && !yield(a, b) {
					return
				}
			}
		}
	}
}

// Between returns the grants of the pair of id and a peer as Pairs(id, ...) gives them;
// none when the two are not introduced at now.
func (e *Engine) Between(id, peer wire.SystemID, now, horizon time.Time) []wire.Grant {
	s, p := e.systems[id], e.systems[peer]
	if s == nil || p == nil || s == p || !s.counts() || over(s.ExpiresAt, now) {
		return nil
	}
	w := walk{e: e, self: s, now: plain(now), horizon: horizon}
	pair := Pair{Peer: peer}
	for _, later := range []bool{false, true} {
		if later && len(pair.Grants) == 0 {
			break // what opens later does not introduce
		}
		for side := range s.slots {
			for i, word := range s.slots[side] {
				for word &= p.slots[1-side].word(i); word != 0; word &= word - 1 {
					if r := e.slots[i*64+bits.TrailingZeros64(word)]; r.lives(w.now) && r.hours.active(w.now) != later {
						w.between(&pair, r, side, p)
					}
				}
			}
		}
	}
	if end, ok := joined(s, p); ok && !over(end, w.now) {
		pair.join(s, p, end)
	}
	slices.SortFunc(pair.Grants, compareGrants)
	return pair.Grants
}
