package policy

import (
	"maps"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Outline is which of some pairs know each other and what they may open at an instant.
// One engine is asked before a change and after it, so that comparing costs what the
// change touches; Diff of two whole engines says the same.
type Outline struct {
	at    time.Time
	may   map[wire.SystemID]map[wire.SystemID][]wire.Grant
	known map[[2]wire.SystemID]bool
}

// Outline notes what the pairs that a change has touched may do at an instant. Whatever
// it did not touch is as it was, and in no outline.
func (e *Engine) Outline(t *Touched, at time.Time) *Outline {
	o := &Outline{at: at, may: make(map[wire.SystemID]map[wire.SystemID][]wire.Grant), known: make(map[[2]wire.SystemID]bool)}
	for a, b := range t.Pairs() {
		grants := e.Between(a, b, at, at)
		if len(grants) > 0 {
			o.known[[2]wire.SystemID{a, b}] = true
		}
		for _, g := range grants {
			may := o.may[g.From]
			if may == nil {
				may = make(map[wire.SystemID][]wire.Grant)
				o.may[g.From] = may
			}
			may[g.To] = append(may[g.To], g)
		}
	}
	return o
}

// Diff tells what is different after a change; both outlines are of the same pairs.
// Names, flows and tests are the caller's to fill in.
func (o *Outline) Diff(after *Outline) api.Impact {
	out := api.Impact{At: o.at, Gained: []api.Access{}, Lost: []api.Access{}, Flows: []api.LiveFlow{}, Tests: []api.TestResult{}}
	out.Introduced, out.Forgotten = beside(after.known, o.known), beside(o.known, after.known)
	ids := slices.AppendSeq(slices.Collect(maps.Keys(o.may)), maps.Keys(after.may))
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for _, id := range ids {
		old, new := o.may[id], after.may[id]
		for _, to := range peers(old, new) {
			if slices.EqualFunc(old[to], new[to], sameAccess) {
				continue
			}
			gained, lost := beyond(new[to], old[to]), beyond(old[to], new[to])
			out.GainedCount += len(gained)
			out.LostCount += len(lost)
			out.Gained = append(out.Gained, gained[:min(len(gained), maxImpact-len(out.Gained))]...)
			out.Lost = append(out.Lost, lost[:min(len(lost), maxImpact-len(out.Lost))]...)
		}
	}
	return out
}

// Allows reports whether from may open a flow to an address of, or behind, to. own is
// whether the address is to's own. Only pairs of the outline are known.
func (o *Outline) Allows(from, to wire.SystemID, f wire.Flow, own bool) bool {
	return slices.ContainsFunc(o.may[from][to], func(g wire.Grant) bool {
		if g.Proto != wire.Any && g.Proto != f.Proto || own != (g.Subnets == nil) || !own && !covers(g.Subnets, f.Dst.Addr()) {
			return false
		}
		return g.Proto != wire.TCP && g.Proto != wire.UDP || g.Ports.Contains(f.Dst.Port())
	})
}

func sameAccess(a, b wire.Grant) bool {
	return a.Proto == b.Proto && (a.Ports == nil) == (b.Ports == nil) && slices.Equal(a.Ports, b.Ports) &&
		(a.Subnets == nil) == (b.Subnets == nil) && slices.Equal(a.Subnets, b.Subnets) && slices.Equal(a.Within, b.Within)
}

// beside returns the pairs of a that are not in b, sorted, at most as many as any list.
func beside(a, b map[[2]wire.SystemID]bool) [][2]wire.SystemID {
	out := [][2]wire.SystemID{}
	for p := range a {
		if !b[p] {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b [2]wire.SystemID) int { return slices.Compare(a[:], b[:]) })
	return out[:min(len(out), maxImpact)]
}
