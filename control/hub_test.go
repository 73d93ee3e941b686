package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// TestAnotherKeyIsAnotherIdentity shows a certificate that this root issued for the
// name of a system and for a key that is not the system's.
func TestAnotherKeyIsAnotherIdentity(t *testing.T) {
	w := newWorld(t)
	a, _, _, _ := pairOf(t, w)
	thief := w.machine()
	chain, err := w.srv.ca.Issue(svid.KindSystem, string(a.id), thief.keys.Identity, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	thief.use(chain)
	for _, path := range []string{wire.PathReport, wire.PathRenew} {
		if p := thief.call("POST", path, wire.RenewRequest{Now: time.Now()}, nil); p == nil || p.Code != wire.ByeRevoked {
			t.Errorf("%s with another key: %+v", path, p)
		}
	}
	resp, err := thief.c.Get("https://" + w.addr + wire.PathStream)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusGone {
		t.Errorf("stream with another key: %s", resp.Status)
	}
}

// TestAnAckFromTheFutureCountsForThePresent has an agent acknowledge what is not there
// yet: it must not pass for having applied whatever comes.
func TestAnAckFromTheFutureCountsForThePresent(t *testing.T) {
	w := newWorld(t)
	a, _, _, fb := pairOf(t, w)
	a.ack(1 << 40)
	w.api("POST", "/systems/a/tags", map[string]any{"remove": []string{"mesh"}}, nil)
	fb.delta()
	if st := w.srv.hub.Status(0); st.Applied || len(st.Waiting) != 1 || st.Waiting[0] != a.id {
		t.Errorf("status %+v", st)
	}
}

// TestGrantsReachPastTheMapsLife looks at what an agent knows of tomorrow: with the
// control plane gone it must open and close on time for as long as its map counts.
func TestGrantsReachPastTheMapsLife(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		// The bubble begins on Saturday 2000-01-01 00:00 UTC.
		p := direct("mesh", "mesh")
		p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat", "sun"}, Start: "00:00", End: "17:00"}}
		w.api("POST", "/policies", p, nil)
		key := w.key(automatic("mesh"))
		a, b := w.machine(), w.machine()
		a.enrol(key.Secret, "a")
		b.enrol(key.Secret, "b")
		tomorrow := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)
		for _, g := range a.stream().Map.Peers[0].Grants {
			if g.NotBefore.Equal(tomorrow) && g.NotAfter.Equal(tomorrow.Add(17*time.Hour)) {
				return
			}
		}
		t.Error("the map says nothing of tomorrow")
	})
}

// TestExpiryDisables lets a system expire whose expiry says nothing else.
func TestExpiryDisables(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		_, _, fa, _ := pairOf(t, w)
		w.api("PATCH", "/systems/b", map[string]any{"expires_at": time.Now().Add(time.Hour)}, nil)
		for len(fa.Map.Peers) > 0 {
			fa.delta()
		}
		time.Sleep(time.Minute)
		sys, err := w.store.FindSystem(t.Context(), "b")
		if err != nil || sys.Enabled {
			t.Errorf("after its expiry: enabled %v, %v", sys.Enabled, err)
		}
		if _, p := w.tryAPI("POST", "/systems/b/enable", nil, nil); p == nil || p.Code != api.CodeConflict {
			t.Errorf("enabled past its expiry: %+v", p)
		}
		w.api("PATCH", "/systems/b", map[string]any{"expires_at": nil}, nil)
		w.api("POST", "/systems/b/enable", nil, nil)
		for len(fa.Map.Peers) == 0 {
			fa.delta()
		}
	})
}

// TestAppliedMeansLookedAtSentAndAcknowledged takes the steps of a change one by one:
// after each but the last, nobody may say that it is applied.
func TestAppliedMeansLookedAtSentAndAcknowledged(t *testing.T) {
	h, senders := benchHub(nil, 20)
	now := time.Now()
	for _, s := range senders {
		s.next(now)
		h.sent(s.st, s.told.Revision(), s.told.Revision())
		h.heard(s.st.id, &wire.Report{Applied: s.told.Revision()}, now)
	}
	if st := h.Status(0); !st.Applied {
		t.Fatalf("before any change: %+v", st)
	}
	p := direct("dev-1", "pod-1")
	p.ID, p.Enabled = "p1", false
	h.mu.Lock()
	h.apply(fresh{revision: h.revision + 1, policies: map[wire.PolicyID]*stored{"p1": asStored(p)}}, now)
	rev := h.revision
	h.mu.Unlock()
	if st := h.Status(rev); st.Applied || len(st.Waiting) != 10 {
		t.Fatalf("in the engine and nowhere else: %+v", st)
	}
	for _, s := range senders {
		if s.next(now) != nil {
			h.sent(s.st, s.told.Revision(), s.told.Revision())
		}
	}
	if st := h.Status(rev); st.Applied || len(st.Waiting) != 10 {
		t.Fatalf("sent and not acknowledged: %+v", st)
	}
	for _, s := range senders {
		h.heard(s.st.id, &wire.Report{Applied: s.told.Revision()}, now)
	}
	if st := h.Status(rev); !st.Applied {
		t.Errorf("acknowledged by all: %+v", st)
	}
}

