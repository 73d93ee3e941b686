package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"enclave/wire"
)

// pairKey is two systems, the lesser ID first.
type pairKey [2]wire.SystemID

// tooMany reports whether two systems have more grants between them than a map carries,
// and remembers it for the warnings. An agent refuses such an entry whole, so that the
// two would not know each other while everybody says that they do; mu is held.
func (h *hub) tooMany(a, b wire.SystemID, grants int) bool {
	pair := pairKey{min(a, b), max(a, b)}
	if grants <= wire.MaxGrantsPerPeer {
		delete(h.crowded, pair)
		return false
	}
	h.crowdedSaid = min(h.crowdedSaid, len(h.crowded)) // some may have ended since
	h.crowded[pair] = grants
	// One change can do it to a hundred thousand pairs: a line whenever their number has
	// doubled. The warnings of the status have the number of now.
	if n := len(h.crowded); n >= max(1, 2*h.crowdedSaid) {
		h.crowdedSaid = n
		h.log.Warn("systems are not introduced: too many rules between them", "pairs", n, "system", pair[0], "peer", pair[1], "rules", grants, "limit", wire.MaxGrantsPerPeer)
	}
	return true
}

// tooCrowded warns of such pairs, naming the first; mu is held.
func (h *hub) tooCrowded() []string {
	maps.DeleteFunc(h.crowded, func(p pairKey, _ int) bool { return h.nodes[p[0]] == nil || h.nodes[p[1]] == nil })
	if len(h.crowded) == 0 {
		return nil
	}
	p := slices.MinFunc(slices.Collect(maps.Keys(h.crowded)), func(a, b pairKey) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	more := ""
	if n := len(h.crowded) - 1; n > 0 {
		more = ", as do " + wire.Count(n, "more pair")
	}
	return []string{fmt.Sprintf("systems %s and %s do not know each other%s: policies have %d rules between them, and a map carries %d; "+
		"let a rule have several ports, or take policies out", p[0], p[1], more, h.crowded[p], wire.MaxGrantsPerPeer)}
}
