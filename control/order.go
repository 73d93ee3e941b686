package control

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"enclave/control/admin"
	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type doing = func(context.Context) (admin.Touched, wire.Revision, error)

// Order implements admin.Control. A dry run and a guard are the same thing up to their
// end: the change is made in a transaction that does not stay, what it touched is read
// there, compiled into the engine, compared, and compiled back, all before anybody else
// has the turn or sees the engine (docs/decisions/0086). Its cost is that of the change.
func (h *hub) Order(ctx context.Context, how admin.How, do doing) (out admin.Outcome, err error) {
	if err := h.take(ctx); err != nil {
		return out, err
	}
	given := false
	give := func() {
		if !given {
			given = true
			h.give()
		}
	}
	defer give()
	if how.DryRun || how.Impact || how.Guard && h.guarded() {
		t, err := h.try(ctx, do)
		if err != nil {
			return out, err
		}
		if how.DryRun {
			give() // agents are asked at leisure
			t.impact.Flows, t.impact.Asked = h.flowsCut(ctx, t)
			out.Revision, out.Impact = t.revision, &t.impact
			return out, nil
		}
		if how.Guard {
			if err := refuseBroken(t.impact.Tests, how.Force); err != nil {
				return out, err
			}
		}
		if how.Impact {
			out.Impact = &t.impact
		}
	}
	out.Changed, err = h.change(ctx, do)
	return out, err
}

func (h *hub) guarded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rules.Tests) > 0
}

// refuseBroken refuses a change for the tests that it breaks and was not told to.
func refuseBroken(flipped []api.TestResult, force []string) error {
	p := admin.NewProblem(http.StatusConflict, api.CodeTestFailed, "the change breaks tests that passed", "mend the change, or name the tests with force")
	for _, t := range flipped {
		if !t.Passed && !slices.Contains(force, testName(&t.Assertion)) {
			p.Problems = append(p.Problems, wire.Problem{Path: testName(&t.Assertion), Message: t.Why})
		}
	}
	if len(p.Problems) == 0 {
		return nil
	}
	return p
}

// testName is the name of a test or, when it has none, what it says.
func testName(a *wire.Assertion) string {
	if a.Name != "" {
		return a.Name
	}
	return policy.FormatAssertion(a)
}

// tried is what a trial found.
type tried struct {
	impact   api.Impact
	revision wire.Revision // that the change would make

	before, after *policy.Outline // of the pairs of ids that may differ
	ids           []wire.SystemID
}

// receivers lists the systems at which something is lost; everybody concerned when the
// list of losses is cut.
func (t *tried) receivers() (ids []wire.SystemID) {
	if len(t.impact.Lost) < t.impact.LostCount {
		return t.ids
	}
	for _, a := range t.impact.Lost {
		ids = append(ids, a.To)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// try makes a change that does not stay. The caller has the turn.
func (h *hub) try(ctx context.Context, do doing) (*tried, error) {
	var f fresh
	t := new(tried)
	err := h.store.Try(ctx, func(ctx context.Context) error {
		touched, rev, err := do(ctx)
		if err != nil {
			return err
		}
		t.revision = rev
		f, err = h.read(ctx, touched)
		return err
	})
	if err != nil {
		return nil, err
	}
	now := h.clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advanceHeld(now) // edges that came since are no part of the change
	h.compare(&f, t, now)
	return t, nil
}

// compare compiles f, looks, and compiles back; mu is held.
func (h *hub) compare(f *fresh, t *tried, now time.Time) {
	h.missing(f)
	undo := h.remember(f)
	kept := h.rules.Tests // those that count are the ones kept before the change
	h.compile(f, now)
	touched := h.harvest()
	t.ids, t.after = touched.Systems(), h.engine.Outline(touched, now)
	afterTests := h.runTests(kept, f, now)
	h.compile(undo, now)
	h.harvest() // nobody has to follow what is as it was
	t.before = h.engine.Outline(touched, now)
	t.impact = t.before.Diff(t.after)
	for i, b := range h.runTests(kept, nil, now) {
		if b.Passed != afterTests[i].Passed {
			t.impact.Tests = append(t.impact.Tests, afterTests[i])
		}
	}
	p := h.people()
	p.access(t.impact.Gained)
	p.access(t.impact.Lost)
}

// remember returns what the hub has of everything that f is about; mu is held.
func (h *hub) remember(f *fresh) *fresh {
	old := &fresh{systems: make(map[wire.SystemID]*store.System, len(f.systems)), policies: make(map[wire.PolicyID]*stored, len(f.policies))}
	for id := range f.systems {
		old.systems[id] = nil
		if n := h.nodes[id]; n != nil {
			old.systems[id] = &n.sys
		}
	}
	for id := range f.policies {
		old.policies[id] = h.policies[id]
	}
	if f.trust != nil {
		old.trust = h.trust
		if old.trust == nil {
			old.trust = map[wire.Tag][]string{}
		}
	}
	if f.rules != nil {
		rules := h.rules
		old.rules = &rules
	}
	return old
}

// runTests judges assertions in the engine as it is; mu is held. With f, systems are
// those that it has read, where it has.
func (h *hub) runTests(list []wire.Assertion, f *fresh, now time.Time) []api.TestResult {
	resolve := h.resolver(f)
	out := make([]api.TestResult, len(list))
	for i := range list {
		out[i] = h.engine.Check(&list[i], resolve, now)
	}
	return out
}

// resolver finds the systems that tests name, by the indexes of names and of tags. With
// f, systems are those that it has read, where it has; tags are the engine's, into which
// f was compiled.
func (h *hub) resolver(f *fresh) policy.Resolve {
	read := func(id wire.SystemID) (s *store.System, ok bool) {
		if f != nil {
			s, ok = f.systems[id]
		}
		return s, ok
	}
	return func(name string) ([]wire.SystemID, error) {
		if tag, ok := strings.CutPrefix(name, "tag:"); ok {
			at := h.engine.Tagged(wire.Tag(tag))
			if len(at) == 0 {
				return nil, fmt.Errorf("there is no system %s", name)
			}
			return at, nil
		}
		id := wire.SystemID(name)
		if s, ok := read(id); s != nil || !ok && h.nodes[id] != nil {
			return []wire.SystemID{id}, nil // a name that is an ID counts as that alone
		}
		var at []wire.SystemID
		for _, id := range h.named[name] {
			if _, ok := read(id); !ok {
				at = append(at, id)
			}
		}
		if f != nil {
			for id, s := range f.systems {
				if s != nil && s.Name == name {
					at = append(at, id)
				}
			}
		}
		slices.Sort(at)
		switch len(at) {
		case 0:
			return nil, fmt.Errorf("there is no system %s", name)
		case 1:
			return at, nil
		}
		return nil, fmt.Errorf("%s fits several systems: %v", name, at)
	}
}

// pendingUntil is when the pending change reverts; zero is none.
func (h *hub) pendingUntil() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rules.Pending == nil {
		return time.Time{}
	}
	return h.rules.Pending.Deadline
}

// revert undoes the change that was not confirmed in time.
func (h *hub) revert(now time.Time) doing {
	return func(ctx context.Context) (admin.Touched, wire.Revision, error) {
		a, done, err := h.store.Revert(ctx, store.Change{By: store.ConfirmWithin, At: now})
		if done {
			h.log.Warn("a change was not confirmed in time and is undone", "revision", a.Revision)
		}
		return admin.Touched{Policies: a.Policies(), Rules: true}, a.Revision, err
	}
}
