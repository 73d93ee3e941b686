package tunnel

import (
	"sync"
	"time"
)

const (
	// busyAfter is what a connection has carried, in bytes, before its window is looked at.
	busyAfter = 1 << 20
	// busyStep is how often it is looked at from then on, in bytes.
	busyStep = 128 << 10

	// nearBy is the round trip from which on two systems are far from each other. Nearer
	// ones need little under way, and whatever is more waits in the kernel's buffer of the
	// receiver, until that overflows.
	nearBy = 10 * time.Millisecond
	// nearSum is what the receive buffers of all busy connections to near systems may be
	// together, in bytes, and nearLeast what each may be at least. Half of a buffer is
	// announced as a window: 3 MiB under way are 2.5 Gbit/s over 10 ms, and more where the
	// way is shorter.
	nearSum   = 6 << 20
	nearLeast = 256 << 10
	// nearIdle is after how long without data one counts no more.
	nearIdle = time.Second

	// farMost is how many connections to far systems may have their windows grown at the
	// same time. What is in a window may have to be held: sixteen of the largest are 96
	// MiB, and twice that until the collector runs.
	farMost = 3
	// farIdle is after how long without data one gives its place to another.
	farIdle = 5 * time.Second
)

// growth decides how large the receive buffers of busy connections are: decision 0207.
type growth struct {
	mu   sync.Mutex // guards busy
	busy []busy
}

// busy is a connection that carries much.
type busy struct {
	by   *tcpIO
	near bool
	last time.Time
}

// room says how large the buffer of t, which has just got data, is to be; 0: as it is. A
// far one that has a place may grow as its transfer needs it.
func (g *growth) room(t *tcpIO, near bool, now time.Time) (size int, grow bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept, same, known := g.busy[:0], 0, false
	for _, b := range g.busy {
		if b.by == t {
			b.last, known = now, true
		} else if idle := now.Sub(b.last); b.near && idle > nearIdle || !b.near && idle > farIdle {
			continue
		}
		if b.near == near {
			same++
		}
		kept = append(kept, b)
	}
	clear(g.busy[len(kept):])
	g.busy = kept
	if !known && (near || same < farMost) {
		g.busy = append(g.busy, busy{t, near, now})
		same, known = same+1, true
	}
	if near {
		return min(max(nearSum/same, nearLeast), maxWindow), false
	}
	return 0, known
}

// release forgets t.
func (g *growth) release(t *tcpIO) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.busy {
		if g.busy[i].by == t {
			last := len(g.busy) - 1
			g.busy[i], g.busy[last] = g.busy[last], busy{}
			g.busy = g.busy[:last]
			return
		}
	}
}
