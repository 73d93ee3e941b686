package paths

import (
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/e2e/natlab"
)

// lossySilence is what chance alone reaches less than once in a million runs. Of the 72,000
// packets of both flows in ten hours, each may be the last to arrive before n in a row are
// lost: 72,000 x 0.7 x 0.3^n, which is 5e-7 for n = 21, and then 22 s without any. About
// every second run sees 10 s.
const lossySilence = 23 * time.Second

// TestTenLossyHours has a pair talk for ten hours over a link that loses a third of
// everything, both ways. Nobody is to be taken for dead: there is always a way, something
// always comes, and the pair is direct for nearly all of the time.
func TestTenLossyHours(t *testing.T) {
	bad := natlab.LinkConfig{Latency: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: .30, Reorder: .05, Duplicate: .05}
	hours := 10 * time.Hour
	if testing.Short() {
		hours = time.Hour
	}
	t.Logf("seed %d", baseSeed())
	scenario(t, baseSeed(), 1, func(w *world) {
		alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Easy()), natlab.Over(bad)))
		bob := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(natlab.Easy()), wireLink))
		time.Sleep(10 * time.Second)
		w.introduce(alice, bob)
		ab, ba := alice.flow(bob, time.Second), bob.flow(alice, time.Second)
		if _, ok := w.until(2*time.Minute, func() bool { return direct(alice, bob) }); !ok {
			w.t.Fatal("never direct")
		}
		begun := time.Now()
		var without, straight int
		const look = 250 * time.Millisecond
		for range int(hours / look) {
			time.Sleep(look)
			if alice.route(bob).Route.IsNone() || bob.route(alice).Route.IsNone() {
				without++
			}
			if direct(alice, bob) {
				straight++
			}
		}
		relayed := func(r link.Route) bool { return !r.IsDirect() }
		left := alice.routes.count(begun, relayed) + bob.routes.count(begun, relayed)
		gap := max(ab.gap(begun), ba.gap(begun))
		ab.end()
		ba.end()
		t.Logf("%v at 30 %% loss, 5 %% reordering, 5 %% duplication: no way in %d of %d looks; direct in %.2f %%, left %d times; longest silence %v of a packet a second",
			hours, without, int(hours/look), 100*float64(straight)/float64(hours/look), left, gap.Round(time.Millisecond))
		if without > 0 || gap > lossySilence {
			w.t.Errorf("a peer that was there was taken for dead: %d looks without a way, %v of silence", without, gap)
		}
	})
}

// TestIdleAgents counts what an agent sends that has nothing to say: alone, and with a
// peer that it has a direct path to.
func TestIdleAgents(t *testing.T) {
	for _, peers := range []int{0, 1, 10} {
		scenario(t, baseSeed(), 1, func(w *world) {
			alice := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Easy()), wireLink))
			for i := range peers {
				name := "peer" + string(rune('0'+i))
				w.introduce(alice, w.system(name, w.lab.Host(name, w.lab.Behind(natlab.Easy()), wireLink)))
			}
			time.Sleep(10 * time.Minute)
			before, sent := w.sentBy(alice), alice.link.Status()
			time.Sleep(time.Hour)
			after := w.sentBy(alice)
			n := 0
			for _, p := range sent {
				if p.Route.IsDirect() {
					n++
				}
			}
			if n != peers {
				w.t.Errorf("%d of %d idle peers are direct", n, peers)
			}
			t.Logf("idle, %d peers: %d packets an hour, %d bytes", peers, after.Packets-before.Packets, after.Bytes-before.Bytes)
		})
	}
}

// sentBy is all that left the host and arrived anywhere.
func (w *world) sentBy(s *system) (sum natlab.Traffic) {
	w.lab.EachTraffic(func(from, _ string, t natlab.Traffic) {
		if from == string(s.name) {
			sum.Packets += t.Packets
			sum.Bytes += t.Bytes
		}
	})
	return sum
}
