package link

import (
	"testing"
	"time"
)

// TestSidesAreBoundedAndClosed: the sockets of a spray that finds nothing are closed, one
// peer at a time has some, and nothing is left when it is removed under them.
func TestSidesAreBoundedAndClosed(t *testing.T) {
	most := 0
	for _, removed := range []bool{false, true} {
		runWith(t, "easy", "hard", 1, func(g *ground) { g.spray = 40 }, func(w *world) {
			count := func() (open int) {
				w.bob.Link.mu.Lock()
				defer w.bob.Link.mu.Unlock()
				for _, p := range w.bob.peers {
					for _, s := range p.sides {
						if s != nil {
							open++
						}
					}
				}
				return open
			}
			talk := func() {
				w.alice.sendRaw(initiationOf("x"))
				w.bob.sendRaw(initiationOf("x"))
			}
			for range 100 { // the pair stays in use, and relayed
				talk()
				time.Sleep(200 * time.Millisecond)
				if n := count(); n > most {
					most = n
				}
				if removed && most == 40 {
					break
				}
			}
			if removed {
				w.bob.SetPeers(nil)
				time.Sleep(time.Second)
				w.bob.Link.mu.Lock()
				defer w.bob.Link.mu.Unlock()
				if w.bob.spraying != nil || len(w.bob.shut) > 0 {
					t.Error("a peer that is gone still sprays")
				}
				return
			}
			for range 6 * 60 {
				talk()
				time.Sleep(time.Second)
			}
			n, main := count(), 1
			w.bob.Link.mu.Lock()
			if w.bob.peers["alice"].won != nil { // they may meet: once in some 20 runs
				main++
			}
			if n > 0 || w.bob.spraying != nil {
				t.Errorf("%d sockets are left after the last attempt", n)
			}
			w.bob.Link.mu.Unlock()
			host := w.bob.ground
			w.lab.mu.Lock()
			defer w.lab.mu.Unlock()
			if n := len(host.udp); n > main {
				t.Errorf("%d sockets are open", n)
			}
		})
	}
	if most != 40 {
		t.Errorf("%d sockets were open at most, want 40", most)
	}
}
