package natlab

import (
	"net"
	"os"
	"sync"
	"time"
)

// queue hands packets from the switch to one reader. It is bounded: a reader that
// is too slow loses packets, as with a socket buffer. It blocks on a sync.Cond, so
// that a synctest bubble counts a waiting reader as blocked.
type queue struct {
	mu       sync.Mutex
	cond     sync.Cond
	ring     []*packet
	head, n  int
	closed   bool
	frozen   bool // the host is suspended: nothing comes out
	deadline time.Time
	timer    *time.Timer // wakes the reader at the deadline
}

func newQueue(size int) *queue {
	q := &queue{ring: make([]*packet, size)}
	q.cond.L = &q.mu
	return q
}

// push takes p over if it answers true.
func (q *queue) push(p *packet) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.n == len(q.ring) {
		return false
	}
	q.ring[(q.head+q.n)%len(q.ring)] = p
	q.n++
	if !q.frozen {
		q.cond.Signal()
	}
	return true
}

// pop waits for a packet; net.ErrClosed and os.ErrDeadlineExceeded end the wait.
func (q *queue) pop() (*packet, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.closed:
			return nil, net.ErrClosed
		case q.frozen:
		case !q.deadline.IsZero() && !time.Now().Before(q.deadline):
			return nil, os.ErrDeadlineExceeded
		case q.n > 0:
			p := q.ring[q.head]
			q.ring[q.head] = nil
			q.head = (q.head + 1) % len(q.ring)
			q.n--
			return p, nil
		}
		q.cond.Wait()
	}
}

func (q *queue) setDeadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	q.deadline = t
	if q.closed || t.IsZero() {
		return
	}
	if d := time.Until(t); d > 0 {
		q.timer = time.AfterFunc(d, q.wake)
	} else {
		q.cond.Broadcast()
	}
}

// wake takes the lock, so that it cannot slip between a reader's look at the clock
// and its wait.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cond.Broadcast()
}

func (q *queue) freeze(frozen bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frozen = frozen
	q.cond.Broadcast()
}

// awake waits until the host is not suspended.
func (q *queue) awake() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.frozen && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return net.ErrClosed
	}
	return nil
}

// close ends all waits; a second close answers false.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	q.ring, q.n = nil, 0
	if q.timer != nil {
		q.timer.Stop()
	}
	q.cond.Broadcast()
	return true
}
