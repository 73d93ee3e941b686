package control

import (
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// storeState is what no dry run may change.
func (w *world) storeState() (snap store.Snapshot, records int64) {
	w.t.Helper()
	snap, err := w.store.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range snap.Systems {
		snap.Systems[i].Live = store.Live{}
	}
	records, err = w.store.LastRecord(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return snap, records
}

// TestDryRunsChangeNothing asks every change for its impact first.
func TestDryRunsChangeNothing(t *testing.T) {
	w := newWorld(t)
	a, b, fa, fb := pairOf(t, w)
	w.api("PUT", "/tags/mesh", map[string]any{"notes": "n"}, nil)
	for _, f := range []*feed{fa, fb} { // nobody is asked for flows
		f.body.Close()
		for _, on := w.srv.hub.Live(f.m.id); on; _, on = w.srv.hub.Live(f.m.id) {
			runtime.Gosched()
		}
	}
	before, records := w.storeState()
	pairs := w.srv.hub.engine.Pairs(a.id, time.Now(), time.Now())
	set := wire.PolicySet{Policies: []wire.Policy{}}
	for _, c := range []struct {
		method, path string
		in           any
		gained, lost int
	}{
		{"POST", "/policies", named("pods", "mesh", "pods"), 0, 0},
		{"POST", "/policies", func() wire.Policy { p := named("all", "mesh", "mesh"); p.ACLs[0].Ports = nil; return p }(), 2, 0},
		{"PUT", "/policies/p", func() wire.Policy {
			p := direct("mesh", "mesh")
			p.ACLs[0].Ports[0] = wire.PortRange{Lo: 80, Hi: 80}
			return p
		}(), 2, 2},
		{"POST", "/policies/p/disable", nil, 0, 2},
		{"DELETE", "/policies/p", nil, 0, 2},
		{"POST", "/systems/a/tags", map[string]any{"remove": []string{"mesh"}}, 0, 2},
		{"POST", "/systems/a/disable", nil, 0, 2},
		{"POST", "/systems/a/revoke", nil, 0, 2},
		{"DELETE", "/systems/a", nil, 0, 2},
		{"PATCH", "/systems/a", map[string]any{"name": "c"}, 0, 0},
		{"PUT", "/tags/mesh", map[string]any{"trust": []string{"mfa"}}, 0, 2},
		{"POST", "/tags/mesh/rename", map[string]any{"name": "net"}, 0, 0},
		{"PUT", "/systems/a/trust/mfa", nil, 0, 0},
		{"PUT", "/systems/a/adds/b", nil, 0, 0},
		{"PUT", "/requirements/mfa", wire.Requirement{ID: "mfa", Kind: wire.UserAuthentication, Authority: "local"}, 0, 0},
		{"PUT", "/tests", map[string]any{"tests": []wire.Assertion{{From: "a", To: "b", Proto: wire.TCP, Port: 22, Allow: true}}}, 0, 0},
		{"POST", "/policyset", api.Apply{Set: set}, 0, 2},
		{"POST", "/revisions/1/restore", nil, 0, 2},
	} {
		var got api.Impact
		w.api(c.method, c.path+"?dry_run=true", c.in, &got)
		if got.GainedCount != c.gained || got.LostCount != c.lost || len(got.Lost) != got.LostCount || got.At.IsZero() {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
		if c.lost > 0 && c.gained == 0 && (len(got.Forgotten) != 1 || got.Lost[0].Names[0] == "") {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
		if q := got.Asked; q == nil || (q.Concerned > 0) != (c.lost > 0) || q.Asked != 0 || (q.Gap() != "") != (c.lost > 0) {
			t.Errorf("%s %s: nobody was asked for flows, and it says %+v", c.method, c.path, q)
		}
		after, n := w.storeState()
		if n != records || !reflect.DeepEqual(before, after) {
			t.Fatalf("%s %s changed the store", c.method, c.path)
		}
		if now := w.srv.hub.engine.Pairs(a.id, time.Now(), time.Now()); !reflect.DeepEqual(now, pairs) {
			t.Fatalf("%s %s changed the engine", c.method, c.path)
		}
	}
	// A dry run is refused like the change.
	if _, p := w.tryAPI("DELETE", "/policies/none?dry_run=true", nil, nil); p == nil || p.Status != http.StatusNotFound {
		t.Errorf("%+v", p)
	}
	if _, p := w.tryAPI("POST", "/systems/a/approve?dry_run=true", nil, nil); p == nil || p.Code != api.CodeConflict {
		t.Errorf("%+v", p)
	}
	_ = b
}

// TestDryRunsNameTheFlowsTheyWouldCut plays the agents' part: each answers the question
// that comes down its stream, in a bubble, where nobody is too slow for it.
func TestDryRunsNameTheFlowsTheyWouldCut(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		a, b, fa, fb := pairOf(t, w)
		ip := func(m *machine, port uint16) netip.AddrPort {
			s, err := w.store.System(t.Context(), m.id)
			if err != nil {
				t.Fatal(err)
			}
			return netip.AddrPortFrom(s.IPv4, port)
		}
		since := time.Now().UTC()
		flow := func(from, to *machine, port uint16, inbound bool) wire.ReportedFlow {
			return wire.ReportedFlow{Flow: wire.Flow{Proto: wire.TCP, Src: ip(from, 40000), Dst: ip(to, port)}, Peer: from.id, Inbound: inbound, Since: since, Bytes: 9}
		}
		answer := func(f *feed, flows ...wire.ReportedFlow) {
			for {
				msg := f.next()
				if msg.Ask == nil {
					continue
				}
				if p := f.m.call("POST", wire.PathFlows, wire.FlowReport{ID: "other", Flows: flows}, nil); p != nil {
					t.Error(p)
				}
				if p := f.m.call("POST", wire.PathFlows, wire.FlowReport{ID: msg.Ask.ID, Flows: flows}, nil); p != nil {
					t.Error(p)
				}
				return
			}
		}
		ask := func(method, path string, in, out any) {
			t.Helper()
			done := make(chan struct{})
			go func() {
				defer close(done)
				answer(fa, flow(a, b, 22, false))
				answer(fb, flow(a, b, 22, true), flow(a, b, 23, true))
			}()
			w.api(method, path, in, out)
			<-done
		}
		var got api.Impact
		ask("POST", "/policies/p/disable?dry_run=true", nil, &got)
		if len(got.Flows) != 1 || got.Flows[0].From != a.id || got.Flows[0].To != b.id || got.Flows[0].Dst.Port() != 22 || got.Flows[0].Bytes != 9 {
			t.Errorf("flows %+v", got.Flows) // not the one on port 23, which nothing allows now either
		}
		if q := got.Asked; q == nil || *q != (api.Asked{Concerned: 2, Asked: 2, Answered: 2}) || q.Gap() != "" {
			t.Errorf("both were asked and both answered, and it says %+v", q)
		}
		var live api.Page[api.LiveFlow]
		ask("GET", "/flows", nil, &live)
		if len(live.Items) != 2 {
			t.Errorf("flows %+v", live.Items)
		}
		// What another policy allows stays.
		other := direct("mesh", "mesh")
		other.Name, other.ACLs[0].Ports = "q", wire.Ports{{Lo: 1, Hi: 100}}
		w.api("POST", "/policies", other, nil)
		fa.delta()
		fb.delta()
		w.api("POST", "/policies/p/disable?dry_run=true", nil, &got)
		if len(got.Flows) != 0 {
			t.Errorf("flows %+v", got.Flows)
		}
		flows := slices.Repeat([]wire.ReportedFlow{flow(a, b, 1, true)}, wire.MaxReportedFlows+1)
		if p := a.call("POST", wire.PathFlows, wire.FlowReport{ID: "x", Flows: flows}, nil); p == nil {
			t.Error("a report beyond measure")
		}
	})
}

func TestSilentAgentsDelayADryRunByTwoSeconds(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		pairOf(t, w)
		began := time.Now()
		var got api.Impact
		w.api("POST", "/policies/p/disable?dry_run=true", nil, &got)
		if q := got.Asked; q == nil || *q != (api.Asked{Concerned: 2, Asked: 2}) || q.Gap() == "" {
			t.Errorf("none answered, and it says %+v", q)
		}
		if took := time.Since(began); took < askFor || took > askFor+time.Second {
			t.Errorf("it took %s", took)
		}
		began = time.Now()
		w.api("POST", "/policies/p/disable", nil, nil)
		if took := time.Since(began); took > time.Second {
			t.Errorf("the change itself took %s", took)
		}
	})
}

