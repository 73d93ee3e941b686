package tunnel

import (
	"sync"
	"time"
)

const (
	// grownMost is how many connections of a system may have their receive windows grown at
	// the same time. What is in a window may have to be held: sixteen of the largest are 96
	// MiB, and twice that until the collector runs.
	grownMost = 3
	// grownAfter is what a connection has carried, in bytes, before its window grows.
	grownAfter = 1 << 20
	// grownIdle is after how long without data one gives its place to another.
	grownIdle = 5 * time.Second
)

// growth decides which connections may let their windows grow. The others keep
// defaultWindow, which together is more than a path of theirs is likely to need.
type growth struct {
	mu     sync.Mutex // guards places
	places [grownMost]struct {
		by   *tcpIO
		last time.Time
	}
}

// claim reports whether t, which has just got data, has a place.
func (g *growth) claim(t *tcpIO, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	free := -1
	for i := range g.places {
		p := &g.places[i]
		if p.by == t {
			p.last = now
			return true
		}
		if p.by == nil || now.Sub(p.last) > grownIdle {
			free = i
		}
	}
	if free < 0 {
		return false
	}
	g.places[free].by, g.places[free].last = t, now
	return true
}

// release gives up the place of t, if it has one.
func (g *growth) release(t *tcpIO) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.places {
		if g.places[i].by == t {
			g.places[i].by = nil
		}
	}
}
