package control

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// TestWallClocksExpire has a policy, a system and a key end on the clock of a zone that is
// an hour ahead of the bubble's: at 2:30, 3:00 and 3:30, an hour earlier each.
func TestWallClocksExpire(t *testing.T) {
	local := func(clock string) *wire.LocalTime {
		return &wire.LocalTime{Time: "2000-01-01T" + clock, Zone: "Europe/Berlin"}
	}
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		_, _, fa, _ := pairOf(t, w)
		begin := time.Now()
		p := direct("mesh", "mesh")
		p.Name, p.ExpiresLocal = "night", local("02:30")
		var second api.Policy
		w.api("POST", "/policies", p, &second)
		if second.ExpiresAt == nil || second.ExpiresAt.Sub(begin.Truncate(time.Hour)) != 90*time.Minute || *second.ExpiresLocal != *p.ExpiresLocal {
			t.Errorf("read back %v, %v", second.ExpiresAt, second.ExpiresLocal)
		}
		w.api("PATCH", "/systems/b", map[string]any{"expires_local": local("03:00"), "expiry_action": "delete"}, nil)
		w.key(api.KeyCreate{Name: "short", ExpiresLocal: local("03:30"), ExpiryAction: wire.DeleteOnExpiry})

		// What others are told has instants, as ever.
		var coming api.Page[api.Coming]
		w.api("GET", "/forecast", nil, &coming)
		var said []string
		for _, c := range coming.Items {
			said = append(said, c.At.Format("15:04 ")+c.Object+": "+c.Detail)
		}
		want := []string{
			"01:30 policy: policy \"night\" expires (2000-01-01 02:30 Europe/Berlin)",
			"02:00 system: system b expires (2000-01-01 03:00 Europe/Berlin) and is deleted",
			"02:30 key: the key expires (2000-01-01 03:30 Europe/Berlin) and is deleted: nobody enrols with it from then on",
		}
		if !slices.Equal(said, want) {
			t.Errorf("forecast %q\nwant %q", said, want)
		}
		var set wire.PolicySet
		w.api("GET", "/policyset", nil, &set)
		for _, doc := range set.Policies {
			if doc.ID == second.ID && (doc.ExpiresAt != nil || doc.ExpiresLocal == nil) {
				t.Errorf("the document says %v and %v: it would be refused", doc.ExpiresAt, doc.ExpiresLocal)
			}
		}
		w.api("POST", "/policyset", map[string]any{"set": set}, nil) // as it was read

		for len(fa.Map.Peers[0].Grants) != 4 {
			fa.delta()
		}
		for len(fa.Map.Peers[0].Grants) != 2 {
			fa.delta()
		}
		if at := time.Now().UTC().Format("15:04:05"); at != "01:30:00" {
			t.Errorf("the policy ended at %s", at)
		}
		for len(fa.Map.Peers) > 0 {
			fa.delta()
		}
		if at := time.Now().UTC().Format("15:04:05"); at != "02:00:00" {
			t.Errorf("the system went at %s", at)
		}
		time.Sleep(31 * time.Minute) // of the bubble's
		synctest.Wait()
		var keys api.Page[api.Key]
		w.api("GET", "/keys", nil, &keys)
		if slices.ContainsFunc(keys.Items, func(k api.Key) bool { return k.Name == "short" }) {
			t.Error("the key is still there")
		}
		var log api.Page[api.Activity]
		w.api("GET", "/activity?limit=1000", nil, &log)
		var acts []string
		for _, a := range log.Items {
			if a.Actor == "expiry" {
				acts = append(acts, a.At.UTC().Format("15:04 ")+a.Action)
			}
		}
		if !slices.Equal(acts, []string{"01:30 policy.disable", "02:00 system.delete", "02:30 key.delete"}) {
			t.Errorf("actions %v", acts)
		}
	})
}

// TestKeysEnrolFromWhereTheyMay calls from the loopback address, which is all that counts:
// what a machine says of itself does not.
func TestKeysEnrolFromWhereTheyMay(t *testing.T) {
	w := newWorld(t)
	there := automatic()
	there.Name, there.Sources = "there", []string{"192.0.2.0/24", "2001:db8::/32"}
	here := automatic()
	here.Name, here.Sources = "here", []string{"192.0.2.1", "127.0.0.1-127.0.0.9"}
	elsewhere := w.key(there)
	if _, p := w.machine().tryEnrol(w.machine().request(elsewhere.Secret, "alice")); p == nil || p.Code != api.CodeKeyElsewhere {
		t.Errorf("enrolled from elsewhere: %+v", p)
	}
	m := w.machine()
	if _, p := m.tryEnrol(m.request(w.key(here).Secret, "bob")); p != nil {
		t.Errorf("refused from where it may: %+v", p)
	}
	var k api.Key
	w.api("GET", "/keys/there", nil, &k)
	if k.Used != 0 || !slices.Equal(k.Sources, there.Sources) {
		t.Errorf("key %+v", k)
	}
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
