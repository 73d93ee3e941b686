package tunnel

import (
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

const (
	// maxFlight is how many packets WireGuard may have in its hands in one direction.
	// Its own queues hold 128 times 1,024 of them in buffers of 64 KiB: without a bound
	// a fast sender fills the memory, and long before that the caches. Strangers who
	// send what is not authentic fill neither: what waits, waits in the kernel's buffer.
	maxFlight = batchLen
	// lostAfter is how long a full flight may stand still. WireGuard tells nobody what
	// it drops (no session yet, not authentic), so what stands still is taken for that.
	lostAfter = 2 * time.Millisecond
)

// flight counts the packets between where they enter WireGuard and where they leave it.
type flight struct {
	entered, left atomic.Int64
	waiting       atomic.Bool
	progress      chan struct{} // capacity 1: a wake-up is never lost
	taken         atomic.Bool   // somebody waits already
	timer         *time.Timer   // of who waits
}

func (f *flight) init() {
	f.progress = make(chan struct{}, 1)
	f.timer = time.NewTimer(time.Hour)
	f.timer.Stop()
}

func (f *flight) enter(n int) { f.entered.Add(int64(n)) }

func (f *flight) leave(n int) {
	left := f.left.Add(int64(n))
	// What was taken for dropped and was only late, and what WireGuard sends by itself,
	// leaves without having entered. Were it counted so, each would be room for one more
	// for ever.
	for in := f.entered.Load(); in < left && !f.entered.CompareAndSwap(in, left); in = f.entered.Load() {
	}
	if f.waiting.Load() {
		select {
		case f.progress <- struct{}{}:
		default:
		}
	}
}

// wait returns when there is room for more, or at once when another waits for that.
func (f *flight) wait() {
	if !f.full() || !f.taken.CompareAndSwap(false, true) {
		return
	}
	defer f.taken.Store(false)
	for f.full() {
		before := f.left.Load()
		f.waiting.Store(true)
		if !f.full() {
			break
		}
		f.timer.Reset(lostAfter)
		select {
		case <-f.progress:
			f.timer.Stop()
		case <-f.timer.C:
			if in := f.entered.Load(); f.left.Load() == before {
				f.entered.CompareAndSwap(in, before)
			}
		}
	}
	f.waiting.Store(false)
}

func (f *flight) full() bool { return f.entered.Load()-f.left.Load() > maxFlight }

// meter is the bind as WireGuard sees it: what is sent has left its hands, what is
// received gets into them.
type meter struct {
	conn.Bind
	out, in  *flight
	received func(bufs [][]byte, sizes []int, eps []conn.Endpoint)
	hold     func(kernel int)
}

// roomy is a bind that knows how many bytes of what is received the kernel holds until it is
// read, those included that it needs for itself; 0: it does not know.
type roomy interface{ Room() int }

func (m *meter) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, port, err := m.Bind.Open(port)
	if b, ok := m.Bind.(roomy); ok && err == nil {
		m.hold(b.Room())
	}
	for i, receive := range fns {
		fns[i] = func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			m.in.wait()
			n, err := receive(bufs, sizes, eps)
			m.in.enter(n)
			m.received(bufs[:n], sizes[:n], eps[:n])
			return n, err
		}
	}
	return fns, port, err
}

func (m *meter) Send(bufs [][]byte, ep conn.Endpoint) error {
	err := m.Bind.Send(bufs, ep)
	m.out.leave(len(bufs))
	return err
}
