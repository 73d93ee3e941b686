package paths

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"enclave/e2e/natlab"
)

// must is what every event has to keep (the gap by relay, then direct again).
const (
	mustFlow   = 5 * time.Second
	mustDirect = 30 * time.Second
)

// event is something that breaks what a pair stands on.
type event struct {
	name   string
	a, b   natlab.NATConfig // the networks before
	relays int
	direct bool                                       // the pair is direct before, and again after
	break_ func(w *world, a, b *system) time.Duration // does it; how long nothing can flow whatever the systems do
}

var events = []event{
	{"rebinding", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.Network().Router().Rebind()
		return 0
	}},
	{"rebinding of both", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.Network().Router().Rebind()
		b.host.Network().Router().Rebind()
		return 0
	}},
	{"rebinding, relayed", natlab.Hard(), natlab.Hard(), 1, false, func(w *world, a, b *system) time.Duration {
		a.host.Network().Router().Rebind()
		return 0
	}},
	{"roaming", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.MoveTo(w.lab.Behind(natlab.EasyAF()))
		return 0
	}},
	{"roaming without control", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		w.mu.Lock()
		w.frozen = true
		w.mu.Unlock()
		a.host.MoveTo(w.lab.Behind(natlab.Easy()))
		return 0
	}},
	{"roaming of both", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.MoveTo(w.lab.Behind(natlab.Easy()))
		b.host.MoveTo(w.lab.Behind(natlab.FullCone()))
		return 0
	}},
	{"roaming, relayed", natlab.Hard(), natlab.Hard(), 1, false, func(w *world, a, b *system) time.Duration {
		a.host.MoveTo(w.lab.Behind(natlab.UDPBlocked()))
		return 0
	}},
	{"suspend for 5 min", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.Suspend()
		time.Sleep(5 * time.Minute)
		a.host.Resume()
		return 0
	}},
	{"suspend, wake elsewhere", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.Suspend()
		time.Sleep(5 * time.Minute)
		a.host.MoveTo(w.lab.Behind(natlab.Easy()))
		a.host.Resume()
		return 0
	}},
	{"relay unplugged, another there", natlab.Hard(), natlab.Hard(), 2, false, func(w *world, a, b *system) time.Duration {
		w.home(a).host.Disconnect()
		return 0
	}},
	{"partition of the direct path", natlab.Easy(), natlab.Easy(), 1, false, func(w *world, a, b *system) time.Duration {
		w.lab.Partition(a.host, b.host)
		return 0
	}},
	{"partition heals", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		w.lab.Partition(a.host, b.host)
		time.Sleep(40 * time.Second)
		w.lab.Heal(a.host, b.host)
		return 0
	}},
	{"router reboot of 20 s", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		a.host.Network().Router().Reboot(20 * time.Second)
		return 20 * time.Second
	}},
	{"router reboot of 20 s, relayed", natlab.Hard(), natlab.Hard(), 1, false, func(w *world, a, b *system) time.Duration {
		a.host.Network().Router().Reboot(20 * time.Second)
		return 20 * time.Second
	}},
	{"relay killed, another there", natlab.Hard(), natlab.Hard(), 2, false, func(w *world, a, b *system) time.Duration {
		w.home(a).kill()
		return 0
	}},
	{"relay restarted", natlab.Hard(), natlab.Hard(), 1, false, func(w *world, a, b *system) time.Duration {
		w.relays[0].kill()
		w.relays[0].start()
		return 0
	}},
	{"relay killed, direct pair", natlab.Easy(), natlab.Easy(), 1, true, func(w *world, a, b *system) time.Duration {
		w.relays[0].kill()
		return 0
	}},
}

// home is the relay where others find s.
func (w *world) home(s *system) *station {
	for _, r := range w.relays {
		if r.info.ID == s.link.NetInfo().Home {
			return r
		}
	}
	w.t.Fatalf("%s has no home relay", s.name)
	return nil
}

// TestEvents breaks what pairs stand on, at random moments, and measures how long
// nothing arrived and when they were direct again.
func TestEvents(t *testing.T) {
	t.Logf("seed %d", baseSeed())
	runs := 25
	if testing.Short() {
		runs = 1
	}
	const every = 20 * time.Millisecond
	for i, e := range events {
		t.Run(e.name, func(t *testing.T) {
			var gaps, again figures
			late := 0
			for n := range runs {
				seed := baseSeed() + uint64(1000*i+n)
				scenario(t, seed, e.relays, func(w *world) {
					rng := rand.New(rand.NewPCG(seed, 7))
					alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(e.a), wireLink))
					bob := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(e.b), wireLink))
					time.Sleep(5 * time.Second)
					w.introduce(alice, bob)
					ab, ba := alice.flow(bob, every), bob.flow(alice, every)
					if wasDirect := e.direct || e.name == "partition of the direct path"; wasDirect {
						if _, ok := w.until(30*time.Second, func() bool { return direct(alice, bob) }); !ok {
							w.t.Fatal("not direct to begin with")
						}
					}
					time.Sleep(5*time.Second + time.Duration(rng.Int64N(int64(20*time.Second))))
					begun := time.Now()
					out := e.break_(w, alice, bob)
					from := time.Now().Add(out)
					if time.Since(begun) > 0 { // it took its time: what counts is from its end
						from = time.Now()
					}
					time.Sleep(time.Until(from))
					took, ok := time.Duration(0), true
					if e.direct {
						took, ok = w.settled(alice, bob, time.Minute)
					} else {
						time.Sleep(40 * time.Second)
					}
					gap := max(ab.gap(from), ba.gap(from))
					gaps.add(gap)
					again.add(took)
					if e.name == "relay killed, direct pair" {
						time.Sleep(10 * time.Second)
						if n := ab.lost(from, time.Now().Add(-time.Second), every) + ba.lost(from, time.Now().Add(-time.Second), every); n > 0 {
							w.t.Errorf("a direct pair lost %d packets with its relay", n)
						}
					}
					if gap > mustFlow {
						late++
						w.t.Logf("nothing came for %v (seed %d)", gap, seed)
					}
					if gap > mustFlow+time.Second || late > 1 { // p99 is to be within mustFlow
						w.t.Errorf("nothing came for %v, %d of %d times too long", gap, late, n+1)
					}
					if !ok || took > mustDirect {
						w.t.Errorf("direct again: %v, after %v (%s, %s)", ok, took, alice.route(bob).Why, bob.route(alice).Why)
					}
					ab.end()
					ba.end()
				})
			}
			line := fmt.Sprintf("gap %v", &gaps)
			if e.direct {
				line += fmt.Sprintf("; direct again %v", &again)
			}
			t.Log(line)
		})
	}
}

// settled watches for d and reports when the last moment was at which the pair was not
// direct or nothing came; false: that is so to the end.
func (w *world) settled(a, b *system, d time.Duration) (took time.Duration, ok bool) {
	begun := time.Now()
	for time.Since(begun) < d {
		time.Sleep(50 * time.Millisecond)
		if ok = direct(a, b) && w.passes(a, b); !ok {
			took = time.Since(begun)
		}
	}
	return took, ok
}

// passes reports whether packets arrived both ways within the last moments.
func (w *world) passes(a, b *system) bool {
	from := time.Now().Add(-200 * time.Millisecond)
	return len(a.heard.since(from)) > 0 && len(b.heard.since(from)) > 0
}
