package control

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// rebuilt makes the engine anew from what the hub holds: the answer that a trial must
// not change and an impact must agree with.
func (h *hub) rebuilt(now time.Time) *policy.Engine {
	e := policy.New()
	for tag, trust := range h.trust {
		e.PutTag(policy.Tag{Name: tag, Trust: trust}, now)
	}
	for _, n := range h.nodes {
		if !n.sys.Revoked {
			e.PutSystem(h.engineSystem(&n.sys), now)
		}
	}
	for _, p := range h.policies {
		if p.served != nil {
			e.PutPolicy(*p.served, now)
		}
	}
	return e
}

// randomFresh is a change of a random few things.
func randomFresh(r *rand.Rand, h *hub, now time.Time) fresh {
	f := fresh{systems: map[wire.SystemID]*store.System{}, policies: map[wire.PolicyID]*stored{}, revision: h.revision + 1}
	tag := func() wire.Tag { return wire.Tag(fmt.Sprintf("t%d", r.IntN(6))) }
	for range r.IntN(3) {
		n := r.IntN(40)
		id := wire.SystemID(fmt.Sprintf("s%04d", n))
		if r.IntN(5) == 0 {
			f.systems[id] = nil
			continue
		}
		s := &store.System{ID: id, Name: string(id), Kind: store.General, Approved: r.IntN(8) > 0, Enabled: r.IntN(8) > 0, Revoked: r.IntN(12) == 0,
			IPv4: netip.AddrFrom4([4]byte{100, 64, 0, byte(n + 1)}), IPv6: netip.AddrFrom16([16]byte{0xfd, 15: byte(n + 1)})}
		for range r.IntN(3) {
			if g := tag(); !slices.Contains(s.Tags, g) {
				s.Tags = append(s.Tags, g)
			}
		}
		if r.IntN(3) == 0 {
			s.Trust = []store.TrustMark{{Requirement: "mfa", Claims: map[string][]string{"role": {"dev"}}}}
			if r.IntN(2) == 0 {
				s.Trust[0].Until = now.Add(time.Duration(1+r.IntN(5)) * time.Hour)
			}
		}
		if len(s.Tags) == 0 {
			for range r.IntN(20) {
				s.Adds = append(s.Adds, wire.SystemID(fmt.Sprintf("s%04d", r.IntN(40))))
			}
		}
		if r.IntN(4) == 0 {
			s.ExpiresAt = now.Add(time.Duration(r.IntN(4)-1) * time.Hour)
		}
		f.systems[id] = s
	}
	for range r.IntN(3) {
		id := wire.PolicyID(fmt.Sprintf("p%d", r.IntN(8)))
		if r.IntN(5) == 0 {
			f.policies[id] = nil
			continue
		}
		p := direct(tag(), tag())
		p.ID, p.Enabled = id, r.IntN(6) > 0
		p.ACLs[0].Ports = []wire.Ports{nil, {{Lo: 22, Hi: 22}}, {{Lo: 1, Hi: 99}}}[r.IntN(3)]
		if r.IntN(4) == 0 {
			p.SenderTrust = []string{[]string{"mfa", "office"}[r.IntN(2)]}
		}
		if r.IntN(4) == 0 {
			p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"mon", "tue", "wed", "thu", "fri"}, Start: fmt.Sprintf("%02d:00", r.IntN(12)), End: fmt.Sprintf("%02d:30", 12+r.IntN(12))}}
		}
		if r.IntN(6) == 0 {
			end := now.Add(time.Duration(1+r.IntN(5)) * time.Hour)
			p.ExpiresAt = &end
		}
		if r.IntN(6) == 0 {
			p.Kind, p.ReceiverTags = wire.Gateway, nil
			p.Gateways = []wire.GatewayRoute{{System: wire.SystemID(fmt.Sprintf("s%04d", r.IntN(40))), Subnets: []string{"10.0.0.0/8"}}}
		}
		f.policies[id] = asStored(p)
	}
	if r.IntN(3) == 0 {
		f.trust = map[wire.Tag][]string{}
		for range r.IntN(3) {
			f.trust[tag()] = []string{"mfa"}
		}
		f.rules = &store.Rules{}
		if r.IntN(2) == 0 {
			f.rules.Requirements = []store.Requirement{{Requirement: wire.Requirement{ID: "mfa", Kind: wire.UserAuthentication,
				Claims: []wire.ClaimCondition{{Claim: "role", Value: []string{"dev", "ops"}[r.IntN(2)]}}}}}
		}
		f.rules.Requirements = append(f.rules.Requirements, store.Requirement{Requirement: wire.Requirement{ID: "office", Kind: wire.PublicIP,
			Ranges: []wire.RangeCondition{{Range: "192.0.2.0/24"}}}})
	}
	return f
}

