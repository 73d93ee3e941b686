package tunnel

import (
	"testing"
	"time"
)

// TestWindowsGrowForAFew: places are for those that get data, and go from the silent and
// the closed to others.
func TestWindowsGrowForAFew(t *testing.T) {
	var g growth
	now := time.Unix(1000, 0)
	conns := make([]*tcpIO, grownMost+2)
	for i := range conns {
		conns[i] = new(tcpIO)
		if got, want := g.claim(conns[i], now), i < grownMost; got != want {
			t.Fatalf("connection %d: %t", i, got)
		}
	}
	late := conns[grownMost]
	g.release(late) // has none
	if g.release(conns[1]); !g.claim(late, now) || g.claim(conns[1], now) {
		t.Fatal("a place that was given up is not the next one's")
	}
	now = now.Add(grownIdle)
	for _, c := range append([]*tcpIO{conns[0], late}, conns[3:grownMost]...) { // all but 2
		g.claim(c, now)
	}
	now = now.Add(time.Millisecond)
	if last := conns[grownMost+1]; !g.claim(last, now) || g.claim(conns[2], now) || !g.claim(conns[0], now) {
		t.Fatal("the place of who is silent is not another's")
	}
}
