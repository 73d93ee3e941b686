package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

func pairOf(t *testing.T, w *world) (a, b *machine, fa, fb *feed) {
	t.Helper()
	mesh := w.key(automatic("mesh"))
	w.api("POST", "/policies", direct("mesh", "mesh"), nil)
	a, b = w.machine(), w.machine()
	a.enrol(mesh.Secret, "a")
	b.enrol(mesh.Secret, "b")
	fa, fb = a.stream(), b.stream()
	a.ack(fa.Map.Revision)
	b.ack(fb.Map.Revision)
	return a, b, fa, fb
}

func TestDisabledAndRevoked(t *testing.T) {
	w := newWorld(t)
	a, b, fa, fb := pairOf(t, w)
	w.api("POST", "/systems/a/disable", nil, nil)
	if fa.delta(); fa.Map.Self.State != wire.Disabled || len(fa.Map.Peers)+len(fa.Map.Relays) != 0 {
		t.Errorf("a disabled system is told %+v", fa.Map)
	}
	if fb.delta(); len(fb.Map.Peers) != 0 {
		t.Error("b still sees a")
	}
	w.api("POST", "/systems/a/enable", nil, nil)
	fa.delta()
	fb.delta()
	if len(fa.Map.Peers) != 1 || len(fb.Map.Peers) != 1 {
		t.Error("enabling brought nothing back")
	}
	var ch api.Changed
	w.api("POST", "/systems/a/revoke", nil, &ch)
	if bye := fa.bye(); bye.Code != wire.ByeRevoked {
		t.Errorf("bye %+v", bye)
	}
	if fb.delta(); len(fb.Map.Peers) != 0 {
		t.Error("b still sees the revoked")
	}
	if st := waitFor(t, w, ch.Revision); !st.Applied {
		t.Errorf("a revoked system is waited for: %+v", st)
	}
	for _, path := range []string{wire.PathReport, wire.PathRenew} {
		if p := a.call("POST", path, wire.RenewRequest{Now: time.Now()}, nil); p == nil || p.Code != wire.ByeRevoked {
			t.Errorf("%s of a revoked system: %+v", path, p)
		}
	}
	if p := a.call("GET", wire.PathStream, nil, nil); p == nil || p.Code != wire.ByeRevoked {
		t.Errorf("stream of a revoked system: %+v", p)
	}
	w.api("DELETE", "/systems/b", nil, nil)
	if bye := fb.bye(); bye.Code != wire.ByeRevoked {
		t.Errorf("bye to the deleted: %+v", bye)
	}
	_ = b
}

func TestSecondStreamReplacesTheFirst(t *testing.T) {
	w := newWorld(t)
	a, _, fa, _ := pairOf(t, w)
	again := a.stream()
	if bye := fa.bye(); bye.Code != wire.ByeReplaced {
		t.Errorf("bye %+v", bye)
	}
	w.api("POST", "/systems/a/tags", map[string]any{"add": []string{"new"}}, nil)
	if again.delta(); !slices.Contains(again.Map.Self.Tags, "new") {
		t.Error("the second stream does not work")
	}
	var s api.System
	w.api("GET", "/systems/a", nil, &s)
	if s.State != wire.Connected {
		t.Errorf("the end of the first stream took the second with it: %s", s.State)
	}
}

func TestShutdownSaysBye(t *testing.T) {
	w := newWorld(t)
	_, _, fa, _ := pairOf(t, w)
	done := make(chan struct{})
	go func() { defer close(done); w.stop() }()
	if bye := fa.bye(); bye.Code != wire.ByeRestart {
		t.Errorf("bye %+v", bye)
	}
	<-done
}

func TestRestartKeepsState(t *testing.T) {
	w := newWorld(t)
	a, b, fa, _ := pairOf(t, w)
	before := fa.Map
	w.restart()
	var s api.System
	w.api("GET", "/systems/a", nil, &s)
	if s.State != wire.Disconnected || s.Applied != before.Revision || s.LastSeen == nil {
		t.Errorf("after a restart: %+v", s)
	}
	fa = a.stream()
	if fa.Map.Revision != before.Revision || len(fa.Map.Peers) != 1 || fa.Map.Peers[0].ID != b.id {
		t.Errorf("map after a restart: %+v", fa.Map)
	}
	w.api("GET", "/systems/a", nil, &s)
	if s.State != wire.Connected {
		t.Errorf("state %s", s.State)
	}
}

