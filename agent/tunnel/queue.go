package tunnel

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Bounds of a queue. The bytes bound how long a small packet waits behind bulk: 128 KiB
// are a quarter of a millisecond of a fast path. The packets bound it for small ones.
const (
	queueBytes   = 128 << 10
	queuePackets = 1024
)

// queue is what the stack has waiting for WireGuard. A full one blocks whoever sends,
// which is how a busy machine pushes back on TCP, and on programs that send UDP, without
// a loss. It is a lock and two wake-ups and no channel: a burst is put in and taken out
// under one lock each, and a reader that is already awake costs nothing.
type queue struct {
	mu      sync.Mutex // guards what follows
	ready   sync.Cond  // something for the reader
	room    sync.Cond  // something for the senders
	ring    [queuePackets]*stack.PacketBuffer
	head, n int
	bytes   int
	acks    int  // packets that only acknowledge
	reading bool // the reader waits for ready
	sending int  // how many wait for room
	woken   bool
	closed  bool
}

func (q *queue) init() { q.ready.L, q.room.L = &q.mu, &q.mu }

// put keeps a reference to every packet, in order, and waits where there is no room.
// It returns how many it took, which is all of them unless the queue is closed.
func (q *queue) put(pkts []*stack.PacketBuffer) (int, tcpip.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, p := range pkts {
		for !q.closed && q.n > 0 && (q.bytes >= queueBytes || q.n == queuePackets) {
			q.rouse()
			q.sending++
			q.room.Wait()
			q.sending--
		}
		if q.closed {
			return i, &tcpip.ErrClosedForSend{}
		}
		if onlyAcks(p) {
			if q.replace(p) {
				continue
			}
			q.acks++
		}
		q.ring[(q.head+q.n)%queuePackets] = p.IncRef()
		q.n++
		q.bytes += p.Size()
	}
	q.rouse()
	return len(pkts), nil
}

// rouse wakes a waiting reader. The caller holds mu.
func (q *queue) rouse() {
	if q.reading && (q.n > 0 || q.woken || q.closed) {
		q.reading = false
		q.ready.Signal()
	}
}

// take moves packets to dst, oldest first, and returns how many. With wait it blocks
// until there is one, wake is called or the queue is closed; ok is false when it is.
// The references are the caller's.
func (q *queue) take(dst []*stack.PacketBuffer, wait bool) (n int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for wait && q.n == 0 && !q.woken && !q.closed {
		q.reading = true
		q.ready.Wait()
	}
	if wait {
		q.gather()
	}
	if wait {
		q.woken = false
	}
	if q.closed {
		return 0, false
	}
	for n < len(dst) && q.n > 0 {
		p := q.ring[q.head]
		if onlyAcks(p) {
			q.acks--
		}
		dst[n], q.ring[q.head] = p, nil
		q.head, q.n, q.bytes = (q.head+1)%queuePackets, q.n-1, q.bytes-p.Size()
		n++
	}
	if n > 0 && q.sending > 0 {
		q.room.Broadcast()
	}
	return n, true
}

// wake makes a take that waits, or else the next one that would, return.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.woken = true
	q.rouse()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// close lets everybody go and drops what waits.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for ; q.n > 0; q.n-- {
		q.ring[q.head].DecRef()
		q.ring[q.head] = nil
		q.head = (q.head + 1) % queuePackets
	}
	q.bytes, q.acks = 0, 0
	q.ready.Broadcast()
	q.room.Broadcast()
}
