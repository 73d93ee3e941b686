package relay

import (
	"sync"

	"enclave/wire/frame"
)

// queue is what waits for one receiver: frames, already encoded, in one buffer. The
// writer takes the buffer whole and writes it at once, so that a busy connection
// costs few system calls and an idle one holds no buffer. When it is full the newest
// frame is dropped: the ends of a tunnel know best what a lost packet means, and
// dropping the oldest would move every frame behind it (docs/decisions/0031).
type queue struct {
	wake chan struct{} // capacity 1: one token says that there is something to take
	pool *sync.Pool    // of *buffer

	// mu guards the rest. It is held for a copy of one frame, never for a write.
	mu        sync.Mutex
	waiting   *buffer // nil when empty
	closed    bool
	maxBytes  int
	maxFrames int
}

// buffer is what a queue waits in. It starts at bufferSize and grows to the queue's
// limit, then serves whoever comes next.
type buffer struct {
	b      []byte
	frames int
}

const (
	bufferSize = 32 << 10

	// reserve is room beyond the limit for the relay's own short frames, so that a
	// full queue of data does not silence a Refused or a Drain.
	reserve = 4 << 10
)

func newPool() *sync.Pool {
	return &sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, bufferSize)} }}
}

func newQueue(pool *sync.Pool, l *Limits) queue {
	return queue{wake: make(chan struct{}, 1), pool: pool, maxBytes: l.QueueBytes, maxFrames: l.QueueFrames}
}

// packet queues a Recv. This is the one copy that a forwarded payload gets.
func (q *queue) packet(from frame.ID, payload []byte) bool {
	q.mu.Lock()
	w := q.room(frame.HeaderLen+frame.PeerLen+len(payload), q.maxBytes, q.maxFrames)
	if w != nil {
		w.b, _ = frame.AppendRecv(w.b, from, payload) // Reader has bounded the size
		w.frames++
	}
	q.mu.Unlock()
	return q.signal(w != nil)
}

// control queues a frame of the relay's own. A lost one does no harm: the agent asks
// again, and who leaves so many unread is cut by the write timeout.
func (q *queue) control(b []byte) bool {
	q.mu.Lock()
	w := q.room(len(b), q.maxBytes+reserve, q.maxFrames+reserve)
	if w != nil {
		w.b = append(w.b, b...)
		w.frames++
	}
	q.mu.Unlock()
	return q.signal(w != nil)
}

// room returns the buffer when n bytes more fit. The caller holds mu.
func (q *queue) room(n, maxBytes, maxFrames int) *buffer {
	if q.closed {
		return nil
	}
	if q.waiting == nil {
		q.waiting = q.pool.Get().(*buffer)
	}
	if len(q.waiting.b)+n > maxBytes || q.waiting.frames >= maxFrames {
		return nil
	}
	return q.waiting
}

func (q *queue) signal(ok bool) bool {
	if ok {
		select {
		case q.wake <- struct{}{}:
		default: // a token is there already
		}
	}
	return ok
}

// take returns what waits, nil when nothing does. The caller gives it back with free.
func (q *queue) take() *buffer {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.waiting
	q.waiting = nil
	return w
}

func (q *queue) free(w *buffer) {
	w.b, w.frames = w.b[:0], 0
	q.pool.Put(w)
}

// close refuses what comes from now on; what waits can still be taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
}
