package paths

import (
	"testing"
	"time"

	"enclave/e2e/natlab"
)

// TestNoSharedRelay: two systems are at home at two relays, and the one that begins finds no
// way to the other's, of which it learns when it has something to say: nothing answers there.
// The other one, which is idle, is told by control and comes; when it finds no way there
// either, both go to a third.
func TestNoSharedRelay(t *testing.T) {
	for _, c := range []struct {
		name     string
		firewall natlab.NATConfig
		relays   int
		within   time.Duration
	}{
		{"blocked", natlab.UDPBlocked(), 2, time.Second},
		{"hard", natlab.Hard(), 2, time.Second},
		{"a third", natlab.Hard(), 3, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, baseSeed(), c.relays, func(w *world) {
				alice := w.system("alice", behind("a", c.firewall).place(w.lab, "alice"))
				bob := w.system("bobby", behind("b", natlab.Hard()).place(w.lab, "bobby"))
				alice.link.SetRelays(w.list[:1])
				bob.link.SetRelays(w.list[1:2])
				time.Sleep(10 * time.Second)
				alice.link.SetRelays(w.list)
				bob.link.SetRelays(w.list)
				time.Sleep(30 * time.Second)
				if a, b := alice.link.Reach().Relay, bob.link.Reach().Relay; a != "r1" || b != "r2" {
					t.Errorf("at home at %s and %s", a, b)
				}
				w.introduce(alice, bob)
				time.Sleep(10 * time.Minute) // nobody has anything to say
				w.lab.Partition(alice.host, w.relays[1].host)
				if c.relays > 2 {
					w.lab.Partition(bob.host, w.relays[0].host)
				}
				begun := time.Now()
				f := alice.flow(bob, 20*time.Millisecond)
				took, ok := w.until(20*time.Second, func() bool { return len(bob.heard.since(begun)) > 0 })
				if t.Logf("heard after %v", took); !ok || took >= c.within {
					t.Errorf("the first byte came after %v", took)
				}
				time.Sleep(5 * time.Second)
				from := time.Now()
				time.Sleep(30 * time.Second)
				if lost := f.lost(from, time.Now().Add(-time.Second), 20*time.Millisecond); lost > 0 {
					t.Errorf("%d packets lost afterwards", lost)
				}
				f.end()
			})
		})
	}
}
