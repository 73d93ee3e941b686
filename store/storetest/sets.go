package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

// testApplyRequirements: a set finds each requirement by its ID, wherever it stands, changes
// what may change of it, and never takes one for a policy.
func testApplyRequirements(t *testing.T, l *Lab) {
	mfa := wire.Requirement{ID: "mfa", Kind: wire.UserAuthentication, Authority: "local"}
	office := func(at string) wire.Requirement {
		return wire.Requirement{ID: "office", Kind: wire.PublicIP, Ranges: []wire.RangeCondition{{Range: at}}}
	}
	apply := func(list ...wire.Requirement) (store.SetApplied, error) {
		return l.ApplySet(l.Ctx, l.C, wire.PolicySet{Requirements: list}, time.Time{})
	}
	_, err := apply(mfa, office("192.0.2.0/24"))
	l.must(err)
	_, err = apply(office("198.51.100.0/24"), mfa)
	l.must(err)
	if q, err := l.Requirement(l.Ctx, "office"); err != nil || len(q.Ranges) != 1 || q.Ranges[0].Range != "198.51.100.0/24" {
		t.Errorf("changed to %+v, %v", q, err)
	}
	if same, err := apply(mfa, office("198.51.100.0/24")); err != nil || same.Base != same.Revision {
		t.Errorf("in another order: %+v, %v", same, err)
	}
	for i, list := range [][]wire.Requirement{
		{{ID: "mfa", Kind: wire.PublicIP, Authority: "local"}, office("198.51.100.0/24")},
		{mfa, {ID: "office", Kind: wire.UserAuthentication}},
	} {
		var mistakes *store.SetError
		if _, err := apply(list...); !errors.As(err, &mistakes) || len(mistakes.Problems) != 1 || mistakes.Problems[0].Path != []string{"requirements[0].kind", "requirements[1].kind"}[i] {
			t.Errorf("another kind of %s: %v", list[i].ID, err)
		}
	}
	p := document("p")
	p.ID = "mfa"
	got, err := l.ApplySet(l.Ctx, l.C, wire.PolicySet{Policies: []wire.Policy{p}, Requirements: []wire.Requirement{mfa}}, time.Time{})
	if l.must(err); len(got.Created) != 1 || slices.Contains(got.Created, "mfa") {
		t.Errorf("a policy with the ID of a requirement: %+v", got)
	}
	_, err = l.Requirement(l.Ctx, "office")
	l.want(err, store.ErrNotFound) // what the set does not have is gone
}
