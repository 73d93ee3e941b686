package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"enclave/passage"
	"enclave/wire/disco"
	"enclave/wire/stream"
)

// streamConn is a TCP connection straight to a peer, who has proved at its other end that
// it is that peer. It carries what the socket would, with the queues of a relay's: a peer
// that takes nothing fills its own and holds nobody else.
type streamConn struct {
	p    *peer
	c    *tls.Conn
	far  netip.AddrPort
	ours bool // dialled here

	out     backlog       // datagrams in their frames; full means dropped
	check   chan struct{} // have it prove that it lives: the network changed; capacity 1
	retired chan struct{} // another has taken its place: say what is queued, and end
	stop    context.CancelFunc

	heard    atomic.Int64 // when anything last came, like counter.last
	sent     atomic.Int64 // when data was last queued
	got      atomic.Int64 // when data last came
	arrivals atomic.Uint64
	rtt      atomic.Int64 // nanoseconds; 0: not known

	// Guarded by Link.mu.
	asked disco.TxID // the ping whose answer measures rtt
	askAt time.Time
}

const (
	// streamIdle is after how long without data a stream is closed by who dialled it; the
	// other side waits longer, for it cannot open another.
	streamIdle     = 2 * time.Minute
	streamIdleFar  = 3 * time.Minute
	streamGoodbye  = time.Second // for what is still on its way when a stream is replaced
	streamMeasured = 20 * time.Second
)

var (
	errStreamIdle   = errors.New("nothing to carry")
	errStreamSilent = errors.New("the peer does not answer")
	errReplaced     = errors.New("another stream has taken its place")
)

func newStreamConn(p *peer, c *tls.Conn, far netip.AddrPort, ours bool) *streamConn {
	s := &streamConn{
		p: p, c: c, far: far, ours: ours,
		out:   newBacklog(outLimit),
		check: make(chan struct{}, 1), retired: make(chan struct{}),
	}
	now := p.link.sinceBase()
	s.heard.Store(now)
	s.got.Store(now)
	return s
}

// send queues b. It copies b, never waits, and reports whether there was room.
func (s *streamConn) send(b []byte) bool {
	one := [1][]byte{b}
	return s.queue(one[:], false) == 1
}

// sendData queues a batch of the data path, which waits a moment for room (decision 0035).
// It returns how many there was room for.
func (s *streamConn) sendData(bufs [][]byte) int {
	s.sent.Store(s.p.link.sinceBase())
	return s.queue(bufs, true)
}

func (s *streamConn) queue(bufs [][]byte, patient bool) (n int) {
	q := &s.out
	q.mu.Lock()
	for ; n < len(bufs); n++ {
		w := q.admit(stream.HeaderLen+len(bufs[n]), patient, s.retired)
		if w == nil {
			break
		}
		var err error
		if w.b, err = stream.Append(w.b, bufs[n]); err != nil {
			break // larger than any
		}
	}
	q.mu.Unlock()
	q.wake()
	if lost := len(bufs) - n; lost > 0 {
		s.p.link.drops.queueFull.Add(uint64(lost))
	}
	return n
}

// run carries datagrams until something ends it, and says so.
func (s *streamConn) run(ctx context.Context, r *stream.Reader) {
	// The connection below TLS is closed: nobody waits for a goodbye to who takes nothing.
	stop := context.AfterFunc(ctx, func() { s.c.NetConn().Close() })
	defer stop()
	done := make(chan struct{})
	var writer sync.WaitGroup
	var writeErr error
	writer.Go(func() {
		if writeErr = s.writeDatagrams(done); writeErr != errReplaced {
			s.c.NetConn().Close() // the reader notices
		}
	})
	err := s.readDatagrams(r)
	close(done)
	writer.Wait()
	s.c.NetConn().Close()
	s.out.drop()
	s.p.link.ended(s, cmpErr(writeErr, err))
}

