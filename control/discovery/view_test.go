package discovery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

func entry(id wire.SystemID, state wire.SystemState) *System {
	return &System{ID: id, Name: "n-" + string(id), State: state, WireGuard: wire.WireGuardKey{1}}
}

type someTickets struct{ until map[wire.SystemID]time.Time }

func (s someTickets) Until(peer wire.SystemID) time.Time { return s.until[peer] }
func (s someTickets) Ticket(peer wire.SystemID) []byte {
	return s.until[peer].AppendFormat([]byte("to "+peer), "15")
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
		Relays:  []wire.Relay{{ID: "r1"}},
		Tickets: someTickets{},
	}
	m := v.Map()
	if len(m.Peers) != 2 || m.Peers[0].ID != "aaaaa" || m.Peers[1].ID != "ccccc" {
		t.Fatalf("peers %+v", m.Peers)
	}
	if string(m.Peers[1].Ticket) != "to ccccc00" {
		t.Errorf("ticket %q", m.Peers[1].Ticket)
	}
	if m.Peers[1].Grants[0].Policy != "p1" {
		t.Error("grants are not in order: the same rights would make a delta")
	}
	if len(m.Relays) != 1 || m.Revision != 3 || m.Self.Org != "ORG" {
		t.Errorf("map %+v", m)
	}
	var l Ledger
	l.Map(&v)
	slices.Reverse(v.Introduced)
	if d := l.Delta(&v); d != nil {
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

// BenchmarkLedger tells of one peer among 1,000: alone, and with all the others.
func BenchmarkLedger(b *testing.B) {
	v := View{Self: entry("self0", wire.Connected)}
	for i := range 1000 {
		p := entry(wire.SystemID(fmt.Sprintf("p%04d", i)), wire.Connected)
		v.Introduced = append(v.Introduced, Introduction{Peer: p, Grants: []wire.Grant{{From: "self0", To: p.ID, Proto: wire.Any}}})
	}
	for _, part := range []bool{true, false} {
		b.Run(fmt.Sprintf("part=%v", part), func(b *testing.B) {
			var l Ledger
			l.Map(&v)
			now, changed := v, *v.Introduced[500].Peer
			now.Introduced = slices.Clone(v.Introduced)
			now.Introduced[500].Peer = &changed
			if part {
				now.Part, now.Of, now.Introduced = true, []wire.SystemID{"p0500"}, now.Introduced[500:501]
			}
			b.ReportAllocs()
			for b.Loop() {
				changed.Disco[0]++
				if d := l.Delta(&now); len(d.Upsert) != 1 {
					b.Fatal("want one peer")
				}
			}
		})
	}
}

func ExampleLedger() {
	var told Ledger
	view := View{Revision: 1, Self: entry("self0", wire.Connected)}
	told.Map(&view)
	view = View{Revision: 2, Self: view.Self, Part: true, Of: []wire.SystemID{"aaaaa"}}
	view.Introduced = []Introduction{{Peer: entry("aaaaa", wire.Connected)}}
	d := told.Delta(&view)
	fmt.Println(d.Since, d.Revision, d.Upsert[0].ID)
	// Output: 1 2 aaaaa
}
