package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

// set reads the policy set in force.
func (l *Lab) set() (wire.PolicySet, wire.Revision) {
	l.T.Helper()
	set, rev, err := l.PolicySet(l.Ctx)
	l.must(err)
	return set, rev
}

func (l *Lab) same(what string, got, want any) {
	l.T.Helper()
	a, err := json.Marshal(got)
	l.must(err)
	b, err := json.Marshal(want)
	l.must(err)
	if string(a) != string(b) {
		l.T.Fatalf("%s:\ngot  %.2000s\nwant %.2000s", what, a, b)
	}
}

// testHistory makes 1,000 changes of every kind and rebuilds a seventh of the revisions.
func testHistory(t *testing.T, l *Lab) {
	r := rand.New(rand.NewPCG(1, 2))
	kept := map[wire.Revision]wire.PolicySet{}
	note := func() {
		set, rev := l.set()
		kept[rev] = set
	}
	note()
	var ids []wire.PolicyID
	for i := range 1000 {
		var err error
		switch n := r.IntN(10); {
		case n < 4 || len(ids) == 0:
			var p store.Policy
			p, _, err = l.CreatePolicy(l.Ctx, l.at(time.Duration(i)), document(fmt.Sprintf("new %d", i)))
			ids = append(ids, p.ID)
		case n < 6:
			doc := document(fmt.Sprintf("p%d", i))
			_, err = l.UpdatePolicy(l.Ctx, l.C, ids[r.IntN(len(ids))], doc)
		case n < 7:
			_, err = l.SetPolicyEnabled(l.Ctx, l.C, ids[r.IntN(len(ids))], r.IntN(2) == 0)
		case n < 8:
			at := r.IntN(len(ids))
			_, err = l.DeletePolicy(l.Ctx, l.C, ids[at])
			ids = slices.Delete(ids, at, at+1)
		case n < 9:
			_, err = l.SetTag(l.Ctx, l.C, wire.Tag(fmt.Sprintf("t%d", r.IntN(5))), store.TagSettings{Trust: []string{"mfa", "disk"}[:r.IntN(3)]})
		default:
			_, err = l.SetTests(l.Ctx, l.C, slices.Repeat([]wire.Assertion{{From: "a", To: "b", Proto: wire.Any}}, r.IntN(3)))
			if i%2 == 0 {
				_, _, err = l.PutRequirement(l.Ctx, l.C, wire.Requirement{ID: "mfa", Kind: wire.UserAuthentication, Description: fmt.Sprint(i)})
			}
		}
		l.must(err)
		if i%7 == 0 {
			note()
		}
	}
	for rev, want := range kept {
		got, err := l.PolicySetAt(l.Ctx, rev)
		l.must(err)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("revision %d is another now", rev)
		}
	}
	_, now := l.set()
	_, err := l.PolicySetAt(l.Ctx, now+1)
	l.want(err, store.ErrNotFound)
	_, err = l.PolicySetAt(l.Ctx, 0)
	l.want(err, store.ErrNotFound)

	// Every revision has its author, none twice, newest first.
	list, err := l.Revisions(l.Ctx, store.RevisionQuery{Limit: 1000})
	l.must(err)
	more, err := l.Revisions(l.Ctx, store.RevisionQuery{Before: list[len(list)-1].Revision})
	l.must(err)
	list = append(list, more...)
	if wire.Revision(len(list)) != now {
		t.Fatalf("%d entries at revision %d", len(list), now)
	}
	for i, e := range list {
		if e.Revision != now-wire.Revision(i) || e.Actor == "" || e.Action == "" {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
	for _, rev := range []wire.Revision{1, now / 2, now} {
		if e, err := l.FindRevision(l.Ctx, rev); err != nil || e.Revision != rev {
			t.Errorf("revision %d is %+v, %v", rev, e, err)
		}
	}
	_, err = l.FindRevision(l.Ctx, now+1)
	l.want(err, store.ErrNotFound)

	// What was is there again, IDs included.
	old, err := l.PolicySetAt(l.Ctx, now/2)
	l.must(err)
	_, err = l.Restore(l.Ctx, l.C, now/2)
	l.must(err)
	got, _ := l.set()
	slices.SortFunc(old.Policies, byID)
	slices.SortFunc(got.Policies, byID)
	for i := range old.Policies {
		l.same("restored", got.Policies[i], old.Policies[i])
	}
	l.same("restored", got, old)
}

func byID(a, b wire.Policy) int {
	if a.ID < b.ID {
		return -1
	}
	return 1
}

func testReason(t *testing.T, l *Lab) {
	sys := l.System("box")
	c := l.C
	c.Reason = `because of "ticket 7"`
	p, rev, err := l.CreatePolicy(l.Ctx, c, document("night"))
	l.must(err)
	sysRev, err := l.SetEnabled(l.Ctx, c, sys.ID, false)
	l.must(err)
	l.must(l.Record(l.Ctx, c, "x.y", "z", []int{1}))
	e, err := l.FindRevision(l.Ctx, rev)
	l.must(err)
	if e.Actor != l.C.By || e.Action != "policy.create" || e.Object != "policy:"+string(p.ID) || e.Reason != c.Reason || !e.At.Equal(start) {
		t.Errorf("entry %+v", e)
	}
	if sets, err := l.Revisions(l.Ctx, store.RevisionQuery{Sets: true}); err != nil || len(sets) != 1 || sets[0].Revision != rev {
		t.Errorf("sets %+v, %v", sets, err)
	}
	if all, err := l.Revisions(l.Ctx, store.RevisionQuery{After: rev}); err != nil || len(all) != 1 || all[0].Revision != sysRev {
		t.Errorf("after %+v, %v", all, err)
	}
	list, err := l.Audit(l.Ctx, store.AuditQuery{})
	l.must(err)
	for _, a := range list[len(list)-3:] {
		var detail struct {
			Reason string
			Detail []int
		}
		if err := json.Unmarshal([]byte(a.Clear), &detail); err != nil || detail.Reason != c.Reason || (a.Action == "x.y") != (len(detail.Detail) == 1) {
			t.Errorf("%s: detail %s, %v", a.Action, a.Clear, err)
		}
	}
	c.Reason = string(make([]byte, wire.MaxNotesLen+1))
	if _, err := l.SetEnabled(l.Ctx, c, sys.ID, true); err == nil {
		t.Error("a reason beyond measure")
	}
}

func testApplySet(t *testing.T, l *Lab) {
	a, _, err := l.CreatePolicy(l.Ctx, l.C, document("a"))
	l.must(err)
	b, _, err := l.CreatePolicy(l.Ctx, l.at(1), document("b"))
	l.must(err)
	_, err = l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{Trust: []string{"mfa"}, Notes: "people"})
	l.must(err)
	log, err := l.Audit(l.Ctx, store.AuditQuery{})
	l.must(err)
	if last := log[len(log)-1]; last.Action != "tag.set" || !strings.Contains(last.Clear, `{"explicit":false,"notes":"people","trust":["mfa"]}`) {
		t.Errorf("recorded %s %s", last.Action, last.Clear)
	}
	before, base := l.set()

	want := wire.PolicySet{
		Policies:     []wire.Policy{document("a"), document("c")},
		Requirements: []wire.Requirement{{ID: "mfa", Kind: wire.UserAuthentication, Authority: "local"}},
		Tags:         []wire.TagTrust{{Name: "pod", Trust: []string{"mfa", "disk"}}},
		Tests:        []wire.Assertion{{Name: "x", From: "tag:dev", To: "tag:pod", Proto: wire.TCP, Port: 22, Allow: true}},
	}
	want.Policies[0].Notes = "changed"
	got, err := l.ApplySet(l.Ctx, l.C, want, time.Time{})
	l.must(err)
	if got.Base != base || got.Revision != base+1 || !slices.Equal(got.Changed, []wire.PolicyID{a.ID}) ||
		!slices.Equal(got.Removed, []wire.PolicyID{b.ID}) || len(got.Created) != 1 || len(got.Policies()) != 3 {
		t.Errorf("applied %+v", got)
	}
	now, _ := l.set()
	want.Policies[0].ID, want.Policies[1].ID = a.ID, got.Created[0]
	want.Tags[0].Trust = []string{"disk", "mfa"}
	l.same("set", now, want)
	if tags := l.tags(); tags["dev"].Notes != "people" || len(tags["dev"].Trust) != 0 {
		t.Errorf("tags %+v", tags)
	}

	// What is asked of one tag changes, and nothing of another.
	want.Tags = append(want.Tags, wire.TagTrust{Name: "crew", Trust: []string{"disk"}})
	_, err = l.ApplySet(l.Ctx, l.C, want, time.Time{})
	l.must(err)
	if tags := l.tags(); !slices.Equal(tags["crew"].Trust, []string{"disk"}) || !slices.Equal(tags["pod"].Trust, []string{"disk", "mfa"}) {
		t.Errorf("tags %+v", tags)
	}
	want.Tags = want.Tags[:1]
	got, err = l.ApplySet(l.Ctx, l.C, want, time.Time{})
	l.must(err)
	if tags := l.tags(); len(tags["crew"].Trust) != 0 || !slices.Equal(tags["pod"].Trust, []string{"disk", "mfa"}) {
		t.Errorf("tags %+v", tags)
	}
	rev := got.Revision

	// The same once more is no revision and no record.
	_, n := l.state()
	if again, err := l.ApplySet(l.Ctx, l.C, want, start.Add(time.Hour)); err != nil || again.Revision != rev || again.Base != rev {
		t.Errorf("again %+v, %v", again, err)
	}
	if rev2, n2 := l.state(); rev2 != rev || n2 != n {
		t.Error("applying what is in force left traces")
	}

	// One mistake and nothing of it happens.
	for name, spoil := range map[string]func(*wire.PolicySet){
		"kind":      func(s *wire.PolicySet) { s.Requirements[0].Kind = wire.PublicIP },
		"authority": func(s *wire.PolicySet) { s.Requirements[0].Authority = "https://other.example" },
		"twice":     func(s *wire.PolicySet) { s.Requirements = append(s.Requirements, s.Requirements[0]) },
		"tag twice": func(s *wire.PolicySet) { s.Tags = append(s.Tags, s.Tags[0]) },
		"tag":       func(s *wire.PolicySet) { s.Policies[0].SenderTags = []wire.Tag{"Bad"} },
	} {
		var bad wire.PolicySet
		text, _ := json.Marshal(want)
		l.must(json.Unmarshal(text, &bad))
		bad.Policies = bad.Policies[1:]
		bad.Policies[0].Name = "d"
		spoil(&bad)
		if _, err := l.ApplySet(l.Ctx, l.C, bad, time.Time{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if rev2, n2 := l.state(); rev2 != rev || n2 != n {
			t.Fatalf("%s: left traces", name)
		}
	}
	var mistakes *store.SetError
	bad := want
	bad.Requirements = []wire.Requirement{{ID: "mfa", Kind: wire.PublicIP}}
	if _, err := l.ApplySet(l.Ctx, l.C, bad, time.Time{}); !errors.As(err, &mistakes) || len(mistakes.Problems) != 2 || mistakes.Problems[0].Path != "requirements[0].kind" {
		t.Errorf("mistakes %v", err)
	}

	// Back, with the policy that was removed under its old ID; a rename keeps the ID. Names
	// are no part of a set: what was made of them since stays.
	_, err = l.PutZone(l.Ctx, l.C, wire.Zone{Name: "corp.test"}, true)
	l.must(err)
	_, err = l.Restore(l.Ctx, l.C, base)
	l.must(err)
	if d, err := l.DNS(l.Ctx); err != nil || len(d.Zones) != 1 {
		t.Errorf("the restore left %d zones, %v", len(d.Zones), err)
	}
	back, _ := l.set()
	l.same("restored", back, before)
	back.Policies[0].Name = "renamed"
	got, err = l.ApplySet(l.Ctx, l.C, back, time.Time{})
	if l.must(err); !slices.Equal(got.Changed, []wire.PolicyID{a.ID}) || len(got.Created)+len(got.Removed) != 0 {
		t.Errorf("renamed %+v", got)
	}
	// An ID of another organisation means nothing here.
	foreign := document("foreign")
	foreign.ID = "someone-else"
	got, err = l.ApplySet(l.Ctx, l.C, wire.PolicySet{Policies: []wire.Policy{foreign}}, time.Time{})
	if l.must(err); len(got.Created) != 1 || got.Created[0] == foreign.ID || len(got.Removed) != 2 {
		t.Errorf("foreign %+v", got)
	}
}

func testPending(t *testing.T, l *Lab) {
	p, _, err := l.CreatePolicy(l.Ctx, l.C, document("a"))
	l.must(err)
	before, base := l.set()
	next := wire.PolicySet{Policies: []wire.Policy{document("b")}}
	deadline := start.Add(time.Minute)
	_, err = l.Confirm(l.Ctx, l.C)
	l.want(err, store.ErrNotFound)
	_, err = l.ApplySet(l.Ctx, l.C, next, start)
	l.want(err, store.ErrConflict)
	got, err := l.ApplySet(l.Ctx, l.C, next, deadline)
	l.must(err)
	wait, ok, err := l.Pending(l.Ctx)
	if l.must(err); !ok || wait != (store.Pending{Revision: got.Revision, Base: base, Deadline: deadline}) {
		t.Errorf("pending %+v", wait)
	}
	if e, err := l.FindRevision(l.Ctx, got.Revision); err != nil || !e.Deadline.Equal(deadline) {
		t.Errorf("entry %+v, %v", e, err)
	}

	// Nobody else changes the set meanwhile, because it would be undone with it. Expiry
	// actions run, and systems are another matter.
	rev, n := l.state()
	_, _, err = l.CreatePolicy(l.Ctx, l.C, document("x"))
	l.want(err, store.ErrConflict)
	_, err = l.DeletePolicy(l.Ctx, l.C, got.Created[0])
	l.want(err, store.ErrConflict)
	_, err = l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{Trust: []string{"mfa"}})
	l.want(err, store.ErrConflict)
	_, err = l.SetTests(l.Ctx, l.C, []wire.Assertion{{Proto: wire.Any}})
	l.want(err, store.ErrConflict)
	_, _, err = l.PutRequirement(l.Ctx, l.C, wire.Requirement{ID: "mfa", Kind: wire.PublicIP})
	l.want(err, store.ErrConflict)
	_, err = l.ApplySet(l.Ctx, l.C, before, time.Time{})
	l.want(err, store.ErrConflict)
	if rev2, n2 := l.state(); rev2 != rev || n2 != n {
		t.Error("a refused change left traces")
	}
	_, err = l.SetPolicyEnabled(l.Ctx, store.Change{By: store.Expiry, At: start}, got.Created[0], false)
	l.must(err)
	l.System("box")

	early := store.Change{By: store.ConfirmWithin, At: deadline.Add(-1)}
	if _, done, err := l.Revert(l.Ctx, early); done || err != nil {
		t.Errorf("reverted early: %v", err)
	}
	late := store.Change{By: store.ConfirmWithin, At: deadline}
	_, err = l.Confirm(l.Ctx, late)
	l.want(err, store.ErrConflict)
	undone, done, err := l.Revert(l.Ctx, late)
	if l.must(err); !done || !slices.Equal(undone.Created, []wire.PolicyID{p.ID}) {
		t.Errorf("reverted %v: %+v", done, undone)
	}
	now, _ := l.set()
	l.same("reverted", now, before)
	if _, done, err := l.Revert(l.Ctx, late); done || err != nil {
		t.Errorf("reverted twice: %v", err)
	}

	// Confirmed, it stays; restored, it is settled.
	_, err = l.ApplySet(l.Ctx, l.C, next, deadline)
	l.must(err)
	confirmed, err := l.Confirm(l.Ctx, l.C)
	l.must(err)
	if _, done, err := l.Revert(l.Ctx, late); done || err != nil {
		t.Errorf("a confirmed change was reverted: %v", err)
	}
	_, err = l.ApplySet(l.Ctx, l.C, before, deadline)
	l.must(err)
	_, err = l.Restore(l.Ctx, l.C, confirmed)
	l.must(err)
	if _, ok, _ := l.Pending(l.Ctx); ok {
		t.Error("a restored set waits for a confirmation")
	}
}

// testTry makes changes that do not stay.
func testTry(t *testing.T, l *Lab) {
	sys := l.System("box", "dev")
	p, _, err := l.CreatePolicy(l.Ctx, l.C, document("night"))
	l.must(err)
	before, err := l.Snapshot(l.Ctx)
	l.must(err)
	rev, n := l.state()
	stop := errors.New("stop")
	for _, end := range []error{nil, stop} {
		err := l.Try(l.Ctx, func(ctx context.Context) error {
			at, err := l.SetPolicyEnabled(ctx, l.C, p.ID, false)
			l.must(err)
			if got, err := l.Store.Policy(ctx, p.ID); err != nil || got.Enabled || got.Version != at || at != rev+1 {
				t.Errorf("in the trial: %+v, %v", got, err)
			}
			if got, err := l.Store.Policy(l.Ctx, p.ID); err != nil || !got.Enabled {
				t.Errorf("beside it: %+v, %v", got, err)
			}
			// Refused, a change leaves nothing also within.
			_, err = l.AddTags(ctx, l.C, sys.ID, manyTags(wire.MaxTagsPerSystem)...)
			l.want(err, store.ErrConflict)
			if got, err := l.Store.System(ctx, sys.ID); err != nil || len(got.Tags) != 1 {
				t.Errorf("after a refusal: %v, %v", got.Tags, err)
			}
			if now, err := l.Revision(ctx); err != nil || now != at {
				t.Errorf("revision %d, %v", now, err)
			}
			_, err = l.ApplySet(ctx, l.C, wire.PolicySet{}, start.Add(time.Hour))
			l.must(err)
			l.must(l.SetSeen(ctx, sys.ID, start, 7))
			return l.Try(ctx, func(context.Context) error { return end })
		})
		l.want(err, end)
	}
	after, err := l.Snapshot(l.Ctx)
	l.must(err)
	if rev2, n2 := l.state(); rev2 != rev || n2 != n || !reflect.DeepEqual(before, after) {
		t.Errorf("a trial left traces: %+v, before %+v", after, before)
	}
}

func manyTags(n int) (tags []wire.Tag) {
	for i := range n {
		tags = append(tags, wire.Tag(fmt.Sprintf("t%d", i)))
	}
	return tags
}

func testRequirements(t *testing.T, l *Lab) {
	doc := wire.Requirement{ID: "office", Kind: wire.PublicIP, Ranges: []wire.RangeCondition{{Range: "192.0.2.0/24"}}}
	q, created, err := l.PutRequirement(l.Ctx, l.C, doc)
	if l.must(err); !created || !reflect.DeepEqual(q.Requirement, doc) {
		t.Errorf("made %+v", q)
	}
	c := l.C
	c.IfMatch = q.Version
	doc.Ranges[0].Blocked = true
	q, created, err = l.PutRequirement(l.Ctx, c, doc)
	if l.must(err); created {
		t.Error("made twice")
	}
	_, _, err = l.PutRequirement(l.Ctx, c, doc)
	l.want(err, store.ErrStale)
	_, err = l.DeleteRequirement(l.Ctx, c, "office")
	l.want(err, store.ErrStale)
	doc.Kind, doc.Authority = wire.UserAuthentication, "local"
	_, _, err = l.PutRequirement(l.Ctx, l.C, doc)
	var mistakes *store.SetError
	if l.want(err, store.ErrConflict); !errors.As(err, &mistakes) || len(mistakes.Problems) != 2 || mistakes.Problems[1].Path != "authority" {
		t.Errorf("mistakes %v", err)
	}
	if got, err := l.Store.Requirement(l.Ctx, "office"); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("read %+v, %v; made %+v", got, err, q)
	}
	_, err = l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{Trust: []string{"office"}})
	l.must(err)
	_, err = l.DeleteRequirement(l.Ctx, l.C, "office")
	l.want(err, store.ErrConflict)
	_, err = l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{})
	l.must(err)
	_, err = l.DeleteRequirement(l.Ctx, l.C, "office")
	l.must(err)
	_, err = l.DeleteRequirement(l.Ctx, l.C, "office")
	l.want(err, store.ErrNotFound)
	if list, err := l.Requirements(l.Ctx); err != nil || len(list) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
	_, _, err = l.PutRequirement(l.Ctx, l.C, wire.Requirement{ID: "Not a name"})
	l.want(err, wire.ErrBadTag)
}

