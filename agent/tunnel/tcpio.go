package tunnel

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// tcpIO reads and writes an endpoint of gVisor's as gonet does, without what gonet
// allocates for each call: a channel to wait on, and what hands the bytes over. It is
// told of events once and for all.
type tcpIO struct {
	ep      tcpip.Endpoint
	reading sync.Mutex // one reader at a time; guards dst and window
	dst     tcpip.SliceWriter
	window  window     // of what is received; reading guards it
	writing sync.Mutex // one writer at a time: what a call writes stays together; guards supply
	supply  supply     // of what is sent
	in, out side
}

// side is one direction.
type side struct {
	mu     sync.Mutex // guards what follows; never held while the endpoint is called
	moved  sync.Cond
	events uint64 // how often the stack said that there is something to read, or room
	until  deadline
}

// newTCPIO begins to listen to wq.
func newTCPIO(wq *waiter.Queue, ep tcpip.Endpoint, g *growth) *tcpIO {
	t := &tcpIO{ep: ep, window: window{growth: g}, supply: supply{growth: g}}
	for s, mask := range map[*side]waiter.EventMask{&t.in: waiter.ReadableEvents, &t.out: waiter.WritableEvents} {
		s.moved.L = &s.mu
		entry := waiter.NewFunctionEntry(mask|waiter.EventErr|waiter.EventHUp, func(waiter.EventMask) { s.tell() })
		wq.EventRegister(&entry)
	}
	return t
}

func (s *side) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	s.moved.Broadcast()
}

// seen is how many events there have been, and whether the deadline has passed.
func (s *side) seen() (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events, s.until.over()
}

// wait waits for another event than those, or the deadline.
func (s *side) wait(events uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.events == events && !s.until.over() {
		s.until.wait(&s.moved)
	}
}

// read reads once; the error is io.EOF, a deadline or the stack's.
func (t *tcpIO) read(b []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	defer func() { t.dst = nil }()
	for {
		events, late := t.in.seen()
		if late {
			return 0, os.ErrDeadlineExceeded
		}
		if len(b) == 0 {
			return 0, nil // the stack would wait for data, and then call b too small
		}
		t.dst = b
		res, terr := t.ep.Read(&t.dst, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
			t.window.carried(t, res.Count)
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			t.in.wait(events)
		case *tcpip.ErrClosedForReceive:
			return 0, io.EOF
		default:
			return 0, sysError(terr)
		}
	}
}

// sources hand bytes over to the stack.
var sources = sync.Pool{New: func() any { return new(bytes.Reader) }}

// write writes everything, unless there is an error.
func (t *tcpIO) write(b []byte) (n int, err error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if !t.supply.known {
		t.supply.begin(t.ep)
	}
	src := sources.Get().(*bytes.Reader)
	defer func() { src.Reset(nil); sources.Put(src) }()
	for first := true; first || n < len(b); first = false {
		events, late := t.out.seen()
		if late {
			return n, os.ErrDeadlineExceeded
		}
		if n == len(b) {
			break // an empty write only looks at the deadline
		}
		src.Reset(b[n:])
		some, terr := t.ep.Write(src, tcpip.WriteOptions{})
		n += int(some)
		t.supply.carried(t, int(some))
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			t.out.wait(events)
		default:
			return n, sysError(terr)
		}
	}
	return n, nil
}

func (t *tcpIO) setDeadlines(read, write *time.Time) {
	if read != nil {
		t.in.until.set(*read, &t.in.moved)
	}
	if write != nil {
		t.out.until.set(*write, &t.out.moved)
	}
}

// stop gives back what outlives the endpoint.
func (t *tcpIO) stop() {
	t.window.growth.release(t)
	for _, s := range []*side{&t.in, &t.out} {
		s.mu.Lock()
		s.until.stop()
		s.mu.Unlock()
	}
}

// sysError is the number of the operating system for an error of the stack, or its text.
func sysError(terr tcpip.Error) error {
	for _, e := range errnos {
		if terr.String() == e.stack.String() {
			return e.sys
		}
	}
	return errors.New(terr.String())
}
