package tunnel

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight
		f.init()
		f.wait() // nothing under way: no wait
		f.enter(maxFlight + 1)
		began := time.Now()
		go f.leave(1)
		f.wait()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v although one left", waited)
		}
		f.enter(100)
		f.wait() // nobody leaves: they are lost
		if waited := time.Since(began); waited != lostAfter {
			t.Errorf("waited %v for what is lost, want %v", waited, lostAfter)
		}
		if f.full() {
			t.Error("what is lost still counts")
		}
		f.leave(5000) // what was only late, and what entered unseen
		f.enter(maxFlight)
		f.wait()
		if waited := time.Since(began); waited != lostAfter {
			t.Errorf("waited %v with as many as may be under way", waited)
		}
		f.enter(1)
		if !f.full() {
			t.Error("what was late makes room for more than may be under way")
		}
	})
}

func TestFlightDoesNotAllocate(t *testing.T) {
	var f flight
	f.init()
	f.enter(maxFlight + 1)
	f.progress <- struct{}{}
	if n := testing.AllocsPerRun(100, func() {
		f.leave(1)
		f.enter(1)
		f.wait()
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
