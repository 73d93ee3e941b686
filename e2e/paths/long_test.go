package paths

import (
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/e2e/natlab"
)

// lossyEvery is the rhythm of the packets, and lossySilence the longest time without any. By
// loss alone it cannot be reached: of the 288,000 packets of both flows, each may be the last
// to arrive before n in a row are lost, 288,000 x 0.7 x 0.3^n, which is 6e-7 for n = 22, and
// then 6 s without any. What is left are the moments by the relay, some six of 3 s each,
// where TCP may have to send again: to stand still for 15 s it takes seven losses of one
// segment, 2e-4, and a direct path that does not come back meanwhile, of four pings every
// few seconds from either side, half of which are answered, less than 1e-4. A session of
// which the two sides keep different halves, which is what this looks for, is silent for
// longer: WireGuard waits for 15 s before it asks again.
const (
	lossyEvery   = 250 * time.Millisecond
	lossySilence = 15 * time.Second
)

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
		ab, ba := alice.flow(bob, lossyEvery), bob.flow(alice, lossyEvery)
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
		t.Logf("%v at 30 %% loss, 5 %% reordering, 5 %% duplication: no way in %d of %d looks; direct in %.2f %%, left %d times; longest silence %v of a packet every %v",
			hours, without, int(hours/look), 100*float64(straight)/float64(hours/look), left, gap.Round(time.Millisecond), lossyEvery)
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
