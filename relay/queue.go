package relay

import (
	"slices"
	"sync"

	"enclave/wire/frame"
)

// queue is what waits for one receiver: frames, already encoded, in one buffer. The
// writer takes the buffer whole and writes it at once, so that a busy connection
// costs few system calls and an idle one holds no buffer. When there is no room a
// sender waits a moment, if the receiver takes anything at all; then its newest frame
// is dropped: the ends of a tunnel know best what a lost packet means, and dropping
// the oldest would move every frame behind it (docs/decisions/0031, 0035).
type queue struct {
	wake chan struct{} // capacity 1: one token says that there is something to take
	pool *sync.Pool    // of *buffer

	// mu guards the rest. It is held for a copy of one frame, never for a write.
	mu        sync.Mutex
	waiting   *buffer // nil when empty
	closed    bool
	stalled   bool      // a sender has waited in vain since the last take: nobody else does
	blocked   []*client // senders that wait for room
	before    int       // senders in the buffer that was taken last
	maxBytes  int
	maxFrames int
}

// buffer is what a queue waits in. It starts at bufferSize and grows to the queue's
// limit, then serves whoever comes next.
type buffer struct {
	b      []byte
	frames int
	// shares are the bytes of each sender, by client.slot. Two that meet in one slot
	// share a share; the slot is drawn for each connection, so nobody chooses.
	shares  [256]uint32
	senders int // shares that are not zero
}

const (
	bufferSize = 32 << 10

	// reserve is room beyond the limit for the relay's own short frames, so that a
	// full queue of data does not silence a Refused or a Drain.
	reserve = 4 << 10

	// shareNum of shareDen parts of a queue are shared; the rest is for who comes new.
	// Nobody may hold more than newcomers times what is free (docs/decisions/0036).
	shareNum, shareDen = 4, 5
	newcomers          = 4
)

// admission is what a queue says to a frame.
type admission uint8

const (
	admitted admission = iota
	full               // no room, and none is to be expected soon
	wait               // no room; the sender is noted and is told when there is
)

func newPool() *sync.Pool {
	return &sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, bufferSize)} }}
}

func newQueue(pool *sync.Pool, l *Limits) queue {
	return queue{wake: make(chan struct{}, 1), pool: pool, maxBytes: l.QueueBytes, maxFrames: l.QueueFrames}
}

// packet queues a Recv. This is the one copy that a forwarded payload gets. The writer
// is not woken: the sender does that once for all it has.
func (q *queue) packet(from *client, payload []byte) admission {
	n := frame.HeaderLen + frame.PeerLen + len(payload)
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.room(n, q.maxBytes, q.maxFrames)
	if w != nil && w.admits(from.slot, n, q) {
		w.b, _ = frame.AppendRecv(w.b, from.id, payload) // Reader has bounded the size
		w.frames++
		return admitted
	}
	if q.closed || q.stalled {
		return full
	}
	select {
	case <-from.room: // told of the last time, after it had given up
	default:
	}
	q.blocked = append(q.blocked, from)
	return wait
}

// admits takes n bytes into the share of a slot, if they fit: all who send to this
// receiver, now or in the buffer before, have equal parts, and who comes first leaves
// room for who comes new. One frame each has anyway.
func (w *buffer) admits(slot uint8, n int, q *queue) bool {
	held, senders := int(w.shares[slot]), w.senders
	if held == 0 {
		senders++
	} else if held+n > min(q.maxBytes*shareNum/shareDen/max(senders, q.before), newcomers*(q.maxBytes-len(w.b))) {
		return false
	}
	w.senders = senders
	w.shares[slot] += uint32(n)
	return true
}

// giveUp says that from has waited in vain.
func (q *queue) giveUp(from *client) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.blocked, from); i >= 0 {
		q.blocked = slices.Delete(q.blocked, i, i+1)
		q.stalled = true
	}
}

// unblock tells the senders that wait to try again. The caller holds mu.
func (q *queue) unblock() {
	for _, c := range q.blocked {
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
	clear(q.blocked)
	q.blocked, q.stalled = q.blocked[:0], false
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
	if w == nil {
		return false
	}
	q.signal()
	return true
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

// signal wakes the writer.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // a token is there already
	}
}

// take returns what waits, nil when nothing does. The caller gives it back with free.
func (q *queue) take() *buffer {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.waiting
	if q.waiting = nil; w != nil {
		q.before = w.senders
	}
	q.unblock()
	return w
}

func (q *queue) free(w *buffer) {
	w.b, w.frames, w.senders = w.b[:0], 0, 0
	clear(w.shares[:])
	q.pool.Put(w)
}

// close refuses what comes from now on; what waits can still be taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.unblock()
}
