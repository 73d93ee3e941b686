package link

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

// refuse cuts a host off from a relay's TCP port.
func (w *world) refuse(n *node, id wire.RelayID) {
	w.lab.mu.Lock()
	defer w.lab.mu.Unlock()
	if n.ground.no == nil {
		n.ground.no = map[netip.Addr]bool{}
	}
	n.ground.no[w.relays[id].host.addr] = true
	for _, c := range n.ground.conns { // what was open dies as well
		go c.Close()
	}
}

// homeIs moves n's home to a relay by leaving it no other for a while.
func (w *world) homeIs(n *node, id wire.RelayID) {
	w.t.Helper()
	i := slices.IndexFunc(w.list, func(r wire.Relay) bool { return r.ID == id })
	n.SetRelays(w.list[i : i+1])
	w.until(10*time.Second, "home "+string(id), func() bool { return n.Reach().Relay == id })
	n.SetRelays(w.list)
}

// TestPeerComesToOurHome: the sender finds no way to the receiver's home, and the
// receiver, which had nothing to say, is told and comes to the sender's.
func TestPeerComesToOurHome(t *testing.T) {
	run(t, "hard", "hard", 2, func(w *world) {
		w.homeIs(w.alice, "r1")
		w.homeIs(w.bob, "r2")
		time.Sleep(10 * time.Minute) // nobody wants anything
		w.refuse(w.alice, "r2")
		took := w.until(15*time.Second, "alice is heard", func() bool { return w.alice.say("hello" + time.Now().String()) })
		t.Logf("after %v", took)
		if got := w.alice.Reach().Unreachable; !slices.Equal(got, []wire.RelayID{"r2"}) {
			t.Errorf("alice says that she cannot reach %v", got)
		}
		if !w.bob.say("hello") || w.bob.status().Route.Relay != "r1" {
			t.Errorf("bob answers by %v", w.bob.status().Route)
		}
		time.Sleep(20 * time.Minute) // bob stays where he is looked for
		if !w.alice.say("at once") {
			t.Error("not heard after a pause")
		}
		if home := w.bob.Reach().Relay; home != "r2" {
			t.Errorf("bob's home is %q", home)
		}
	})
}

// TestMeetAtAThird: neither reaches the other's home.
func TestMeetAtAThird(t *testing.T) {
	run(t, "hard", "blocked", 3, func(w *world) {
		w.homeIs(w.alice, "r1")
		w.homeIs(w.bob, "r2")
		w.refuse(w.alice, "r2")
		w.refuse(w.bob, "r1")
		both := func() bool { return w.alice.say("a "+time.Now().String()) && w.bob.say("b "+time.Now().String()) }
		time.Sleep(time.Second)
		t.Logf("after %v", w.until(20*time.Second, "both are heard", both))
		for _, n := range []*node{w.alice, w.bob} {
			if r := n.status().Route.Relay; r != "r3" {
				t.Errorf("by %s", r)
			}
		}
		if lost := w.talk(5 * time.Minute); lost > 0 {
			t.Errorf("%d lost at the third relay", lost)
		}
		time.Sleep(30 * time.Minute)
		w.until(20*time.Second, "heard after a pause", both)
	})
}

// TestBothAgreeOnAThird: whatever the two find out of reach, both look at one place.
func TestBothAgreeOnAThird(t *testing.T) {
	for range 2000 {
		var links [2]*Link
		var out [2][]wire.RelayID
		for i := range links {
			links[i] = &Link{relays: relaySet{conns: map[wire.RelayID]*relayConn{}}}
			for n := range 6 {
				id := wire.RelayID(fmt.Sprint("r", n))
				links[i].relays.list = append(links[i].relays.list, wire.Relay{ID: id})
				rc := &relayConn{id: id, failing: rand.N(3) == 0}
				if links[i].relays.conns[id] = rc; rc.failing {
					out[i] = append(out[i], id)
				}
			}
		}
		var at [2]wire.RelayID
		for i, l := range links {
			if rc := l.thirdLocked(&peer{reach: wire.Reach{Unreachable: out[1-i]}}); rc != nil {
				at[i] = rc.id
			}
		}
		if at[0] != at[1] {
			t.Fatalf("one goes to %q, the other to %q; out of reach: %v", at[0], at[1], out)
		}
	}
}

