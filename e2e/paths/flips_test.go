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
		g := w.relays[0].turn()
		g.mu.Lock()
		g.honest, g.shunned = true, idOf("bobby")
		g.mu.Unlock()
		time.Sleep(5 * time.Second)
		w.relays[1].kill()
		time.Sleep(40 * time.Second) // alice is at home at the rogue's
		w.relays[1].start()
		time.Sleep(60 * time.Second) // and bobby at the honest one
		g.mu.Lock()
		g.shunned = frame.ID{}
		g.mu.Unlock()
		time.Sleep(60 * time.Second)
		if a.link.NetInfo().Home != "r1" || b.link.NetInfo().Home != "r2" {
			t.Fatalf("at home at %s and %s", a.link.NetInfo().Home, b.link.NetInfo().Home)
		}
		stop := make(chan struct{})
		go g.lies(stop)
		var changes [2]int
		var last [2]wire.RelayID
		begun := time.Now()
		for time.Since(begun) < 2*time.Minute {
			for i, s := range w.systems {
				if r := s.link.Status()[0].Route.Relay; r != last[i] {
					last[i], changes[i] = r, changes[i]+1
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		close(stop)
		t.Logf("changes of the way: %v", changes)
		if changes[0]+changes[1] > 8 {
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
