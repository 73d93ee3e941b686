package link

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Who calls by TCP is counted before it has proved who it is: how many there are, how many
// of one network, and how often one network comes. A caller that proves to be a peer gives
// its place back; a stranger is sent nothing and closed. When all places are taken, whoever
// has waited longest goes, as at a relay (docs/decisions/0187): an honest handshake is over
// after two round trips.
const (
	doorSlots = 64 // callers that have not proved who they are
	doorSame  = 8  // of one prefix: /24 of IPv4, /48 of IPv6
	doorRate  = rate.Limit(4)
	doorBurst = 16
	doorTable = 4096 // prefixes that are remembered
)

// door counts callers.
type door struct {
	mu      sync.Mutex // guards what follows
	waiting list.List  // of *caller, the oldest first
	sources map[netip.Prefix]*source
}

type source struct {
	inside int
	rate   *rate.Limiter
}

// caller is one that was let in to prove who it is.
type caller struct {
	from netip.Prefix
	at   *list.Element // nil once it has left, or was turned out
	cut  func()        // ends its connection; it must not block
}

// enter counts a caller in; nil: its network has no place for it. Another may be turned out
// for it.
func (d *door) enter(from netip.Prefix, cut func(), now time.Time) *caller {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.source(from, now)
	if s.inside >= doorSame || !s.rate.AllowN(now, 1) {
		return nil
	}
	if d.waiting.Len() >= doorSlots {
		d.turnOut()
	}
	s.inside++
	c := &caller{from: from, cut: cut}
	c.at = d.waiting.PushBack(c)
	return c
}

// source is what is known of a network. Of more than can be remembered one that has nobody
// inside is forgotten: those of a flood come back as new ones, and are 64 at a time anyway.
// The caller holds mu.
func (d *door) source(from netip.Prefix, now time.Time) *source {
	s := d.sources[from]
	if s != nil {
		return s
	}
	if len(d.sources) >= doorTable {
		for p, old := range d.sources {
			if old.inside == 0 && old.rate.TokensAt(now) >= doorBurst {
				delete(d.sources, p)
			}
		}
	}
	for p, old := range d.sources {
		if len(d.sources) < doorTable {
			break
		}
		if old.inside == 0 {
			delete(d.sources, p)
		}
	}
	if d.sources == nil {
		d.sources = make(map[netip.Prefix]*source)
	}
	s = &source{rate: rate.NewLimiter(doorRate, doorBurst)}
	d.sources[from] = s
	return s
}

// room turns somebody out, when there is somebody.
func (d *door) room() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turnOut()
}

// turnOut ends the call that is the oldest; false: there is none. The caller holds mu.
func (d *door) turnOut() bool {
	e := d.waiting.Front()
	if e == nil {
		return false
	}
	c := e.Value.(*caller)
	d.gone(c)
	c.cut()
	return true
}

// gone counts a caller out, once. The caller of it holds mu.
func (d *door) gone(c *caller) {
	if c.at == nil {
		return
	}
	d.waiting.Remove(c.at)
	c.at = nil
	d.sources[c.from].inside--
}

// leave counts a caller out that has proved who it is, or has not.
func (d *door) leave(c *caller) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone(c)
}

// sourceOf is the network of a caller.
func sourceOf(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits)
	return p
}