// silence is how long no data has gone either way.
func (s *streamConn) silence() time.Duration {
	return time.Duration(s.p.link.sinceBase() - max(s.sent.Load(), s.got.Load()))
}

func (s *streamConn) writeDatagrams(done <-chan struct{}) error {
	l := s.p.link
	tick := time.NewTimer(busyTick)
	defer tick.Stop()
	idle := streamIdleFar
	if s.ours {
		idle = streamIdle
	}
	var asked, measured int64 // when the ping that waits was sent, 0: none waits; when the last was
	var before uint64         // datagrams that had come by then
	bulk := passage.BulkOf(s.c)
	var buf []byte
	for {
		check, over := false, false
		select {
		case <-done:
			return nil
		case <-s.out.ready:
		case <-s.check:
			if l.lost(s.c.LocalAddr()) {
				return errAddressGone
			}
			check = true
		case <-tick.C:
			if asked != 0 || s.silence() < busyFor {
				tick.Reset(busyTick)
			} else {
				tick.Reset(idleTick)
			}
		case <-s.retired:
			over = true
		}
		now := l.sinceBase()
		data := s.out.take()
		buf = buf[:0]
		quiet, carried := time.Duration(now-s.heard.Load()), s.silence()
		switch waits := time.Duration(now - asked); {
		case asked != 0 && s.arrivals.Load() != before:
			asked = 0
		case asked != 0 && waits > answerWithin:
			return errStreamSilent
		case carried > idle:
			return errStreamIdle
		case asked == 0 && (check || quiet > askIdle || carried < busyFor && quiet > askBusy || time.Duration(now-measured) > streamMeasured):
			asked, measured, before = now, now, s.arrivals.Load()
			buf = s.ask(buf)
		}
		err := flush(s.c, bulk, buf)
		if data != nil {
			if err == nil {
				err = flush(s.c, bulk, data.b)
			}
			data.free()
		}
		switch {
		case err != nil:
			return err
		case over:
			_ = s.c.SetReadDeadline(time.Now().Add(streamGoodbye))
			return errReplaced
		}
	}
}

// ask appends a ping.
func (s *streamConn) ask(buf []byte) []byte {
	l := s.p.link
	tx := disco.NewTxID()
	l.mu.Lock()
	s.asked, s.askAt = tx, time.Now()
	l.mu.Unlock()
	var b [disco.MaxPacket]byte
	buf, _ = stream.Append(buf, s.p.pair().Seal(b[:0], disco.Ping{Tx: tx, WireGuard: l.cfg.WireGuard})) // never too long
	return buf
}

// answeredLocked takes the pong tx, which may be the answer to ask.
func (s *streamConn) answeredLocked(tx disco.TxID, now time.Time) bool {
	if s.askAt.IsZero() || s.asked != tx {
		return false
	}
	s.rtt.Store(max(int64(now.Sub(s.askAt)), 1))
	s.askAt = time.Time{}
	return true
}

func (s *streamConn) readDatagrams(r *stream.Reader) error {
	l := s.p.link
	var in incoming
	settle := func() { in.settle(l) }
	defer settle()
	bulk := passage.BulkOf(s.c)
	if bulk != nil {
		bulk.BeforeRead = settle
	}
	for {
		b, err := r.Next()
		if err != nil {
			return err
		}
		if !in.began {
			in.began = true
			s.heard.Store(l.sinceBase())
		}
		s.arrivals.Add(1)
		if !in.data && isWireGuard(b) {
			in.data = true
			s.got.Store(s.heard.Load())
		}
		l.hearStream(s, &in, b)
		if bulk == nil {
			settle()
		}
	}
}

// words is the stream as its other end.
func (s *streamConn) words() netip.AddrPort {
	if s == nil {
		return netip.AddrPort{}
	}
	return s.far
}

// farOf is the other end of a connection.
func farOf(c net.Conn) netip.AddrPort {
	t, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := t.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
