package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"enclave/wire"
)

// maxTests is how many assertions an organisation may keep.
const maxTests = 4096

// SetApplied is what applying a policy set did. Base equals Revision when the set was
// in force already: then nothing was done.
type SetApplied struct {
	Base, Revision            wire.Revision
	Created, Changed, Removed []wire.PolicyID
}

// Policies lists every policy that is another than before.
func (a *SetApplied) Policies() []wire.PolicyID {
	return slices.Concat(a.Created, a.Changed, a.Removed)
}

// SetError lists why a set cannot become the one in force. It is an ErrConflict.
type SetError struct{ Problems []wire.Problem }

func (e *SetError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Error()
	}
	return fmt.Sprintf("%d mistakes, the first: %v", len(e.Problems), e.Problems[0])
}

// Is makes the error match ErrConflict.
func (e *SetError) Is(target error) bool { return target == ErrConflict }

// ApplySet makes set the policy set in force, as one revision, or none when it is
// already. A policy of the set is the one of its ID, which may come back from the past,
// or, with an ID that was never ours or none, the stored one of its name; what the set
// does not have is removed, and what is new gets an ID. With confirmBy the change is
// pending until Confirm. Whether the documents make sense is the caller's to check.
func (s *Store) ApplySet(ctx context.Context, c Change, set wire.PolicySet, confirmBy time.Time) (a SetApplied, err error) {
	if !confirmBy.IsZero() && !confirmBy.After(c.At) {
		return a, fmt.Errorf("apply policy set: %w", conflict("the time to confirm it is over"))
	}
	_, err = s.change(ctx, "apply policy set", c, func(w *writing) error {
		if a, err = w.applySet(ctx, set, "policyset.apply", "policyset"); err != nil || a.Base == a.Revision || confirmBy.IsZero() {
			return err
		}
		_, err := w.ExecContext(ctx, "INSERT INTO pending VALUES (?, ?, ?, ?)", w.org, a.Revision, a.Base, confirmBy.UnixNano())
		return err
	})
	return a, err
}

// Restore makes the policy set of a past revision the one in force again. A pending
// change is settled by it.
func (s *Store) Restore(ctx context.Context, c Change, rev wire.Revision) (a SetApplied, err error) {
	_, err = s.change(ctx, "restore policy set", c, func(w *writing) error {
		a, err = w.restore(ctx, rev, "policyset.restore")
		return err
	})
	return a, err
}

// Revert undoes the pending change, if its deadline has come at c.At; reverted is
// false when there is nothing to do.
func (s *Store) Revert(ctx context.Context, c Change) (a SetApplied, reverted bool, err error) {
	_, err = s.change(ctx, "revert policy set", c, func(w *writing) error {
		p, waits, err := pending(ctx, w, w.org)
		if err != nil || !waits || c.At.Before(p.Deadline) {
			return err
		}
		reverted = true
		a, err = w.restore(ctx, p.Base, "policyset.revert")
		return err
	})
	return a, reverted && err == nil, err
}

func (w *writing) restore(ctx context.Context, rev wire.Revision, action string) (a SetApplied, err error) {
	set, err := policySetAt(ctx, w, w.org, rev, allParts()...)
	if err != nil {
		return a, err
	}
	if err := w.settle(ctx); err != nil {
		return a, err
	}
	return w.applySet(ctx, set, action, "revision:"+strconv.FormatUint(uint64(rev), 10))
}

func (w *writing) applySet(ctx context.Context, set wire.PolicySet, action, object string) (a SetApplied, err error) {
	a.Base, a.Revision = w.rev, w.rev
	if err := w.settled(ctx); err != nil {
		return a, err
	}
	if err := checkSet(&set); err != nil {
		return a, err
	}
	now, err := policySetAt(ctx, w, w.org, w.rev, requirementPart, tagPart, testsPart)
	if err != nil {
		return a, err
	}
	plan, err := w.planPolicies(ctx, set.Policies)
	if err != nil {
		return a, err
	}
	rest, err := planRest(&now, &set)
	if err != nil {
		return a, err
	}
	if len(plan.create)+len(plan.change)+len(plan.remove)+len(rest) == 0 {
		return a, nil
	}
	if err := w.bump(ctx); err != nil {
		return a, err
	}
	a.Revision = w.rev
	if err := w.doPolicies(ctx, plan, &a); err != nil {
		return a, err
	}
	for _, x := range rest {
		if err := x.do(ctx, w); err != nil {
			return a, err
		}
	}
	detail := map[string]any{"created": a.Created, "changed": a.Changed, "removed": a.Removed}
	for _, x := range rest {
		names, _ := detail[x.part].([]string)
		detail[x.part] = append(names, x.id)
	}
	return a, w.record(ctx, action, object, detail)
}