func TestTestsGuardChanges(t *testing.T) {
	w := newWorld(t)
	pairOf(t, w)
	tests := []wire.Assertion{
		{Name: "ssh", From: "a", To: "b", Proto: wire.TCP, Port: 22, Allow: true},
		{Name: "no web", From: "tag:mesh", To: "b", Proto: wire.TCP, Port: 80},
		{From: "a", To: "b", Proto: wire.UDP, Port: 53, Allow: true}, // fails already: it guards nothing
	}
	w.api("PUT", "/tests", map[string]any{"tests": tests}, nil)
	var results api.Page[api.TestResult]
	w.api("POST", "/tests/run", nil, &results)
	if len(results.Items) != 3 || !results.Items[0].Passed || !results.Items[1].Passed || results.Items[2].Passed {
		t.Fatalf("results %+v", results.Items)
	}
	wide := direct("mesh", "mesh")
	wide.Name, wide.ACLs[0].Ports = "wide", nil
	for _, c := range []struct {
		method, path string
		in           any
		broken       []string
	}{
		{"POST", "/policies/p/disable", nil, []string{"ssh"}},
		{"DELETE", "/policies/p", nil, []string{"ssh"}},
		{"PUT", "/policies/p", wide, []string{"no web"}},
		{"POST", "/policies", wide, []string{"no web"}},
		{"POST", "/systems/a/tags", map[string]any{"remove": []string{"mesh"}}, []string{"ssh", "no web"}}, // only b is left in mesh
		{"POST", "/systems/b/disable", nil, []string{"ssh"}},
		{"PATCH", "/systems/b", map[string]any{"name": "c"}, []string{"ssh", "no web"}}, // a test about nobody fails
		{"PUT", "/tags/mesh", map[string]any{"trust": []string{"mfa"}}, []string{"ssh"}},
		{"POST", "/policyset", api.Apply{}, []string{"ssh"}},
		{"POST", "/revisions/1/restore", nil, []string{"ssh"}},
	} {
		before, records := w.storeState()
		in := c.in
		if a, ok := in.(api.Apply); ok {
			a.Set.Policies = []wire.Policy{}
			in = a
		}
		_, p := w.tryAPI(c.method, c.path, in, nil)
		if p == nil || p.Status != http.StatusConflict || p.Code != api.CodeTestFailed {
			t.Fatalf("%s %s: %+v", c.method, c.path, p)
		}
		var broken []string
		for _, m := range p.Problems {
			broken = append(broken, m.Path)
			if m.Message == "" {
				t.Errorf("%s %s: %q without a why", c.method, c.path, m.Path)
			}
		}
		if !slices.Equal(broken, c.broken) {
			t.Errorf("%s %s breaks %v, want %v", c.method, c.path, broken, c.broken)
		}
		if after, n := w.storeState(); n != records || !reflect.DeepEqual(before, after) {
			t.Fatalf("%s %s was refused and left traces", c.method, c.path)
		}
	}
	// Naming another test is no leave; a dry run tells and is not refused.
	if _, p := w.tryAPI("POST", "/policies/p/disable?force=other&force=no%20web", nil, nil); p == nil || p.Code != api.CodeTestFailed {
		t.Errorf("forced by another name: %+v", p)
	}
	var got api.Impact
	w.api("POST", "/policies/p/disable?dry_run=true", nil, &got)
	if len(got.Tests) != 1 || got.Tests[0].Name != "ssh" || got.Tests[0].Passed {
		t.Errorf("flipped %+v", got.Tests)
	}
	w.api("POST", "/policies/p/disable?force=other&force=ssh", nil, nil)
	w.api("POST", "/policies/p/enable?dry_run=true", nil, &got)
	if len(got.Tests) != 1 || !got.Tests[0].Passed {
		t.Errorf("flipped %+v", got.Tests)
	}
	w.api("POST", "/policies/p/enable", nil, nil)
	// Nothing stands between an administrator and the end of an identity.
	w.api("POST", "/systems/a/revoke", nil, nil)
}

