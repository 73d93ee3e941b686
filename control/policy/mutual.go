package policy

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"enclave/wire"
)

// Mutual is the policy that verdicts and grants name between two unmanaged systems that
// have added each other, rule 0. No policy is called that: the server makes IDs of
// policies from an alphabet without u and l.
const Mutual wire.PolicyID = "mutual"

// mutualRules is what two systems that have added each other may do: anything, both
// ways, for as long as both count. It has no slot and stands in no index.
func mutualRules() *rules {
	const text = "both systems are untagged and have added each other"
	return &rules{id: Mutual, slot: -1, enabled: true, acls: []rule{{
		proto: wire.Any, why: text,
		reply:   "a reply in a flow that is allowed because " + text,
		icmpErr: "an ICMP error about a flow that is allowed because " + text,
	}}}
}

func (s *system) unmanaged() bool { return len(s.Tags) == 0 }

// added reports whether s has added another; Adds is sorted.
func (s *system) added(id wire.SystemID) bool {
	_, ok := slices.BinarySearch(s.Adds, id)
	return ok
}

// joined returns until when two systems are connected because they have added each
// other, if they are at all. A first tag on either makes it managed and ends it.
func joined(a, b *system) (end time.Time, ok bool) {
	if !a.unmanaged() || !b.unmanaged() || a == b || !a.added(b.ID) || !b.added(a.ID) || !a.counts() || !b.counts() {
		return time.Time{}, false
	}
	return sooner(a.ExpiresAt, b.ExpiresAt), true
}

func joinedAt(a, b *system, now time.Time) bool {
	end, ok := joined(a, b)
	return ok && !over(end, now)
}

// joins yields the systems that s is connected to at now by mutual adds, and until
// when. Both must have added the other, so the adds of s are the only index needed.
func (e *Engine) joins(s *system, now time.Time) iter.Seq2[*system, time.Time] {
	return func(yield func(*system, time.Time) bool) {
		if !s.unmanaged() {
			return
		}
		for _, id := range s.Adds {
			peer := e.systems[id]
			if peer == nil {
				continue
			}
			if end, ok := joined(s, peer); ok && !over(end, now) && !yield(peer, end) {
				return
			}
		}
	}
}

// parted adds s, and whoever it was connected to by mutual adds at last and no longer is.
func (e *Engine) parted(s *system, last time.Time, out *affected) {
	for peer, end := range e.joins(s, last) {
		if over(end, e.now) {
			out.pair(s, peer)
		}
	}
}

// rejoin adds s, and whoever it is connected to otherwise than before.
func rejoin(s *system, before, after map[*system]time.Time, out *affected) {
	note := func(a, b map[*system]time.Time) {
		for peer, end := range a {
			if other, ok := b[peer]; !ok || !other.Equal(end) {
				out.pair(s, peer)
			}
		}
	}
	note(before, after)
	note(after, before)
}

// mutual adds the pairs that come of mutual adds.
func (w *walk) mutual() {
	for peer, end := range w.e.joins(w.self, w.now) {
		pair := w.peers[peer]
		if pair == nil {
			pair = &Pair{Peer: peer.ID}
			w.peers[peer] = pair
		}
		pair.join(w.self, peer, end)
	}
}

func (p *Pair) join(self, peer *system, end time.Time) {
	g := wire.Grant{From: self.ID, To: peer.ID, Proto: wire.Any, Policy: Mutual, NotAfter: end}
	g.Ends = clock(end, time.Time{}, time.Time{}, self, peer)
	back := g
	back.From, back.To, back.Ends = g.To, g.From, clock(end, time.Time{}, time.Time{}, peer, self)
	p.Grants = append(p.Grants, g, back)
}

// whyApart says why the adds of two systems do not connect them; it is empty when
// neither has added the other.
func whyApart(a, b *system) string {
	one, other := a.added(b.ID), b.added(a.ID)
	if !a.unmanaged() {
		a, b = b, a
	}
	switch {
	case one && other && !b.unmanaged():
		return fmt.Sprintf("%s and %s have added each other, but %s has tags, so that only a policy connects it", a.ID, b.ID, b.ID)
	case one == other || !b.unmanaged():
		return ""
	case other:
		a, b = b, a
	}
	return fmt.Sprintf("%s has added %s, but %s has not added %s", a.ID, b.ID, b.ID, a.ID)
}

// mutualChecks are the conditions of mutual adds. They are worth a word between two
// unmanaged systems, or when somebody has added the other.
func (e *Engine) mutualChecks(a, b *system) (out []check) {
	one, other := a.added(b.ID), b.added(a.ID)
	if !one && !other && (!a.unmanaged() || !b.unmanaged()) {
		return nil
	}
	for _, s := range []*system{a, b} {
		c := check{what: "mutual", ok: s.unmanaged(), detail: fmt.Sprintf("%s has no tags", s.ID)}
		if !c.ok { // taking its tags away is no fix: it would lose all that they give
			c.detail = fmt.Sprintf("%s has tags, so that only policies connect it", s.ID)
		}
		out = append(out, c)
	}
	c := check{what: "mutual", ok: one && other, detail: fmt.Sprintf("%s and %s have added each other", a.ID, b.ID)}
	switch {
	case c.ok:
	case !one && !other:
		c.detail = fmt.Sprintf("neither of %s and %s has added the other", a.ID, b.ID)
		c.fixes = []fix{{kind: "add each other", system: a.ID, peer: b.ID, text: fmt.Sprintf("let %s and %s add each other", a.ID, b.ID)}}
	default:
		if one {
			a, b = b, a
		}
		c.detail = fmt.Sprintf("%s has added %s, but %s has not added %s", b.ID, a.ID, a.ID, b.ID)
		c.fixes = []fix{{kind: "add", system: a.ID, peer: b.ID, text: fmt.Sprintf("let %s add %s", a.ID, b.ID)}}
	}
	return append(out, c)
}