func checkSet(set *wire.PolicySet) error {
	if len(set.Tests) > maxTests {
		return conflict("%d tests, at most %d", len(set.Tests), maxTests)
	}
	for i := range set.Policies {
		if err := checkPolicy(&set.Policies[i]); err != nil {
			return fmt.Errorf("policies[%d]: %w", i, err)
		}
	}
	for i, t := range set.Tags {
		if err := checkTagSettings(t.Name, TagSettings{Trust: t.Trust}); err != nil {
			return fmt.Errorf("tags[%d]: %w", i, err)
		}
	}
	return nil
}

// setPlan is what has to happen to the policies.
type setPlan struct {
	create, change []wire.Policy
	remove         []wire.PolicyID
}

// planPolicies matches documents with what is stored: by ID first, so that a policy
// can be renamed and two of one name are told apart, then by name, oldest first.
func (w *writing) planPolicies(ctx context.Context, docs []wire.Policy) (p setPlan, err error) {
	stored, err := policies(ctx, w, w.org)
	if err != nil {
		return p, err
	}
	left := make(map[wire.PolicyID]*Policy, len(stored))
	byName := make(map[string][]*Policy)
	for i := range stored {
		left[stored[i].ID] = &stored[i]
		byName[stored[i].Name] = append(byName[stored[i].Name], &stored[i])
	}
	match := make([]*Policy, len(docs))
	for i, d := range docs {
		if old := left[d.ID]; old != nil {
			match[i] = old
			delete(left, d.ID)
		}
	}
	known := make([]bool, len(docs))
	for i, d := range docs {
		if match[i] != nil {
			continue
		}
		if known[i], err = w.knownID(ctx, d.ID); err != nil {
			return p, err
		}
		if known[i] {
			continue // it comes back as itself
		}
		for _, old := range byName[d.Name] {
			if left[old.ID] != nil && d.Name != "" {
				match[i] = old
				delete(left, old.ID)
				break
			}
		}
	}
	for i, d := range docs {
		if old := match[i]; old != nil {
			d.ID = old.ID
			same, err := sameJSON(d, old.Policy)
			if err != nil {
				return p, err
			}
			if !same || old.Broken != "" {
				p.change = append(p.change, d)
			}
			continue
		}
		if !known[i] {
			d.ID = wire.PolicyID(wire.NewID(keyIDLen))
		}
		p.create = append(p.create, d)
	}
	for i := range stored {
		if left[stored[i].ID] != nil {
			p.remove = append(p.remove, stored[i].ID)
		}
	}
	return p, nil
}

// knownID reports whether a policy of this organisation has or had the ID.
func (w *writing) knownID(ctx context.Context, id wire.PolicyID) (bool, error) {
	var n int
	err := w.QueryRowContext(ctx, "SELECT count(*) FROM set_versions WHERE org_id = ? AND part = 'policy' AND id = ?", w.org, id).Scan(&n)
	return n > 0, err
}

func sameJSON(a, b any) (bool, error) {
	x, err := toJSON(a)
	if err != nil {
		return false, err
	}
	y, err := toJSON(b)
	return x == y, err
}

func (w *writing) doPolicies(ctx context.Context, p setPlan, a *SetApplied) error {
	for _, id := range p.remove {
		if err := w.dropPolicy(ctx, id); err != nil {
			return err
		}
		a.Removed = append(a.Removed, id)
	}
	for i := range p.change {
		if err := w.putPolicy(ctx, &p.change[i]); err != nil {
			return err
		}
		a.Changed = append(a.Changed, p.change[i].ID)
	}
	for i := range p.create {
		if err := w.addPolicy(ctx, &p.create[i]); err != nil {
			return err
		}
		a.Created = append(a.Created, p.create[i].ID)
	}
	return nil
}

// partChange is what has to happen to a part that is no policy.
type partChange struct {
	part, id string
	do       func(ctx context.Context, w *writing) error
}