// TestBadStoredPolicyServesItsLastGoodVersion spoils a policy as a stricter program
// finds it after an upgrade.
func TestBadStoredPolicyServesItsLastGoodVersion(t *testing.T) {
	w := newWorld(t)
	a, _, fa, _ := pairOf(t, w)
	var list api.Page[api.Policy]
	w.api("GET", "/policies", nil, &list)
	id := list.Items[0].ID
	if len(fa.Map.Peers) != 1 {
		t.Fatal("no pair to begin with")
	}
	logged := func() bool {
		var log api.Page[api.Activity]
		w.api("GET", "/activity?limit=1000", nil, &log)
		return slices.ContainsFunc(log.Items, func(a api.Activity) bool {
			return a.Action == "policy.refuse" && a.Object == "policy:"+string(id) && a.Actor == "control"
		})
	}
	status := func() (st api.RevisionStatus) {
		w.api("GET", "/revision", nil, &st)
		return st
	}
	state := func() string {
		var p api.Policy
		w.api("GET", "/policies/"+string(id), nil, &p)
		return p.State
	}
	if len(status().Warnings) != 0 || logged() {
		t.Error("a warning about nothing")
	}
	// The store asks nothing of a document's meaning, so it takes what an older program
	// found right; a reversed range of ports cannot even be read back.
	odd, unreadable := direct("mesh", "mesh"), direct("mesh", "mesh")
	odd.Kind, unreadable.ACLs[0].Ports = "odd", wire.Ports{{Lo: 9, Hi: 1}}
	for _, doc := range []wire.Policy{odd, unreadable} {
		if _, err := w.store.UpdatePolicy(t.Context(), at(time.Now()), id, doc); err != nil {
			t.Fatal(err)
		}
		w.restart()
		if state() != "active" || !logged() || len(status().Warnings) != 1 {
			t.Errorf("state %q, warnings %v", state(), status().Warnings)
		}
		if f := a.stream(); len(f.Map.Peers) != 1 {
			t.Error("the last good version is not served")
		}
	}
	// What was switched off stays off: a past version may have been on.
	odd.Enabled = false
	if _, err := w.store.UpdatePolicy(t.Context(), at(time.Now()), id, odd); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if state() != "disabled" {
		t.Errorf("state %q", state())
	}
	// Without a good version it is left out.
	w.api("DELETE", "/policies/"+string(id), nil, nil)
	p, _, err := w.store.CreatePolicy(t.Context(), at(time.Now()), unreadable)
	if err != nil {
		t.Fatal(err)
	}
	id = p.ID
	w.restart()
	if st := status(); state() != "inactive: does not validate" || len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "left out") {
		t.Errorf("state %q, warnings %v", state(), st.Warnings)
	}
	// A document that can be read heals it.
	w.api("PUT", "/policies/"+string(id), direct("mesh", "mesh"), nil)
	if state() != "active" || len(status().Warnings) != 0 {
		t.Errorf("state %q, warnings %v", state(), status().Warnings)
	}
}

func TestWaitAppliedNamesWhoIsAwaited(t *testing.T) {
	w := newWorld(t)
	a, b, fa, fb := pairOf(t, w)
	var ch api.Changed
	w.api("POST", "/systems/a/tags", map[string]any{"remove": []string{"mesh"}}, &ch)
	var st api.RevisionStatus
	w.api("GET", "/revision?timeout=0s&applied="+itoa(ch.Revision), nil, &st)
	if st.Applied || len(st.Waiting) != 2 {
		t.Fatalf("nobody has applied it, yet %+v", st)
	}
	fa.delta()
	for len(st.Waiting) != 1 {
		w.api("GET", "/revision?timeout=0s&applied="+itoa(ch.Revision), nil, &st)
	}
	if st.Waiting[0] != b.id {
		t.Errorf("waiting for %v, want %s", st.Waiting, b.id)
	}
	waited := make(chan api.RevisionStatus)
	go func() {
		st, _ := w.srv.WaitApplied(t.Context(), ch.Revision)
		waited <- st
	}()
	fb.delta()
	if st := <-waited; !st.Applied {
		t.Errorf("status %+v", st)
	}
	// A change that no map shows is applied at once.
	w.api("PATCH", "/systems/a", map[string]any{"notes": "nothing to see"}, nil)
	w.api("GET", "/revision", nil, &st)
	if st := waitFor(t, w, st.Revision); !st.Applied {
		t.Errorf("notes are awaited: %+v", st)
	}
	_ = a
}
