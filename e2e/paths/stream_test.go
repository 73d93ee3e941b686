package paths

import (
	"fmt"
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/e2e/natlab"
)

// TestGridByTCP puts every kind against systems that take streams. A pair is direct by UDP
// where the theory permits that, else by TCP where it permits that, and never without a way.
func TestGridByTCP(t *testing.T) {
	t.Logf("seed %d", baseSeed())
	hosts := kinds()
	var first, took figures
	counts := map[string]int{}
	for i, a := range hosts {
		for j, b := range hosts[:3] { // public, host-firewall, full-cone
			for k, port := range []uint16{443, 8443} {
				if testing.Short() && (3*i+2*j+k)%7 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s~%s:%d", a.name, b.name, port), func(t *testing.T) {
					scenario(t, baseSeed()+uint64(10000+100*i+10*j+k), 1, func(w *world) {
						alice := w.system("alice", a.place(w.lab, "alice"))
						bob := w.system("bobby", b.place(w.lab, "bobby"), listenAt(port))
						udp := possible(a, b)
						tcp := !udp && !a.no4 && !b.no4 && natlab.StreamPossible(a.v4, b.v4, port)
						begun, direct := w.meet(alice, bob, udp || tcp)
						first.add(begun)
						if r := alice.route(bob).Route; r.Stream.IsValid() != tcp || r.Direct.IsValid() != udp {
							t.Errorf("route %v; the theory says UDP %v, TCP %v", r, udp, tcp)
						}
						switch {
						case tcp:
							took.add(direct)
							counts["by TCP"]++
						case udp:
							counts["by UDP"]++
						default:
							counts["by relay"]++
						}
					})
				})
			}
		}
	}
	t.Logf("%v as they must; first byte %v; direct by TCP %v", counts, &first, &took)
}

func listenAt(port uint16) func(*link.Config) {
	return func(c *link.Config) { c.Streams.Listen = fmt.Sprintf(":%d", port) }
}

// TestAStreamOutlivesTheRelay: a pair that talks by TCP does not notice that the relay dies,
// and finds a new stream when the first one is cut.
func TestAStreamOutlivesTheRelay(t *testing.T) {
	scenario(t, baseSeed(), 1, func(w *world) {
		alice := w.system("alice", behind("blocked", natlab.UDPBlocked()).place(w.lab, "alice"))
		bob := w.system("bobby", kinds()[0].place(w.lab, "bobby"), listenAt(443))
		w.meet(alice, bob, true)
		every := 20 * time.Millisecond
		there, back := alice.flow(bob, every), bob.flow(alice, every)
		time.Sleep(time.Second)
		from := time.Now()
		w.relays[0].kill()
		time.Sleep(30 * time.Second)
		until := time.Now().Add(-time.Second)
		for _, f := range []*flow{there, back} {
			if lost := f.lost(from, until, every); lost > 0 {
				t.Errorf("%s: %d packets lost when the relay died", f.from.name, lost)
			}
		}
		w.lab.Partition(alice.host, bob.host)
		time.Sleep(10 * time.Second)
		w.lab.Heal(alice.host, bob.host)
		healed := time.Now()
		w.until(time.Minute, func() bool { return len(bob.heard.since(healed)) > 0 && len(alice.heard.since(healed)) > 0 })
		if gap := time.Since(healed); gap > 30*time.Second {
			t.Errorf("back %v after the cut was mended", gap)
		} else {
			t.Logf("back %v after the cut was mended, with no relay and no UDP", gap)
		}
		there.end()
		back.end()
	})
}
