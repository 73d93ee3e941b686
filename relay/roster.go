package relay

import (
	"sync"
	"time"

	"enclave/wire/frame"
)

// roster knows who is connected and which pairs are open. A pair is open while a
// ticket that one of the two presented on its present connection counts; it is kept
// with that client, so a connection takes its pairs with it.
type roster struct {
	// mu guards all below and every client's pairs. Under it frames are queued, which
	// is a copy, and nothing is written.
	mu      sync.RWMutex
	closed  bool // draining: nobody joins
	clients map[frame.ID]*client
	openers map[frame.ID]map[*client]struct{} // who presented a ticket for a pair with the key
	pairs   int
}

func newRoster() *roster {
	return &roster{clients: map[frame.ID]*client{}, openers: map[frame.ID]map[*client]struct{}{}}
}

// join adds c and returns the connection that it takes the place of. Those who hold
// a ticket for a pair with c learn that it is here. It is false when the roster is
// full or closed.
func (r *roster) join(c *client, limit int, now time.Time) (old *client, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old = r.clients[c.id]
	if r.closed || (old == nil && len(r.clients) >= limit) {
		return nil, false
	}
	if old != nil {
		r.forget(old)
	}
	r.clients[c.id] = c
	for o := range r.openers[c.id] {
		if now.Before(o.pairs[c.id]) {
			o.opened(c.id, true)
		}
	}
	return old, true
}

// leave removes c, unless a newer connection has its place, and tells both those who
// could send to it and those to whom it could send.
func (r *roster) leave(c *client, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clients[c.id] != c {
		return
	}
	delete(r.clients, c.id)
	for o := range r.openers[c.id] {
		if now.Before(o.pairs[c.id]) {
			o.peerGone(c.id)
		}
	}
	for id, until := range c.pairs {
		o := r.clients[id]
		if o == nil || !now.Before(until) {
			continue
		}
		if _, told := r.openers[c.id][o]; !told {
			o.peerGone(c.id)
		}
	}
	r.forget(c)
}

// forget closes the pairs of c. The caller holds mu.
func (r *roster) forget(c *client) {
	for id := range c.pairs {
		r.closePair(c, id)
	}
}

func (r *roster) closePair(c *client, peer frame.ID) {
	delete(c.pairs, peer)
	delete(r.openers[peer], c)
	if len(r.openers[peer]) == 0 {
		delete(r.openers, peer)
	}
	r.pairs--
}

// open opens the pair of c and peer until then, and reports whether peer is here. It
// is false when c holds as many pairs as it may, or is no longer of the roster.
func (r *roster) open(c *client, peer frame.ID, until time.Time, limit int, now time.Time) (here, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clients[c.id] != c {
		return false, false
	}
	_, known := c.pairs[peer]
	if !known && len(c.pairs) >= limit {
		for id, end := range c.pairs {
			if !now.Before(end) {
				r.closePair(c, id)
			}
		}
		if len(c.pairs) >= limit {
			return false, false
		}
	}
	if !known {
		if c.pairs == nil {
			c.pairs = map[frame.ID]time.Time{}
		}
		if r.openers[peer] == nil {
			r.openers[peer] = map[*client]struct{}{}
		}
		r.openers[peer][c] = struct{}{}
		r.pairs++
	}
	// The later end counts: an older ticket that arrives late takes nothing away.
	if until.After(c.pairs[peer]) {
		c.pairs[peer] = until
	}
	_, here = r.clients[peer]
	return here, true
}

// route returns the client to which c may send under the name to. Without an open
// pair the answer is the same whether to is connected or not: who is here is nobody's
// business but the pair's.
func (r *roster) route(c *client, to frame.ID, now time.Time) (*client, event) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	dst := r.clients[to]
	until, known := c.pairs[to]
	switch {
	case now.Before(until):
		if dst == nil {
			return nil, dropPeerGone
		}
		return dst, forwarded
	case dst != nil && now.Before(dst.pairs[c.id]):
		return dst, forwarded
	case known:
		return nil, dropExpired
	}
	return nil, dropNoTicket
}

// close lets nobody join any more and returns who is here.
func (r *roster) close() []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	all := make([]*client, 0, len(r.clients))
	for _, c := range r.clients {
		all = append(all, c)
	}
	return all
}

func (r *roster) size() (clients, pairs int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.clients), r.pairs
}
