package control

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

func TestPolicyIntroducesAndParts(t *testing.T) {
	w := newWorld(t)
	devs, pods, other := w.key(automatic("devs")), w.key(automatic("pods")), w.key(automatic("other"))
	alice, bob, carol := w.machine(), w.machine(), w.machine()
	alice.enrol(devs.Secret, "alice")
	bob.enrol(pods.Secret, "bob")
	carol.enrol(other.Secret, "carol")
	fa, fb, fc := alice.stream(), bob.stream(), carol.stream()
	for _, f := range []*feed{fa, fb, fc} {
		if len(f.Map.Peers) != 0 || f.Map.Self.State != wire.Connected {
			t.Fatalf("before any policy: %+v", f.Map)
		}
		f.m.ack(f.Map.Revision)
	}

	var p api.Policy
	w.api("POST", "/policies", direct("devs", "pods"), &p)
	fa.delta()
	fb.delta()
	if !slices.Equal(fa.peers(), []wire.SystemID{bob.id}) || !slices.Equal(fb.peers(), []wire.SystemID{alice.id}) {
		t.Fatalf("alice sees %v, bob sees %v", fa.peers(), fb.peers())
	}
	peer := fa.Map.Peers[0]
	if _, err := svid.VerifyPeer(&peer, w.srv.Trust().Roots, w.srv.Trust().Org, time.Now()); err != nil {
		t.Errorf("the agent would not believe the peer: %v", err)
	}
	if len(peer.Grants) != 1 || peer.Grants[0].From != alice.id || peer.Grants[0].Policy != p.ID || len(peer.Ticket) == 0 {
		t.Errorf("peer %+v", peer)
	}
	if st := waitFor(t, w, p.Version); !st.Applied {
		t.Errorf("status %+v", st)
	}

	var ch api.Changed
	w.api("POST", "/policies/"+string(p.ID)+"/disable", nil, &ch)
	if ch.Affected != 2 {
		t.Errorf("%d systems affected, want 2", ch.Affected)
	}
	if d := fa.delta(); !slices.Equal(d.Gone, []wire.SystemID{bob.id}) {
		t.Errorf("alice is told %+v", d)
	}
	fb.delta()
	if len(fb.peers()) != 0 {
		t.Errorf("bob still sees %v", fb.peers())
	}
	if st := waitFor(t, w, ch.Revision); !st.Applied || st.Revision != ch.Revision {
		t.Errorf("status %+v", st)
	}

	// Carol was not concerned: the next thing she hears is what concerns her.
	w.api("POST", "/systems/carol/tags", map[string]any{"add": []string{"more"}}, nil)
	if fc.delta(); fc.deltas != 1 {
		t.Errorf("carol got %d deltas", fc.deltas)
	}
}

// waitFor polls the revision as a client would.
func waitFor(t *testing.T, w *world, rev wire.Revision) (st api.RevisionStatus) {
	t.Helper()
	w.api("GET", "/revision?timeout=10s&applied="+itoa(rev), nil, &st)
	return st
}

func itoa(rev wire.Revision) string { return strconv.FormatUint(uint64(rev), 10) }
