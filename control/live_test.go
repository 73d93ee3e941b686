package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"enclave/control/discovery"
	"enclave/store"
	"enclave/wire"
)

// follower is a connected agent: what it has is its first map and the deltas since.
type follower struct {
	*sender
	has  *wire.Map
	lazy bool // looks now and then, and not whenever it is woken
}

// look takes in what there is to be told, and returns the delta, if any.
func (f *follower) look(t *testing.T, now time.Time) *wire.Delta {
	t.Helper()
	m := f.next(now)
	switch {
	case m == nil:
		return nil
	case m.Bye != nil:
		t.Fatalf("%s: bye: %s", f.st.id, m.Bye.Message)
	case m.Map != nil:
		f.has = travel(t, m.Map)
		return nil
	}
	d := travel(t, m.Delta)
	if err := f.has.Apply(d); err != nil {
		t.Fatal(err)
	}
	f.hub.sent(f.st, f.told.Revision(), f.told.Revision())
	return d
}

// check compares what the agent has with a map from nothing, by an engine that was
// built from nothing.
func (f *follower) check(t *testing.T, where string, now time.Time) {
	t.Helper()
	h := f.hub
	self := *h.nodes[f.st.id].entry
	self.State = h.nodes[f.st.id].sys.State(now)
	v := discovery.View{Revision: f.has.Revision, ValidUntil: f.has.ValidUntil, Org: h.org, Zone: h.zone, Self: &self, Relays: h.relays, Zones: h.dns.table.Ours,
		Tickets: &turn{tickets: h.tickets, self: f.st.id, now: now}}
	for _, p := range h.rebuilt(now).Pairs(f.st.id, now, f.horizon) {
		v.Introduced = append(v.Introduced, discovery.Introduction{Peer: h.nodes[p.Peer].entry, Grants: p.Grants})
	}
	got, _ := json.MarshalIndent(f.has, "", " ")
	if want, _ := json.MarshalIndent(v.Map(), "", " "); string(got) != string(want) {
		t.Fatalf("%s: %s has by deltas\n%s\nfrom nothing\n%s", where, f.st.id, got, want)
	}
}

// travel sends a message over the wire.
func travel[T any](t *testing.T, m *T) *T {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	sent := new(T)
	if err := wire.Unmarshal(b, sent); err != nil {
		t.Fatal(err)
	}
	return sent
}

// lives is a random world whose systems come and go.
type lives struct {
	*rand.Rand
	h         *hub
	now       time.Time
	followers map[wire.SystemID]*follower
}

// coming and going: what connect and disconnect do, without a store.
func (l *lives) move(t *testing.T) {
	for _, id := range slices.Sorted(maps.Keys(l.h.nodes)) {
		n, f := l.h.nodes[id], l.followers[id]
		switch {
		case f == nil && l.IntN(3) == 0 && !n.sys.Revoked:
			from := []string{"192.0.2.7:1", "198.51.100.7:1"}[l.IntN(2)]
			f = &follower{sender: &sender{hub: l.h, st: newStream(id, from, l.now)}, lazy: l.IntN(4) == 0}
			l.h.mu.Lock()
			l.h.join(n, f.st)
			l.h.mu.Unlock()
			f.look(t, l.now)
			l.h.sent(f.st, f.told.Revision(), f.told.Revision())
			l.followers[id] = f
		case f != nil && l.IntN(30) == 0:
			delete(l.followers, id)
			l.h.mu.Lock()
			l.h.leave(n, l.now)
			l.h.mu.Unlock()
		}
	}
}

// TestDeltasAreTheMapFromNothing makes random changes in random worlds: policies with
// hours, ends, trust and gateways; tags, marks, adds, expiry and revocation of systems;
// requirements; agents that come, go, move and are slow. After each, whatever an agent
// has that was not woken, or has looked, is the map from nothing, and whoever loses a
// peer is told why.
func TestDeltasAreTheMapFromNothing(t *testing.T) {
	deltas, cut, worlds := 0, 0, uint64(25)
	if testing.Short() {
		worlds = 5 // one goroutine, and long under the race detector
	}
	for seed := range worlds {
		l := &lives{Rand: rand.New(rand.NewPCG(seed, 11)), h: emptyHub(), followers: make(map[wire.SystemID]*follower),
			now: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)}
		h := l.h
		for step := range 60 {
			where := fmt.Sprintf("seed %d, step %d", seed, step)
			l.now = l.now.Add(time.Duration(l.IntN(40)) * time.Minute)
			h.mu.Lock()
			f := randomFresh(l.Rand, h, l.now)
			if f.rules != nil && l.IntN(2) == 0 { // requirements stay for a while
				f.rules, f.trust = nil, nil
			}
			f.made = []store.Revision{{Revision: f.revision, Action: "set.apply", Actor: "token:alice"}}
			var tr tried
			switch l.IntN(4) {
			case 0:
				h.advanceHeld(l.now)
				h.compare(&f, &tr, l.now)
			case 1:
				f.relays = []wire.Relay{{ID: "r1", Addr: "relay:443"}}[:l.IntN(2)]
				h.apply(f, l.now)
			default:
				h.apply(f, l.now)
			}
			h.mu.Unlock()
			for id, f := range l.followers {
				if n := h.nodes[id]; n == nil || n.sys.Revoked {
					if m := f.next(l.now); m == nil || m.Bye == nil {
						t.Fatalf("%s: %s is gone and hears %+v", where, id, m)
					}
					delete(l.followers, id)
				}
			}
			l.move(t)
			if ids := slices.Sorted(maps.Keys(l.followers)); len(ids) > 0 && l.IntN(2) == 0 {
				id := ids[l.IntN(len(ids))]
				h.heard(id, &wire.Report{Applied: l.followers[id].told.Revision(), Reach: &wire.Reach{NAT: []string{"easy", "hard"}[l.IntN(2)]}}, l.now)
			}
			h.mu.Lock()
			h.advanceHeld(l.now)
			h.mu.Unlock()
			for _, f := range l.followers {
				woken := len(f.st.wake) > 0
				if woken && f.lazy && l.IntN(5) > 0 {
					continue
				}
				if woken {
					<-f.st.wake
				}
				if woken || !l.now.Before(f.renewAt) {
					if d := f.look(t, l.now); d != nil {
						deltas++
						if len(d.Gone) > 0 {
							cut++
							if d.Cause == "" && !f.lazy {
								t.Fatalf("%s: %s loses %v and is not told why", where, f.st.id, d.Gone)
							}
						}
					}
				}
				f.check(t, where, l.now)
			}
			// Whoever waits is whom a walk over everybody finds.
			want := 0
			for _, n := range h.nodes {
				if n.stream != nil && !n.sys.Revoked && !n.applied(h.revision) {
					want++
				}
			}
			if got := h.Status(0); len(got.Waiting) != want || got.Applied != (want == 0) {
				t.Fatalf("%s: waiting for %v, want %d", where, got.Waiting, want)
			}
		}
	}
	if deltas < 40*int(worlds) || cut < 12*int(worlds) {
		t.Errorf("%d deltas, %d that part: the worlds are too dull", deltas, cut)
	}
}