func testAdds(t *testing.T, l *Lab) {
	a, b := l.System("a"), l.System("b")
	_, err := l.SetAdd(l.Ctx, l.C, a.ID, b.ID, true)
	l.must(err)
	_, err = l.SetAdd(l.Ctx, l.C, a.ID, b.ID, true)
	l.must(err)
	if got := l.read(a.ID).Adds; !slices.Equal(got, []wire.SystemID{b.ID}) || len(l.read(b.ID).Adds) != 0 {
		t.Errorf("adds %v", got)
	}
	_, err = l.SetAdd(l.Ctx, l.C, a.ID, a.ID, true)
	l.want(err, store.ErrConflict)
	_, err = l.SetAdd(l.Ctx, l.C, a.ID, "zzzzz", true)
	l.want(err, store.ErrNotFound)
	_, err = l.SetAdd(l.Ctx, l.C, b.ID, a.ID, false)
	l.want(err, store.ErrNotFound)
	_, err = l.DeleteSystem(l.Ctx, l.C, b.ID)
	l.must(err)
	if got := l.read(a.ID).Adds; len(got) != 0 {
		t.Errorf("adds of a system that is gone: %v", got)
	}
}

// testRenameKeepsTests renames a tag that tests and tag trust name.
func testRenameKeepsTests(t *testing.T, l *Lab) {
	_, err := l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{Trust: []string{"mfa"}})
	l.must(err)
	_, err = l.SetTests(l.Ctx, l.C, []wire.Assertion{{From: "tag:dev", To: "tag:pod", Proto: wire.TCP, Port: 22}, {From: "dev", To: "tag:devs", Proto: wire.Any}})
	l.must(err)
	_, err = l.RenameTag(l.Ctx, l.C, "dev", "engineer")
	l.must(err)
	set, rev := l.set()
	l.same("tests", set.Tests, []wire.Assertion{{From: "tag:engineer", To: "tag:pod", Proto: wire.TCP, Port: 22}, {From: "dev", To: "tag:devs", Proto: wire.Any}})
	l.same("tags", set.Tags, []wire.TagTrust{{Name: "engineer", Trust: []string{"mfa"}}})
	old, err := l.PolicySetAt(l.Ctx, rev-1)
	l.must(err)
	l.same("before", old.Tags, []wire.TagTrust{{Name: "dev", Trust: []string{"mfa"}}})
}
