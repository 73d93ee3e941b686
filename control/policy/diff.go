package policy

import (
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// maxImpact is how many entries a list of Diff has at most; the counts are whole.
const maxImpact = 1000

// Clone returns an engine with the same world, to try a change on.
func (e *Engine) Clone() *Engine {
	c := New()
	c.SetOverlay(e.overlay...)
	for _, r := range e.policies {
		c.PutPolicy(r.doc, e.now) // was accepted once
	}
	for _, t := range e.tags {
		if len(t.trust) > 0 {
			c.PutTag(Tag{t.name, t.trust}, e.now)
		}
	}
	for _, s := range e.systems {
		c.PutSystem(s.System, e.now)
	}
	return c
}

// Diff compares two worlds at an instant: who gets to know whom, and what may be opened
// that could not be before, or no longer. What another policy allows instead is neither
// gained nor lost. Where an any is new or gone only in part, each protocol is told by
// itself. Names, flows and tests are the caller's to fill in.
func Diff(before, after *Engine, at time.Time) api.Impact {
	out := api.Impact{At: at, Gained: []api.Access{}, Lost: []api.Access{}, Flows: []api.LiveFlow{}, Tests: []api.TestResult{}}
	out.Introduced, out.Forgotten = [][2]wire.SystemID{}, [][2]wire.SystemID{}
	was, is := before.Connected(at), after.Connected(at)
	out.Introduced = without(is, was)
	out.Forgotten = without(was, is)
	for _, id := range slices.Compact(slices.Sorted(slices.Values(append(before.Systems(), after.Systems()...)))) {
		old, new := before.from(id, at), after.from(id, at)
		for _, to := range peers(old, new) {
			gained, lost := beyond(new[to], old[to]), beyond(old[to], new[to])
			out.GainedCount += len(gained)
			out.LostCount += len(lost)
			out.Gained = append(out.Gained, gained[:min(len(gained), maxImpact-len(out.Gained))]...)
			out.Lost = append(out.Lost, lost[:min(len(lost), maxImpact-len(out.Lost))]...)
		}
	}
	return out
}

func without(a, b [][2]wire.SystemID) [][2]wire.SystemID {
	known := make(map[[2]wire.SystemID]bool, len(b))
	for _, p := range b {
		known[p] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(p [2]wire.SystemID) bool { return known[p] })
}

// from returns what id may open now, by receiver.
func (e *Engine) from(id wire.SystemID, at time.Time) map[wire.SystemID][]wire.Grant {
	out := make(map[wire.SystemID][]wire.Grant)
	for _, p := range e.Pairs(id, at, at) {
		for _, g := range p.Grants {
			if g.From == id {
				out[p.Peer] = append(out[p.Peer], g)
			}
		}
	}
	return out
}

func peers(a, b map[wire.SystemID][]wire.Grant) (out []wire.SystemID) {
	for id := range a {
		out = append(out, id)
	}
	for id := range b {
		if _, both := a[id]; !both {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// beyond returns what the grants allow that the others do not, each thing once.
func beyond(grants, others []wire.Grant) (out []api.Access) {
	covered := regions(others)
	for _, g := range grants {
		mine := regions([]wire.Grant{g})
		rest := minus(mine, covered)
		if len(rest) == 0 {
			continue
		}
		covered = append(covered, mine...)
		a := access(g)
		if slices.EqualFunc(rest, mine, region.equal) {
			out = append(out, a)
			continue
		}
		for _, r := range rest {
			a.Proto, a.Ports, a.Rest = r.proto, r.list(), r.proto == wire.Any
			a.Subnets, a.Hosts = named(r.to, g.Names)
			a.Leads = r.leads
			out = append(out, a)
		}
	}
	return out
}
