package link

import (
	"sync"
	"time"

	"enclave/wire/frame"
)

// patience is how long a packet waits for room in a queue that is taken from.
const patience = 10 * time.Millisecond

// backlog is packets on their way to a relay, or from relays to the device. They are
// copied into one buffer behind each other, which whoever takes them takes whole: one
// lock and one wake-up serve a batch, where a channel takes both for each packet.
//
// Who finds no room may wait a moment, but in vain only once: then nobody does until
// something was taken (decision 0035). So what is stuck costs its senders one wait.
type backlog struct {
	limit int           // bytes that may wait, without those that were taken
	ready chan struct{} // something waits; capacity 1
	room  chan struct{} // something was taken, for one of those who wait; capacity 1

	// mu guards what follows.
	mu      sync.Mutex
	waiting *pile // nil: nothing
	asking  int   // how many wait for room
	stalled bool
}

// pile is what waits together. Idle connections hold none.
type pile struct {
	b    []byte
	from []origin // of the packets in b, in order, where somebody asks
}

// origin is a run of packets' sender and one packet's size.
type origin struct {
	p    *peer
	size int
}

const (
	outLimit = 128 << 10 // some 10 ms at 100 Mbit/s
	inLimit  = 384 << 10
	pileSize = 32 << 10 // to begin with; it grows to the limit, then serves whoever comes next
)

var piles = sync.Pool{New: func() any { return &pile{b: make([]byte, 0, pileSize)} }}

func (w *pile) free() {
	clear(w.from) // a pool must not keep peers alive
	w.b, w.from = w.b[:0], w.from[:0]
	piles.Put(w)
}

func newBacklog(limit int) backlog {
	return backlog{limit: limit, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// frames takes bufs as Send frames for a peer and returns how many there was room for. It
// wakes the writer. With patient it waits for room, once for all of them.
func (q *backlog) frames(to frame.ID, bufs [][]byte, patient bool) (n int) {
	q.mu.Lock()
	for ; n < len(bufs); n++ {
		w := q.admit(frame.HeaderLen+frame.PeerLen+len(bufs[n]), patient, nil)
		if w == nil {
			break
		}
		var err error
		if w.b, err = frame.AppendSend(w.b, to, bufs[n]); err != nil {
			break // larger than any frame
		}
	}
	q.mu.Unlock()
	q.wake()
	return n
}

// add takes a packet of a peer. It wakes nobody.
func (q *backlog) add(p *peer, b []byte, over <-chan struct{}) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.admit(len(b), true, over)
	if w == nil {
		return false
	}
	w.b, w.from = append(w.b, b...), append(w.from, origin{p, len(b)})
	return true
}

// admit returns the pile once n bytes more fit, nil when they do not. The caller holds
// mu, which is let go of to wait.
func (q *backlog) admit(n int, patient bool, over <-chan struct{}) *pile {
	if w := q.fits(n); w != nil {
		return w
	}
	if !patient || q.stalled {
		return nil
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		select {
		case <-q.room: // an old one
		default:
		}
		q.asking++
		q.mu.Unlock()
		q.wake() // who waits keeps nobody else waiting
		given, late := false, false
		select {
		case <-q.room:
			given = true
		case <-t.C:
			late = true
		case <-over:
		}
		q.mu.Lock()
		q.asking--
		if w := q.fits(n); w != nil {
			if q.asking > 0 {
				q.tell() // there may be room for the next as well
			}
			return w
		}
		if !given {
			q.stalled = q.stalled || late
			return nil
		}
	}
}

// fits returns the pile when it has room for n bytes more. The caller holds mu.
func (q *backlog) fits(n int) *pile {
	switch {
	case q.waiting == nil:
		q.waiting = piles.Get().(*pile)
	case len(q.waiting.b)+n > q.limit:
		return nil
	}
	return q.waiting
}

func (q *backlog) tell() {
	select {
	case q.room <- struct{}{}:
	default:
	}
}

// wake makes who takes look.
func (q *backlog) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns all that waits, nil when nothing does. The caller frees it.
func (q *backlog) take() *pile {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.waiting
	q.waiting, q.stalled = nil, false
	if q.asking > 0 {
		q.tell()
	}
	return w
}

// drop forgets what waits: it would arrive too late to be of use.
func (q *backlog) drop() {
	if w := q.take(); w != nil {
		w.free()
	}
}
