package paths

import (
	"maps"
	"testing"
	"time"

	"enclave/e2e/natlab"
	"enclave/wire"
	"enclave/wire/frame"
)

// lies has the rogue say without end what is not so: that everybody has gone and is back,
// and that tickets are missing.
func (g *rogue) lies(stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		g.mu.Lock()
		clients := maps.Clone(g.clients)
		g.mu.Unlock()
		for me, v := range clients {
			for other := range clients {
				if other != me {
					b := frame.AppendOpened(frame.AppendPeerGone(nil, other), other, i%2 == 0)
					v.write(frame.AppendRefused(b, other, frame.NoTicket))
				}
			}
		}
	}
}

// TestARelayThatLiesAboutPresence: a pair that has an honest relay, too, talks on, and its
// way does not change for ever.
func TestARelayThatLiesAboutPresence(t *testing.T) {
	scenario(t, baseSeed(), 2, func(w *world) {
		a := w.system("alice", w.lab.Host("alice", w.lab.Behind(natlab.Hard()), wireLink))
		b := w.system("bobby", w.lab.Host("bobby", w.lab.Behind(natlab.Hard()), wireLink))
		time.Sleep(5 * time.Second)
		w.introduce(a, b)
		flows := []*flow{a.flow(b, 20*time.Millisecond), b.flow(a, 20*time.Millisecond)}
		time.Sleep(10 * time.Second)
		g := w.relays[0].turn()
		g.honest = true
		time.Sleep(5 * time.Second)
		w.relays[1].kill()
		time.Sleep(40 * time.Second)
		w.relays[1].start() // both are at home at the rogue's, and could go elsewhere
		time.Sleep(15 * time.Second)
		if a.link.NetInfo().Home != "r1" || b.link.NetInfo().Home != "r1" {
			t.Fatalf("at home at %s and %s", a.link.NetInfo().Home, b.link.NetInfo().Home)
		}
		stop := make(chan struct{})
		go g.lies(stop)
		var changes int
		var last wire.RelayID
		begun := time.Now()
		for time.Since(begun) < 2*time.Minute {
			if r := a.link.Status()[0].Route.Relay; r != last {
				last, changes = r, changes+1
			}
			time.Sleep(5 * time.Millisecond)
		}
		close(stop)
		if changes > 4 {
			t.Errorf("the way has changed %d times in two minutes", changes)
		}
		for _, f := range flows {
			if lost := f.lost(begun, time.Now().Add(-time.Second), 20*time.Millisecond); lost > 60 {
				t.Errorf("%s to %s: %d of %d lost", f.from.name, f.to.name, lost, f.sent.Load())
			}
			f.end()
		}
	})
}