// TestTrialsAgreeWithTheWholeTruth tries and makes random changes in random worlds. A
// trial leaves every system's pairs as they were, and tells what a comparison of whole
// engines, built anew before and after, tells.
func TestTrialsAgreeWithTheWholeTruth(t *testing.T) {
	var told, none int
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		h := emptyHub()
		now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		for step := range 40 {
			now = now.Add(time.Duration(r.IntN(20)) * time.Minute)
			h.mu.Lock()
			h.advanceHeld(now)
			f := randomFresh(r, h, now)
			before := h.rebuilt(now)
			var tr tried
			h.compare(&f, &tr, now)
			for _, id := range append(before.Systems(), "s0000") {
				if got, want := h.engine.Pairs(id, now, now.Add(time.Hour)), before.Pairs(id, now, now.Add(time.Hour)); !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d, step %d: after a trial %s has\n%+v, not\n%+v", seed, step, id, got, want)
				}
			}
			h.apply(f, now)
			after := h.rebuilt(now)
			want := policy.Diff(before, after, now)
			tr.impact.Tests = want.Tests
			for _, list := range [][]api.Access{tr.impact.Gained, tr.impact.Lost} {
				for i := range list {
					list[i].Names, list[i].PolicyName = [2]string{}, ""
				}
			}
			if !reflect.DeepEqual(tr.impact, want) {
				t.Fatalf("seed %d, step %d: the trial says\n%+v, the whole\n%+v", seed, step, tr.impact, want)
			}
			for _, id := range after.Systems() {
				if !reflect.DeepEqual(h.engine.Pairs(id, now, now), after.Pairs(id, now, now)) {
					t.Fatalf("seed %d, step %d: the change left %s otherwise than anew", seed, step, id)
				}
			}
			h.mu.Unlock()
			if want.GainedCount+want.LostCount > 0 {
				told++
			} else {
				none++
			}
		}
	}
	if told < 200 || none < 50 {
		t.Errorf("%d changes with an effect, %d without: the worlds are too dull", told, none)
	}
}

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
// that comes down its stream.
func TestDryRunsNameTheFlowsTheyWouldCut(t *testing.T) {
	w := newWorld(t)
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
}

func TestSilentAgentsDelayADryRunByTwoSeconds(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		pairOf(t, w)
		began := time.Now()
		w.api("POST", "/policies/p/disable?dry_run=true", nil, nil)
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

func TestDeltasCarryTheirCause(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		_, _, fa, fb := pairOf(t, w)
		// Deltas that renew a ticket have no cause; when they come depends on the pair.
		next := func(f *feed) string {
			for {
				if c := f.delta().Cause; c != "" {
					return c
				}
			}
		}
		cause := func() string {
			next(fb)
			return next(fa)
		}
		w.api("POST", "/policies/p/disable", nil, nil)
		if got := cause(); got != `policy.disable "p" by root` {
			t.Errorf("cause %q", got)
		}
		end := time.Now().Add(time.Hour)
		p := direct("mesh", "mesh")
		p.ExpiresAt = &end
		w.api("PUT", "/policies/p", p, nil)
		if got := cause(); got != `policy.update "p" by root` {
			t.Errorf("cause %q", got)
		}
		if got := cause(); !strings.Contains(got, `policy "p" expired`) {
			t.Errorf("cause %q", got)
		}
		p.ExpiresAt = nil
		p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat"}, Start: "00:00", End: "03:00"}}
		w.api("PUT", "/policies/p", p, nil)
		cause()
		if got := cause(); got != `hours of policy "p" ended` {
			t.Errorf("cause %q", got)
		}
		w.api("DELETE", "/policies/p", nil, nil)
	})
	if got := joinCauses([]string{"a", "b", "c", "d", "e"}); got != "a; b; c; d; and more" {
		t.Errorf("joined %q", got)
	}
	if got := joinCauses([]string{strings.Repeat("é", wire.MaxCauseLen)}); len(got) > wire.MaxCauseLen || !strings.HasSuffix(got, "é...") {
		t.Errorf("joined %q", got)
	}
}

// TestStrangersAnswerNoQuestion tells the hub what it has not asked.
func TestStrangersAnswerNoQuestion(t *testing.T) {
	h := emptyHub()
	q := &ask{wait: map[wire.SystemID]bool{"a": true}, told: map[wire.SystemID]*wire.FlowReport{}, done: make(chan struct{})}
	h.asks["x"] = q
	h.told("b", &wire.FlowReport{ID: "x"})
	h.told("a", &wire.FlowReport{ID: "y"})
	if len(q.told) != 0 || len(q.wait) != 1 {
		t.Errorf("%+v", q)
	}
	h.told("a", &wire.FlowReport{ID: "x"})
	<-q.done
	h.told("a", &wire.FlowReport{ID: "x"}) // once more, after the end
}

// TestUnreadablePoliciesHaveNoAction expires one that cannot be changed: asking the
// store for it each second would never end.
func TestUnreadablePoliciesHaveNoAction(t *testing.T) {
	h := emptyHub()
	end := time.Now().Add(-time.Hour)
	p := direct("a", "b")
	fine, broken := asStored(p), asStored(p)
	fine.EndsAt, broken.EndsAt, broken.Broken = end, end, "why"
	h.note("fine", fine)
	h.note("broken", broken)
	if due, _ := h.dueExpiries(time.Now()); len(due) != 1 || due[0].policy != "fine" {
		t.Errorf("due %+v", due)
	}
}

func emptyHub() *hub {
	org := store.Org{ID: "org", Settings: store.DefaultSettings(), Revision: 1, IPv4: store.DefaultIPv4(), IPv6: netip.MustParsePrefix("fd00::/48")}
	return newHub(nil, nil, &org, newTickets(make([]byte, 64), org.ID, org.Settings.MapLife))
}

// BenchmarkDryRun asks what disabling one of many policies would do. Ten systems are
// concerned, however many there are.
func BenchmarkDryRun(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h, _ := benchHub(b, n)
			p := direct("dev-7", "pod-7")
			p.ID, p.Enabled = "p7", false
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				var t tried
				h.mu.Lock()
				h.compare(&fresh{policies: map[wire.PolicyID]*stored{"p7": asStored(p)}}, &t, now)
				h.mu.Unlock()
				if t.impact.LostCount != 25 {
					b.Fatalf("lost %d", t.impact.LostCount)
				}
			}
		})
	}
}
