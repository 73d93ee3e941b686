package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

// TestOutlineAgreesWithDiff compares one engine before and after a change with two
// whole ones, and looks that compiling back leaves nothing.
func TestOutlineAgreesWithDiff(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	tags := []wire.Tag{"a", "b", "c"}
	e := New()
	for i := range 30 {
		e.PutSystem(System{ID: wire.SystemID([]byte{'s', byte('a' + i)}), IPs: []netip.Addr{netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)})}, Tags: tags[i%3 : i%3+1], Approved: true, Enabled: true}, now)
	}
	doc := func(id string, from, to wire.Tag, lo, hi uint16) wire.Policy {
		return wire.Policy{ID: wire.PolicyID(id), Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{from}, ReceiverTags: []wire.Tag{to},
			ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: lo, Hi: hi}}}}}
	}
	e.PutPolicy(doc("p", "a", "b", 22, 80), now)
	e.PutPolicy(doc("q", "b", "c", 22, 22), now)
	for _, change := range []wire.Policy{
		doc("p", "a", "b", 22, 22), doc("p", "a", "c", 22, 80), doc("q", "b", "c", 443, 443), doc("r", "a", "b", 80, 90), doc("r", "c", "c", 1, 2),
	} {
		before, old := e.Clone(), e.policies[change.ID]
		touched := new(Touched)
		e.Record(touched)
		ids, bad := e.PutPolicy(change, now)
		e.Record(nil)
		if len(bad) > 0 {
			t.Fatal(bad)
		}
		want := Diff(before, e, now)
		after := e.Outline(touched, now)
		if old == nil {
			e.DropPolicy(change.ID, now)
		} else {
			e.PutPolicy(old.doc, now)
		}
		if got := e.Outline(touched, now).Diff(after); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v:\ngot  %+v\nwant %+v", change, got, want)
		}
		for _, id := range e.Systems() {
			if !reflect.DeepEqual(e.Pairs(id, now, now), before.Pairs(id, now, now)) {
				t.Fatalf("system %s has other pairs", id)
			}
		}
		if want.GainedCount+want.LostCount == 0 || slices.Contains(ids, "none") {
			t.Error("a change of nothing")
		}
	}
}
