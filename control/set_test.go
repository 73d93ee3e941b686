package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

func (w *world) policySet() (set wire.PolicySet, version string) {
	w.t.Helper()
	return set, w.api("GET", "/policyset", nil, &set).Header.Get("ETag")
}

func policyNames(set wire.PolicySet) (list []string) {
	for _, p := range set.Policies {
		list = append(list, p.Name)
	}
	return list
}

func named(name string, from, to wire.Tag) wire.Policy {
	p := direct(from, to)
	p.Name = name
	return p
}

// TestApplyIsOneRevisionOrNone applies sets, watches the map, compares and restores.
func TestApplyIsOneRevisionOrNone(t *testing.T) {
	w := newWorld(t)
	_, _, fa, fb := pairOf(t, w)
	before, version := w.policySet()
	set := wire.PolicySet{
		Policies: []wire.Policy{named("q", "mesh", "mesh"), named("r", "mesh", "pods")},
		Tests:    []wire.Assertion{{Name: "ssh", From: "a", To: "b", Proto: wire.TCP, Port: 22, Allow: true}},
	}
	var got api.Applied
	w.api("POST", "/policyset", api.Apply{Set: set, Reason: "spring cleaning"}, &got)
	if got.Affected != 2 || got.Impact.GainedCount+got.Impact.LostCount != 0 || got.ConfirmBy != nil {
		t.Errorf("applied %+v", got) // another policy allows the same
	}
	if d := fa.delta(); d.Cause != "policyset.apply by root" || d.Revision != got.Revision {
		t.Errorf("delta %+v", d)
	}
	fb.delta()
	if st := waitFor(t, w, got.Revision); !st.Applied {
		t.Errorf("status %+v", st)
	}
	now, newer := w.policySet()
	if !slices.Equal(policyNames(now), []string{"q", "r"}) || newer == version || len(now.Tests) != 1 {
		t.Errorf("set %+v, version %s", now, newer)
	}
	// The document as it was read is what is in force: no revision.
	var again api.Applied
	w.api("POST", "/policyset", api.Apply{Set: now, ConfirmWithin: 60}, &again)
	if again.Revision != got.Revision || again.ConfirmBy != nil {
		t.Errorf("again %+v", again)
	}
	// If-Match names what was read.
	_, p := do(t, w.calls, "POST", "https://"+w.addr+"/api/v1/policyset",
		http.Header{"Authorization": {"Bearer " + string(w.token)}, "If-Match": {version}}, api.Apply{Set: before}, nil)
	if p == nil || p.Code != api.CodeStale {
		t.Errorf("stale: %+v", p)
	}

	var list api.Page[api.RevisionEntry]
	w.api("GET", "/revisions?limit=1", nil, &list)
	if len(list.Items) != 1 || list.Items[0].Revision != got.Revision || list.Items[0].Reason != "spring cleaning" || list.Next == "" {
		t.Fatalf("revisions %+v", list)
	}
	var older, all api.Page[api.RevisionEntry]
	w.api("GET", "/revisions?after="+list.Next, nil, &older)
	if len(older.Items) != 1 || older.Items[0].Action != "policy.create" {
		t.Errorf("older %+v", older)
	}
	if w.api("GET", "/revisions?all=true", nil, &all); len(all.Items) != int(got.Revision) {
		t.Errorf("%d of all at revision %d", len(all.Items), got.Revision)
	}
	then := older.Items[0].Revision
	var diff api.SetDiff
	w.api("GET", fmt.Sprintf("/revisions/%d/diff?to=%d", then, got.Revision), nil, &diff)
	var changes []string
	for _, c := range diff.Changes {
		changes = append(changes, c.Change+" "+c.Part+" "+c.Name)
	}
	if !slices.Equal(changes, []string{"added policy q", "added policy r", "removed policy p", "added tests "}) {
		t.Errorf("changes %v", changes)
	}
	var past wire.PolicySet
	w.api("GET", fmt.Sprintf("/policyset?revision=%d", then), nil, &past)
	var shown api.Revision
	w.api("GET", fmt.Sprintf("/revisions/%d", then), nil, &shown)
	if !slices.Equal(policyNames(past), []string{"p"}) || !slices.Equal(policyNames(shown.Set), []string{"p"}) || shown.Action != "policy.create" {
		t.Errorf("past %+v, %+v", past, shown)
	}
	w.api("POST", fmt.Sprintf("/revisions/%d/restore?reason=back", then), nil, nil)
	if back, _ := w.policySet(); !slices.Equal(policyNames(back), []string{"p"}) || back.Policies[0].ID != before.Policies[0].ID {
		t.Errorf("back %+v", back)
	}
	for _, path := range []string{"/revisions/9999", "/policyset?revision=9999", "/revisions/9999/diff"} {
		if _, p := w.tryAPI("GET", path, nil, nil); p == nil || p.Status != http.StatusNotFound {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// TestBadSetsAreRefusedWhole names every mistake and does nothing.
func TestBadSetsAreRefusedWhole(t *testing.T) {
	w := newWorld(t)
	w.api("POST", "/policies", direct("mesh", "mesh"), nil)
	w.api("PUT", "/requirements/mfa", wire.Requirement{ID: "mfa", Kind: wire.UserAuthentication, Authority: "local"}, nil)
	before, records := w.storeState()
	for name, c := range map[string]struct {
		body  string
		paths []string
	}{
		"meaning": {`{"set":{"policies":[
			{"name":"a","type":"direct","enabled":true,"sender_tags":["A b"],"receiver_tags":["x"],"acls":[{"protocol":"tcp","ports":"70000"}]},
			{"name":"b","type":"gateway","enabled":true,"sender_tags":["a"],"receiver_tags":["x"],"acls":[{"protocol":"icmp","ports":"22"}]},
			{"name":"c","type":"direct","enabled":"yes","sender_tags":["a"],"receiver_tags":["x"],"acls":[],"gateways":[{"system":"s","subnets":[]}],
			 "active_hours":{"tz":"Mars","days":["mon"],"start":"09:00","end":"09:00"}}],
			"tests":[{"from":"a","to":"b","protocol":"tcp","allow":true}]}}`,
			[]string{"policies[0].sender_tags[0]", "policies[0].acls[0].ports", "policies[2].enabled"}},
		"unknown":   {`{"set":{"policies":[],"polices":[]}}`, []string{"polices"}},
		"wrong":     {`{"set":[]}`, []string{""}},
		"past":      {`{"set":{"policies":[{"name":"a","type":"direct","enabled":true,"sender_tags":["a"],"receiver_tags":["x"],"acls":[],"expires_at":"2001-01-01T00:00:00Z"}]}}`, []string{"policies[0].expires_at"}},
		"kind":      {`{"set":{"policies":[],"requirements":[{"id":"mfa","kind":"public-ip","ranges":[{"range":"192.0.2.0/24"}]}]}}`, []string{"requirements[0].kind"}},
		"confirm":   {`{"set":{"policies":[]},"confirm_within_seconds":-1}`, []string{"confirm_within_seconds"}},
		"confirm 2": {`{"set":{"policies":[]},"confirm_within_seconds":9999999}`, []string{"confirm_within_seconds"}},
	} {
		for _, query := range []string{"", "?dry_run=true"} {
			_, p := w.tryAPI("POST", "/policyset"+query, []byte(c.body), nil)
			if p == nil || p.Code != api.CodeInvalid {
				t.Errorf("%s: %+v", name, p)
				continue
			}
			for _, path := range c.paths {
				if !slices.ContainsFunc(p.Problems, func(m wire.Problem) bool { return m.Path == path }) {
					t.Errorf("%s: nothing at %q in %v", name, path, p.Problems)
				}
			}
		}
	}
	for name, body := range map[string]string{
		"twice":   `{"set":{"policies":[],"policies":[]}}`,
		"deep":    `{"set":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`,
		"cut":     `{"set":{"policies":[`,
		"unknown": `{"set":{"policies":[]},"sets":1}`,
	} {
		if _, p := w.tryAPI("POST", "/policyset", []byte(body), nil); p == nil || p.Status/100 != 4 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if after, n := w.storeState(); n != records || len(after.Policies) != len(before.Policies) {
		t.Error("a refused set left traces")
	}
	// A set may be larger than other bodies.
	big := wire.PolicySet{Policies: []wire.Policy{}}
	for i := range 1500 {
		p := named(fmt.Sprintf("policy number %d", i), "mesh", "mesh")
		p.Notes = strings.Repeat("x", 100)
		big.Policies = append(big.Policies, p)
	}
	var got api.Applied
	w.api("POST", "/policyset", api.Apply{Set: big}, &got)
	if set, _ := w.policySet(); len(set.Policies) != 1500 {
		t.Errorf("%d policies", len(set.Policies))
	}
	if _, p := w.tryAPI("POST", "/policyset", []byte(`{"reason":"`+strings.Repeat("x", wire.MaxPolicySet)+`"}`), nil); p == nil || p.Code != api.CodeTooLarge {
		t.Errorf("too large: %+v", p)
	}
}

func TestUnconfirmedChangesRevert(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		_, _, fa, fb := pairOf(t, w)
		apply := func(within int) (got api.Applied) {
			t.Helper()
			w.api("POST", "/policyset", api.Apply{Set: wire.PolicySet{Policies: []wire.Policy{}}, ConfirmWithin: within}, &got)
			fa.delta()
			fb.delta()
			return got
		}
		began := time.Now()
		got := apply(300)
		if len(fa.Map.Peers) != 0 || got.ConfirmBy == nil || !got.ConfirmBy.Equal(began.Add(5*time.Minute)) || got.Impact.LostCount != 2 {
			t.Fatalf("applied %+v", got)
		}
		var st api.RevisionStatus
		w.api("GET", "/revision", nil, &st)
		if st.ConfirmBy == nil || !st.ConfirmBy.Equal(*got.ConfirmBy) {
			t.Errorf("status %+v", st)
		}
		if _, p := w.tryAPI("POST", "/policies", direct("mesh", "mesh"), nil); p == nil || p.Code != api.CodeConflict {
			t.Errorf("a change beside one that waits: %+v", p)
		}
		d := fa.delta() // hours pass in milliseconds
		fb.delta()
		if len(fa.Map.Peers) != 1 || time.Since(began) != 5*time.Minute || d.Cause != `policyset.revert "`+fmt.Sprint(got.Revision-1)+`" by confirm-within` {
			t.Errorf("reverted after %s, cause %q", time.Since(began), d.Cause)
		}
		set, _ := w.policySet()
		if !slices.Equal(policyNames(set), []string{"p"}) {
			t.Errorf("set %v", policyNames(set))
		}
		var list api.Page[api.RevisionEntry]
		w.api("GET", "/revisions?limit=1", nil, &list)
		if e := list.Items[0]; e.Author != "confirm-within" || e.Action != "policyset.revert" || e.Pending != nil {
			t.Errorf("entry %+v", e)
		}

		apply(300)
		w.api("POST", "/policyset/confirm?reason=fine", nil, nil)
		time.Sleep(10 * time.Minute)
		if set, _ := w.policySet(); len(set.Policies) != 0 {
			t.Error("a confirmed change was reverted")
		}
		if _, p := w.tryAPI("POST", "/policyset/confirm", nil, nil); p == nil || p.Code != api.CodeNotFound {
			t.Errorf("confirmed twice: %+v", p)
		}
	})
}

// TestRevertSurvivesARestart ends the server before the deadline and begins it after.
func TestRevertSurvivesARestart(t *testing.T) {
	w := newWorld(t)
	pairOf(t, w)
	w.api("POST", "/policyset", api.Apply{Set: wire.PolicySet{Policies: []wire.Policy{}}, ConfirmWithin: 3600}, nil)
	w.restart()
	if set, _ := w.policySet(); len(set.Policies) != 0 {
		t.Fatal("reverted before its time")
	}
	var st api.RevisionStatus
	if w.api("GET", "/revision", nil, &st); st.ConfirmBy == nil {
		t.Fatal("nothing waits")
	}
	// The same, as it was an hour ago, for half of it: the deadline passed while the
	// server was away.
	w.api("POST", "/revisions/"+fmt.Sprint(st.Revision-1)+"/restore", nil, nil)
	then := time.Now().Add(-time.Hour)
	if _, err := w.store.ApplySet(t.Context(), at(then), wire.PolicySet{}, then.Add(30*time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.restart()
	for { // the timer loop reverts at once; each change wakes this
		news := w.srv.hub.News()
		if set, _ := w.policySet(); slices.Equal(policyNames(set), []string{"p"}) {
			break
		}
		select {
		case <-news:
		case <-time.After(time.Minute):
			t.Fatal("it stands")
		}
	}
}

// TestPublicIPIsJudgedByWhereASystemConnectsFrom connects from loopback.
func TestPublicIPIsJudgedByWhereASystemConnectsFrom(t *testing.T) {
	table := filepath.Join(t.TempDir(), "countries.csv")
	if err := os.WriteFile(table, []byte("127.0.0.0/8,AQ\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config, _ *store.Settings) { c.CountryFile = table })
	office := wire.Requirement{ID: "office", Kind: wire.PublicIP, Ranges: []wire.RangeCondition{{Range: "127.0.0.0/8"}}}
	w.api("PUT", "/requirements/office", office, nil)
	w.api("PUT", "/tags/mesh", map[string]any{"trust": []string{"office"}}, nil)
	a, _, fa, fb := pairOf(t, w)
	for len(fa.Map.Peers) == 0 { // until b is there, too
		fa.delta()
	}
	for len(fb.Map.Peers) == 0 {
		fb.delta()
	}
	put := func(want int) {
		t.Helper()
		var got api.Impact
		w.api("PUT", "/requirements/office?dry_run=true", office, &got)
		if got.GainedCount+got.LostCount != 2 {
			t.Errorf("impact %+v", got)
		}
		w.api("PUT", "/requirements/office", office, nil)
		if d := fa.delta(); len(fa.Map.Peers) != want || d.Cause != `requirement.set "office" by root` {
			t.Errorf("%d peers, cause %q", len(fa.Map.Peers), d.Cause)
		}
		fb.delta()
	}
	office.Ranges = append(office.Ranges, wire.RangeCondition{Range: "127.0.0.1", Blocked: true})
	put(0)
	office.Ranges = nil
	office.Countries = []wire.CountryCondition{{Country: "AQ"}}
	put(1)
	office.Countries[0].Blocked = true
	put(0)
	office.Countries[0].Blocked = false
	put(1)
	// Nobody vouches for an address.
	if _, p := w.tryAPI("PUT", "/systems/a/trust/office", nil, nil); p == nil || p.Code != api.CodeConflict {
		t.Errorf("marked: %+v", p)
	}
	// Off line it counts a little longer, and its peers know until when.
	a.c.CloseIdleConnections()
	fa.body.Close()
	fb.delta()
	g := fb.Map.Peers[0].Grants[0]
	if left := time.Until(g.NotAfter); left <= 0 || left > lookedAway {
		t.Errorf("the grant ends in %s", left)
	}
	_, p := w.tryAPI("PUT", "/requirements/office", wire.Requirement{ID: "office", Kind: wire.UserAuthentication, Authority: "local"}, nil)
	if p == nil || p.Code != api.CodeInvalid || p.Problems[0].Path != "kind" {
		t.Errorf("another kind: %+v", p)
	}
	if _, p := w.tryAPI("DELETE", "/requirements/office", nil, nil); p == nil || p.Code != api.CodeConflict {
		t.Errorf("removed while in use: %+v", p)
	}
}

// TestClaimsMeetTheirConditions marks a sign-in with its claims.
func TestClaimsMeetTheirConditions(t *testing.T) {
	w := newWorld(t)
	q := wire.Requirement{ID: "staff", Kind: wire.UserAuthentication, Authority: "https://id.example", Claims: []wire.ClaimCondition{{Claim: "groups", Value: "staff"}}}
	w.api("PUT", "/requirements/staff", q, nil)
	_, _, fa, fb := pairOf(t, w)
	p := direct("mesh", "mesh")
	p.SenderTrust = []string{"staff"}
	w.api("PUT", "/policies/p", p, nil)
	fa.delta()
	fb.delta()
	if len(fa.Map.Peers) != 0 {
		t.Fatal("it counts without trust")
	}
	mark := func(claims any) *api.Problem {
		_, p := w.tryAPI("PUT", "/systems/a/trust/staff", map[string]any{"claims": claims}, nil)
		return p
	}
	for name, claims := range map[string]any{"none": nil, "other": map[string]any{"groups": "guests"}, "others": map[string]any{"groups": []string{"a", "b"}, "staff": "groups"}} {
		if p := mark(claims); p == nil || p.Code != api.CodeInvalid || p.Problems[0].Path != "claims" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := mark(map[string]any{"groups": 7}); p == nil || p.Status/100 != 4 {
		t.Errorf("odd: %+v", p)
	}
	if p := mark(map[string]any{"groups": []string{"x", "staff"}, "email": "a@example.com"}); p != nil {
		t.Fatal(p)
	}
	fa.delta()
	fb.delta()
	if len(fa.Map.Peers) != 1 {
		t.Fatal("met, and it does not count")
	}
	var log api.Page[api.Activity]
	w.api("GET", "/activity?limit=1000", nil, &log)
	if last := log.Items[len(log.Items)-1]; !strings.Contains(last.Detail, "email") || strings.Contains(last.Detail, "example.com") {
		t.Errorf("record %s", last.Detail)
	}
	// The sign-in is judged again when the conditions change.
	q.Claims = append(q.Claims, wire.ClaimCondition{Claim: "email", Value: "b@example.com"})
	w.api("PUT", "/requirements/staff", q, nil)
	fa.delta()
	if fb.delta(); len(fa.Map.Peers) != 0 {
		t.Error("it counts by conditions that it does not meet")
	}
}

// TestUnmanagedSystemsAddEachOther needs both, and ends with the first tag.
func TestUnmanagedSystemsAddEachOther(t *testing.T) {
	w := newWorld(t)
	key := w.key(automatic())
	a, b := w.machine(), w.machine()
	a.enrol(key.Secret, "a")
	b.enrol(key.Secret, "b")
	fa := a.stream()
	w.api("PUT", "/systems/a/adds/b", nil, nil)
	w.api("PUT", "/systems/b/adds/a", nil, nil)
	if fa.delta(); len(fa.Map.Peers) != 1 {
		t.Fatal("they added each other")
	}
	var got api.Impact
	w.api("POST", "/systems/b/tags?dry_run=true", map[string]any{"add": []string{"x"}}, &got)
	if len(got.Forgotten) != 1 {
		t.Errorf("impact %+v", got)
	}
	w.api("DELETE", "/systems/b/adds/a", nil, nil)
	if fa.delta(); len(fa.Map.Peers) != 0 {
		t.Error("one took it back")
	}
}