func planRest(now, want *wire.PolicySet) (list []partChange, err error) {
	var bad []wire.Problem
	seen := make(map[string]bool)
	for i, q := range want.Requirements {
		at := fmt.Sprintf("requirements[%d]", i)
		if seen[q.ID] {
			bad = append(bad, wire.Problem{Path: at + ".id", Message: fmt.Sprintf("requirement %q is given twice", q.ID)})
			continue
		}
		seen[q.ID] = true
		old := slices.IndexFunc(now.Requirements, func(o wire.Requirement) bool { return o.ID == q.ID })
		if old >= 0 {
			bad = append(bad, fixedParts(at, &now.Requirements[old], &q)...)
			if same, err := sameJSON(q, now.Requirements[old]); err != nil || same {
				if err != nil {
					return nil, err
				}
				continue
			}
		}
		list = append(list, partChange{requirementPart, q.ID, func(ctx context.Context, w *writing) error { return w.putRequirement(ctx, &q) }})
	}
	for _, q := range now.Requirements {
		if !seen[q.ID] {
			list = append(list, partChange{requirementPart, q.ID, func(ctx context.Context, w *writing) error { return w.dropRequirement(ctx, q.ID) }})
		}
	}
	trust := make(map[wire.Tag][]string)
	for i, t := range want.Tags {
		if _, twice := trust[t.Name]; twice {
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("tags[%d].name", i), Message: fmt.Sprintf("tag %q is given twice", t.Name)})
		}
		trust[t.Name] = tidyTrust(t.Trust)
	}
	was := make(map[wire.Tag][]string)
	for _, t := range now.Tags {
		was[t.Name] = t.Trust
		if _, ok := trust[t.Name]; !ok {
			trust[t.Name] = nil
		}
	}
	for tag, list2 := range trust {
		if !slices.Equal(list2, was[tag]) {
			list = append(list, partChange{tagPart, string(tag), func(ctx context.Context, w *writing) error { return w.setTrust(ctx, tag, list2) }})
		}
	}
	same, err := sameJSON(orNone(now.Tests), orNone(want.Tests))
	if err != nil {
		return nil, err
	}
	if !same {
		list = append(list, partChange{testsPart, "", func(ctx context.Context, w *writing) error { return w.setTests(ctx, want.Tests) }})
	}
	if len(bad) > 0 {
		return nil, &SetError{bad}
	}
	slices.SortFunc(list, func(a, b partChange) int { return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.id, b.id)) })
	return list, nil
}

// fixedParts returns what may not change about a requirement.
func fixedParts(at string, old, q *wire.Requirement) (bad []wire.Problem) {
	if q.Kind != old.Kind {
		bad = append(bad, wire.Problem{Path: at + ".kind", Message: fmt.Sprintf("is %s and cannot change: make another requirement", old.Kind)})
	}
	if q.Authority != old.Authority {
		bad = append(bad, wire.Problem{Path: at + ".authority", Message: fmt.Sprintf("is %q and cannot change: make another requirement", old.Authority)})
	}
	return bad
}

func orNone[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Tests returns the assertions kept with the policies, and their version; 0 when
// there never were any.
func (s *Store) Tests(ctx context.Context) (tests []wire.Assertion, version wire.Revision, err error) {
	err = s.view(ctx, "read tests", func(r reader, org wire.OrgID) error {
		tests, version, err = readTests(ctx, r, org)
		return err
	})
	return tests, version, err
}

func readTests(ctx context.Context, r reader, org wire.OrgID) (tests []wire.Assertion, version wire.Revision, err error) {
	err = rows(ctx, r, "SELECT document, version FROM policy_tests WHERE org_id = ?", []any{org}, func(scan func(...any) error) error {
		return scan(jsonCol{&tests}, &version)
	})
	return tests, version, err
}

// SetTests replaces the assertions.
func (s *Store) SetTests(ctx context.Context, c Change, tests []wire.Assertion) (wire.Revision, error) {
	if len(tests) > maxTests {
		return 0, fmt.Errorf("set tests: %w", conflict("%d tests, at most %d", len(tests), maxTests))
	}
	return s.change(ctx, "set tests", c, func(w *writing) error {
		_, version, err := readTests(ctx, w, w.org)
		if err := cmp.Or(err, w.stale(version)); err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.setTests(ctx, tests); err != nil {
			return err
		}
		return w.record(ctx, "tests.set", "tests", map[string]int{"tests": len(tests)})
	})
}

func (w *writing) setTests(ctx context.Context, tests []wire.Assertion) error {
	text, err := toJSON(orNone(tests))
	if err != nil {
		return err
	}
	_, err = w.ExecContext(ctx, `INSERT INTO policy_tests VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET document = excluded.document, version = excluded.version`, w.org, text, w.rev)
	if err != nil {
		return err
	}
	if len(tests) == 0 {
		return w.keep(ctx, testsPart, "", nil)
	}
	return w.keep(ctx, testsPart, "", tests)
}
