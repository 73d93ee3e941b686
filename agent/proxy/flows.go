package proxy

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pending is how many datagrams of a flow wait while its target is dialled. UDP
// clients send one and wait, or a burst that they send again.
const pending = 16

// maxDatagram is the largest UDP payload over IPv4, and more than IPv6 needs.
const maxDatagram = 65507

// datagrams are shared by all flows.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram + 1]byte) }}

// flows gives each key (a client, or a target) its own UDP connection. A flow ends
// after idle without a datagram in either direction; when all are taken, new ones
// are dropped, since to end a live one would let a stranger cut it.
type flows[K comparable] struct {
	limits Limits
	ctx    context.Context // of the Run that owns the flows; ends them all

	mu     sync.Mutex // guards byKey
	byKey  map[K]*flow
	wg     sync.WaitGroup
	failed func(key K, err error) // told of a dial that failed
}

type flow struct {
	born time.Time
	last atomic.Int64             // nanoseconds from born to its last use
	conn atomic.Pointer[net.Conn] // nil until it is dialled

	mu      sync.Mutex // guards waiting and the moment conn is set
	waiting [][]byte
}

func newFlows[K comparable](ctx context.Context, limits Limits, failed func(K, error)) *flows[K] {
	return &flows[K]{limits: limits, ctx: ctx, byKey: make(map[K]*flow), failed: failed}
}

// send sends pkt on the flow of key. The first one makes the flow: it is dialled, and
// what comes back is handed to reply, which is called from one goroutine and must not
// keep the datagram. pkt may be used again when send returns.
func (f *flows[K]) send(key K, pkt []byte, dial func(context.Context) (net.Conn, error), reply func(c net.Conn, pkt []byte)) {
	f.mu.Lock()
	w := f.byKey[key]
	if w == nil {
		if len(f.byKey) >= f.limits.Flows || f.ctx.Err() != nil {
			f.mu.Unlock()
			return
		}
		w = &flow{born: time.Now()}
		f.byKey[key] = w
		f.wg.Go(func() {
			defer f.forget(key)
			f.run(key, w, dial, reply)
		})
	}
	f.mu.Unlock()
	w.touch()
	w.write(pkt)
}

func (f *flows[K]) forget(key K) {
	f.mu.Lock()
	delete(f.byKey, key)
	f.mu.Unlock()
}

// wait returns when every flow has ended, which the end of ctx makes them do.
func (f *flows[K]) wait() { f.wg.Wait() }

func (f *flows[K]) run(key K, w *flow, dial func(context.Context) (net.Conn, error), reply func(net.Conn, []byte)) {
	ctx, cancel := context.WithTimeout(f.ctx, f.limits.Dial)
	c, err := dial(ctx)
	cancel()
	if err != nil {
		f.failed(key, err)
		return
	}
	defer c.Close()
	stop := context.AfterFunc(f.ctx, func() { c.Close() })
	defer stop()
	w.ready(c)
	buf := datagrams.Get().(*[maxDatagram + 1]byte)
	defer datagrams.Put(buf)
	for {
		c.SetReadDeadline(w.lastUse().Add(f.limits.Idle))
		n, err := c.Read(buf[:])
		if err == nil {
			w.touch()
			reply(c, buf[:n])
			continue
		}
		// A port that is closed reads as an error and may be open a moment later, so
		// a flow ends only by silence, or with its socket.
		if f.ctx.Err() != nil || time.Since(w.lastUse()) >= f.limits.Idle || reasonOf(err) == Failed || reasonOf(err) == Reset {
			return
		}
	}
}

func (w *flow) touch()             { w.last.Store(int64(time.Since(w.born))) }
func (w *flow) lastUse() time.Time { return w.born.Add(time.Duration(w.last.Load())) }

func (w *flow) write(pkt []byte) {
	if c := w.conn.Load(); c != nil {
		(*c).Write(pkt) // a datagram that cannot be sent is lost, as UDP has it
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.conn.Load(); c != nil {
		(*c).Write(pkt)
	} else if len(w.waiting) < pending {
		w.waiting = append(w.waiting, slices.Clone(pkt))
	}
}

// ready sends what waited, in order, and lets later datagrams pass by the queue.
func (w *flow) ready(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pkt := range w.waiting {
		c.Write(pkt)
	}
	w.waiting = nil
	w.conn.Store(&c)
}

// Datagram lends a buffer for the largest datagram; FreeDatagram takes it back.
func Datagram() *[maxDatagram + 1]byte { return datagrams.Get().(*[maxDatagram + 1]byte) }

// FreeDatagram takes a buffer of Datagram back.
func FreeDatagram(b *[maxDatagram + 1]byte) { datagrams.Put(b) }