// TestRelayDies: with or without a word, a relayed pair is back in five seconds, control
// or no control.
func TestRelayDies(t *testing.T) {
	for name, die := range map[string]func(w *world, r *testRelay){
		"killed": func(_ *world, r *testRelay) { r.kill() },
		"silent": func(w *world, r *testRelay) { // as a machine that lost its power
			for _, s := range r.socks {
				s.Close()
			}
			w.lab.mu.Lock()
			defer w.lab.mu.Unlock()
			r.host.tcp[443] = func(c net.Conn) {} // takes connections, and never a word
			for _, g := range []*ground{r.host, w.alice.ground, w.bob.ground} {
				for _, c := range g.conns {
					c.hole.Store(true)
				}
			}
		},
	} {
		for _, control := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, control %v", name, control), func(t *testing.T) {
				run(t, "hard", "hard", 3, func(w *world) {
					w.until(10*time.Second, "relayed", func() bool { return w.alice.say("first" + time.Now().String()) })
					w.talk(5 * time.Second)
					home := w.alice.Reach().Relay
					w.frozen.Store(!control)
					died := time.Now()
					die(w, w.relays[home])
					last := died
					for time.Since(died) < 20*time.Second {
						if w.talk(400*time.Millisecond) > 0 {
							last = time.Now()
						}
					}
					gap := last.Sub(died)
					t.Logf("back after %v", gap)
					if gap > 5*time.Second {
						t.Errorf("gone for %v", gap)
					}
					if now := w.alice.Reach().Relay; now == home {
						t.Error("home is still the dead relay")
					}
				})
			})
		}
	}
}

// TestLatencyWithoutUDP: where no STUN answers, the home is chosen by opening
// connections.
func TestLatencyWithoutUDP(t *testing.T) {
	run(t, "blocked", "blocked", 3, func(w *world) {
		w.lab.mu.Lock()
		w.relays["r1"].host.far, w.relays["r2"].host.far, w.relays["r3"].host.far = 300*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond
		w.lab.mu.Unlock()
		w.until(6*time.Minute, "the nearest is home", func() bool { return w.alice.Reach().Relay == "r2" && w.bob.Reach().Relay == "r2" })
		for _, r := range w.alice.NetInfo().Relays {
			if r.RTT == 0 {
				t.Errorf("%s was not measured", r.ID)
			}
		}
		if lost := w.talk(time.Minute); lost > 0 {
			t.Errorf("%d lost", lost)
		}
	})
}

// TestDrainedRelayIsLeft: who has another relay leaves the one that drains, and loses
// nothing.
func TestDrainedRelayIsLeft(t *testing.T) {
	run(t, "hard", "hard", 2, func(w *world) {
		w.until(10*time.Second, "relayed", func() bool { return w.alice.say("first" + time.Now().String()) })
		w.talk(3 * time.Second)
		r := w.relays[w.alice.Reach().Relay]
		r.drain(10 * time.Second)
		begun := time.Now()
		lost := 0
		for r.clients() > 0 && time.Since(begun) < 10*time.Second {
			lost += w.talk(400 * time.Millisecond)
		}
		t.Logf("left after %v", time.Since(begun))
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("clients stay for %v", took)
		}
		if lost += w.talk(20 * time.Second); lost > 0 {
			t.Errorf("%d messages lost", lost)
		}
		if r.clients() > 0 {
			t.Error("somebody came back")
		}
	})
}

// TestARelayIsBelievedSeldom: one that says without end that a peer has left and is back is
// believed a few times, then every awayFor; when it has stopped, at once again.
func TestARelayIsBelievedSeldom(t *testing.T) {
	p := &peer{where: map[wire.RelayID]presence{}}
	now := time.Unix(1000, 0)
	back := 0
	for range 60 * 10 { // a minute of lies
		p.setAway("r", now)
		if p.setHere("r", now) {
			back++
		}
		now = now.Add(100 * time.Millisecond)
	}
	if back != mayReturn || p.where["r"].here {
		t.Errorf("believed %d times, want %d", back, mayReturn)
	}
	if !p.absent.Load() {
		t.Error("the data path does not ask")
	}
	now = now.Add(awayFor)
	if !p.setHere("r", now) || p.absent.Load() {
		t.Error("not believed when its last word is old")
	}
	p.setAway("r", now)
	if p.setHere("r", now) {
		t.Error("believed as before")
	}
	now = now.Add(mayReturnIn)
	p.setAway("r", now)
	if !p.setHere("r", now) {
		t.Error("not believed at once although it has stopped")
	}
}
