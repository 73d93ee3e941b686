package discovery

import (
	"fmt"
	"slices"
	"testing"

	"enclave/wire"
)

func entry(id wire.SystemID, state wire.SystemState) *System {
	return &System{ID: id, Name: "n-" + string(id), State: state, WireGuard: wire.WireGuardKey{1}}
}

func TestMapNamesOnlyTheIntroduced(t *testing.T) {
	v := View{
		Revision: 3, ValidUntil: epoch, Org: "ORG", Zone: "enclave",
		Self: entry("self0", wire.Connected),
		Introduced: []Introduction{
			{Peer: entry("ccccc", wire.Disconnected), Grants: []wire.Grant{
				{From: "self0", To: "ccccc", Proto: wire.TCP, Policy: "p2"},
				{From: "self0", To: "ccccc", Proto: wire.TCP, Policy: "p1"},
			}},
			{Peer: entry("self0", wire.Connected)}, // never a peer of itself
			{Peer: entry("bbbbb", wire.Revoked)},
			{Peer: entry("aaaaa", wire.Connected)},
			{Peer: nil}, // the directory does not know it: a race with its deletion
		},
		Relays: []wire.Relay{{ID: "r1"}},
		Ticket: func(peer wire.SystemID) []byte { return []byte("to " + peer) },
	}
	m := v.Map()
	if len(m.Peers) != 2 || m.Peers[0].ID != "aaaaa" || m.Peers[1].ID != "ccccc" {
		t.Fatalf("peers %+v", m.Peers)
	}
	if string(m.Peers[1].Ticket) != "to ccccc" {
		t.Errorf("ticket %q", m.Peers[1].Ticket)
	}
	if m.Peers[1].Grants[0].Policy != "p1" {
		t.Error("grants are not in order: the same rights would make a delta")
	}
	if len(m.Relays) != 1 || m.Revision != 3 || m.Self.Org != "ORG" {
		t.Errorf("map %+v", m)
	}
	slices.Reverse(v.Introduced)
	if d := Diff(m, v.Map()); d != nil {
		t.Errorf("the order of introductions made a delta: %+v", d)
	}
}

func TestMapOfOneThatDoesNotCountIsEmpty(t *testing.T) {
	for _, state := range []wire.SystemState{wire.Pending, wire.Disabled, wire.Revoked, ""} {
		v := View{
			Self:       entry("self0", state),
			Introduced: []Introduction{{Peer: entry("aaaaa", wire.Connected)}},
			Relays:     []wire.Relay{{ID: "r1"}},
		}
		if m := v.Map(); len(m.Peers) != 0 || len(m.Relays) != 0 || m.Self.State != state {
			t.Errorf("state %q: %+v", state, m)
		}
	}
}

func BenchmarkDiff1000Peers(b *testing.B) {
	build := func(keys byte) *wire.Map {
		v := View{Self: entry("self0", wire.Connected)}
		for i := range 1000 {
			p := entry(wire.SystemID(fmt.Sprintf("p%04d", i)), wire.Connected)
			if i == 500 {
				p.Disco[0] = keys
			}
			v.Introduced = append(v.Introduced, Introduction{Peer: p, Grants: []wire.Grant{{From: "self0", To: p.ID, Proto: wire.Any}}})
		}
		return v.Map()
	}
	old, new := build(1), build(2)
	b.ReportAllocs()
	for b.Loop() {
		if d := Diff(old, new); len(d.Upsert) != 1 {
			b.Fatal("want one peer")
		}
	}
}

func ExampleDiff() {
	view := View{Revision: 1, Self: entry("self0", wire.Connected)}
	before := view.Map()
	view.Revision = 2
	view.Introduced = []Introduction{{Peer: entry("aaaaa", wire.Connected)}}
	d := Diff(before, view.Map())
	fmt.Println(d.Since, d.Revision, d.Upsert[0].ID)
	// Output: 1 2 aaaaa
}