// TestACreateTellsItsReach looks at the headers of answers that show an object.
func TestACreateTellsItsReach(t *testing.T) {
	w := newWorld(t)
	pairOf(t, w)
	q := direct("mesh", "mesh")
	q.Name = "q"
	var p api.Policy
	resp := w.api("POST", "/policies?reason=why%20not", q, &p)
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Enclave-Affected") != "2" || resp.Header.Get("Enclave-Revision") != fmt.Sprint(p.Version) {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp := w.api("GET", "/policies/q", nil, nil); resp.Header.Get("Enclave-Affected") != "" {
		t.Errorf("%v", resp.Header)
	}
	var rev api.Revision
	w.api("GET", fmt.Sprintf("/revisions/%d", p.Version), nil, &rev)
	if rev.Reason != "why not" || rev.Author != "token:root" || rev.Action != "policy.create" || len(rev.Set.Policies) != 2 {
		t.Errorf("revision %+v", rev)
	}
}

func emptyHub() *hub {
	org := store.Org{ID: "org", Settings: store.DefaultSettings(), Revision: 1, IPv4: store.DefaultIPv4(), IPv6: netip.MustParsePrefix("fd00::/48")}
	return newHub(nil, nil, &org, newTickets(make([]byte, 64), org.ID, org.Settings.MapLife))
}