// Who is away when something changes keeps an older map for as long as that counts: no
// answer may say that the change is in effect with it.
func TestAwayIsNotInEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, senders := benchHub(nil, 20)
		h.mapLife = time.Hour
		for _, s := range senders {
			s.next(time.Now())
			h.sent(s.st, s.told.Revision(), s.told.Revision())
			h.heard(s.st.id, &wire.Report{Applied: s.told.Revision()}, time.Now())
		}
		leave := func(s *sender) {
			h.mu.Lock()
			h.leave(h.nodes[s.st.id], time.Now())
			h.mu.Unlock()
		}
		enable := func(on bool) {
			p := direct("dev-1", "pod-1")
			p.ID, p.Enabled = "p1", on
			h.mu.Lock()
			h.apply(fresh{revision: h.revision + 1, policies: map[wire.PolicyID]*stored{"p1": asStored(p)}}, time.Now())
			h.mu.Unlock()
		}
		for _, s := range senders {
			leave(s)
		}
		if st := h.Status(0); st.Away != 0 {
			t.Fatalf("nothing has changed since they left: %+v", st)
		}
		enable(false)
		st := h.Status(0)
		if st.Away != 10 || st.AwayUntil == nil || !st.AwayUntil.Equal(time.Now().Add(time.Hour)) {
			t.Fatalf("they have not heard of it: %+v", st)
		}
		if st := h.Status(h.revision + 1); st.Away != 0 {
			t.Errorf("of a change that did not concern them: %+v", st)
		}
		time.Sleep(time.Hour)
		if st := h.Status(0); st.Away != 0 || st.AwayUntil != nil {
			t.Errorf("no map from before counts any more: %+v", st)
		}
		h.mapLife = 0
		if st := h.Status(0); st.Away == 0 || st.AwayUntil != nil {
			t.Errorf("maps that count for ever: %+v", st)
		}
	})
}

// A revocation ends the system that it is about by a word on its stream. That one is gone
// and is no "not reached"; one that was away when it was revoked has not heard of it.
func TestWhoIsRevokedWhileConnectedIsNotAway(t *testing.T) {
	h, senders := benchHub(nil, 20)
	now := time.Now()
	h.mapLife = time.Hour
	for _, s := range senders {
		s.next(now)
		h.sent(s.st, s.told.Revision(), s.told.Revision())
		h.heard(s.st.id, &wire.Report{Applied: s.told.Revision()}, now)
	}
	revoke := func(id wire.SystemID) {
		s := h.nodes[id].sys
		s.Revoked = true
		h.apply(fresh{revision: h.revision + 1, systems: map[wire.SystemID]*store.System{id: &s}}, now)
	}
	h.mu.Lock()
	here, gone := senders[0].st, senders[1].st
	revoke(here.id)
	h.leave(h.nodes[here.id], now)
	h.mu.Unlock()
	if len(here.bye) != 1 {
		t.Fatal("who was revoked is not told")
	}
	if st := h.Status(0); st.Away != 0 {
		t.Errorf("revoked while it was connected: %+v", st)
	}
	h.mu.Lock()
	h.leave(h.nodes[gone.id], now)
	revoke(gone.id)
	h.mu.Unlock()
	if st := h.Status(0); st.Away != 1 {
		t.Errorf("revoked while it was away: %+v", st)
	}
}

// More rules between two systems than a map carries are no secret of the agents, which
// refuse the entry: control says it, and says it no more when they fit.
func TestTooManyRulesBetweenTwoAreTold(t *testing.T) {
	h, senders := benchHub(nil, 20)
	change := func(on bool) {
		f := fresh{revision: h.revision + 1, policies: map[wire.PolicyID]*stored{}}
		for i := range wire.MaxGrantsPerPeer/wire.MaxACLs + 1 {
			p := direct("dev-1", "pod-1")
			p.ID, p.Enabled, p.ACLs = wire.PolicyID(fmt.Sprintf("big%02d", i)), on, nil
			for port := range wire.MaxACLs {
				p.ACLs = append(p.ACLs, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: uint16(port + 1), Hi: uint16(port + 1)}}})
			}
			f.policies[p.ID] = asStored(p)
		}
		now := time.Now()
		h.mu.Lock()
		h.apply(f, now)
		h.mu.Unlock()
	}
	apply := func(on bool) string {
		change(on)
		for _, s := range senders {
			s.next(time.Now())
		}
		return strings.Join(h.Status(0).Warnings, "\n")
	}
	if got := apply(true); !strings.Contains(got, "do not know each other, as do 24 more pairs") {
		t.Errorf("%q", got)
	}
	var a, b *node
	for _, s := range senders { // one of each side
		switch n := h.nodes[s.st.id]; n.sys.Tags[0] {
		case "dev-1":
			a = n
		case "pod-1":
			b = n
		}
	}
	allowed := func() bool { return h.Explain(a.sys.IPv4, b.sys.IPv4, wire.TCP, 22, time.Now()).Allow }
	if allowed() {
		t.Error("explain says that they reach each other")
	}
	defer func() {
		if !allowed() {
			t.Errorf("explain still says that they do not: %+v", h.Explain(a.sys.IPv4, b.sys.IPv4, wire.TCP, 22, time.Now()))
		}
	}()
	if got := apply(false); got != "" {
		t.Errorf("they fit again: %q", got)
	}
	for _, on := range []bool{true, false} { // before anybody has asked for a map
		if change(on); allowed() == on {
			t.Errorf("explain tells of maps that were made before, %t", on)
		}
	}
}
