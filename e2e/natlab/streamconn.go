package natlab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// streams is the TCP of a host in a lab for bubbles, guarded by lab.mu.
type streams struct {
	conns     map[streamFlow]*stream
	listeners map[netip.AddrPort]*streamListener
	next      uint16
}

type streamFlow struct{ local, remote netip.AddrPort }

func (h *Host) initStreams() {
	h.streams = &streams{conns: map[streamFlow]*stream{}, listeners: map[netip.AddrPort]*streamListener{}, next: firstEphemeral}
}

func (h *Host) newStream(f streamFlow, state streamState) *stream {
	s := &stream{host: h, flow: f, state: state, rto: streamRTO, mss: minMSS, ahead: map[uint32][]byte{}}
	s.iss = h.lab.iss.Uint32()
	s.una, s.nxt = s.iss, s.iss
	s.cond.L = &h.lab.mu
	s.timer = time.AfterFunc(time.Hour, s.wake)
	h.streams.conns[f] = s
	go s.run()
	return s
}

// deliverStream takes a TCP packet for h; false: there is nobody for it.
func (h *Host) deliverStream(now time.Time, p *packet, v *view) bool {
	f := streamFlow{v.to(), v.from()}
	s := h.streams.conns[f]
	g := parseSegment(p.data, v)
	if s == nil {
		if g.flags&(tcpSYN|tcpACK|tcpRST) != tcpSYN {
			return false
		}
		l := h.streams.listeners[f.local]
		if l == nil {
			l = h.streams.listeners[netip.AddrPortFrom(netip.Addr{}, f.local.Port())]
		}
		if l == nil {
			return false
		}
		s = h.newStream(f, synReceived)
		s.from, s.rcv = l, g.seq+1
		if g.mss != 0 {
			s.mss = max(int(g.mss), minMSS-60)
		}
		s.cond.Broadcast()
	} else {
		s.hear(now, &g)
	}
	h.lab.put(p)
	return true
}

// dialStream connects to remote.
func (h *Host) dialStream(ctx context.Context, remote netip.AddrPort) (net.Conn, error) {
	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	local := h.firstAddr(remote.Addr().Is6())
	if h.closed || l.closed || !local.IsValid() {
		return nil, syscall.ENETUNREACH
	}
	f := streamFlow{remote: remote}
	for range 1 << 14 {
		f.local = netip.AddrPortFrom(local, h.streams.next)
		h.streams.next = max(h.streams.next+1, firstEphemeral)
		if h.streams.conns[f] == nil {
			break
		}
	}
	s := h.newStream(f, synSent)
	stop := context.AfterFunc(ctx, s.wake)
	defer stop()
	for s.state == synSent && ctx.Err() == nil {
		s.cond.Wait()
	}
	if s.state == synSent {
		s.end(context.Cause(ctx))
	}
	if s.state == dead {
		return nil, s.err
	}
	return (*streamConn)(s), nil
}

// streamConn is a stream as its user sees it.
type streamConn stream

func (c *streamConn) Read(b []byte) (int, error) {
	s := (*stream)(c)
	l := s.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case s.closing:
			return 0, s.opError("read", net.ErrClosed)
		case past(s.readBy):
			return 0, s.opError("read", os.ErrDeadlineExceeded)
		case len(s.in) > 0:
			n := copy(b, s.in)
			full := streamWindow-len(s.in) < s.mss
			if s.in = s.in[n:]; full && streamWindow-len(s.in) >= s.mss {
				s.ackDue = true // the window has opened
				s.cond.Broadcast()
			}
			if len(s.in) == 0 {
				s.in = nil
			}
			return n, nil
		case s.eof:
			return 0, io.EOF
		case s.state == dead:
			return 0, s.opError("read", s.err)
		}
		s.cond.Wait()
	}
}

func (c *streamConn) Write(b []byte) (n int, err error) {
	s := (*stream)(c)
	l := s.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case s.closing:
			return n, s.opError("write", net.ErrClosed)
		case s.state == dead:
			return n, s.opError("write", s.err)
		case past(s.writeBy):
			return n, s.opError("write", os.ErrDeadlineExceeded)
		}
		k := min(len(b), streamWindow-len(s.out))
		s.out = append(s.out, b[:k]...)
		b, n = b[k:], n+k
		s.cond.Broadcast()
		if len(b) == 0 {
			return n, nil
		}
		s.cond.Wait()
	}
}

// Close sends what was written and then a FIN, in the background.
func (c *streamConn) Close() error {
	s := (*stream)(c)
	l := s.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.closing {
		return s.opError("close", net.ErrClosed)
	}
	s.closing = true
	s.lingerBy = time.Now().Add(streamLinger)
	s.cond.Broadcast()
	return nil
}

func (c *streamConn) setDeadline(read, write bool, t time.Time) error {
	s := (*stream)(c)
	l := s.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if read {
		s.readBy = t
	}
	if write {
		s.writeBy = t
	}
	s.cond.Broadcast()
	if d := time.Until(t); !t.IsZero() && d > 0 {
		time.AfterFunc(d, s.wake) // one that is set anew leaves an idle wake-up behind
	}
	return nil
}

func (c *streamConn) SetDeadline(t time.Time) error      { return c.setDeadline(true, true, t) }
func (c *streamConn) SetReadDeadline(t time.Time) error  { return c.setDeadline(true, false, t) }
func (c *streamConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(false, true, t) }
func (c *streamConn) LocalAddr() net.Addr                { return net.TCPAddrFromAddrPort(c.flow.local) }
func (c *streamConn) RemoteAddr() net.Addr               { return net.TCPAddrFromAddrPort(c.flow.remote) }

func (s *stream) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: net.TCPAddrFromAddrPort(s.flow.local), Addr: net.TCPAddrFromAddrPort(s.flow.remote), Err: err}
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// streamListener accepts streams.
type streamListener struct {
	host   *Host
	local  netip.AddrPort
	ready  []*stream
	closed bool
	waits  chan struct{} // capacity 1: there may be one
}

func (h *Host) listenStream(local netip.AddrPort) (net.Listener, error) {
	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := local.Addr().Unmap()
	if addr.IsUnspecified() {
		addr = netip.Addr{}
	}
	key := netip.AddrPortFrom(addr, local.Port())
	for key.Port() == 0 || h.streams.listeners[key] != nil && local.Port() == 0 {
		key = netip.AddrPortFrom(addr, h.streams.next)
		h.streams.next = max(h.streams.next+1, firstEphemeral)
	}
	if h.closed || l.closed {
		return nil, errHostGone
	}
	if h.streams.listeners[key] != nil {
		return nil, syscall.EADDRINUSE
	}
	sl := &streamListener{host: h, local: key, waits: make(chan struct{}, 1)}
	h.streams.listeners[key] = sl
	return sl, nil
}

// offer queues s for Accept; lab.mu is held.
func (l *streamListener) offer(s *stream) bool {
	if l.closed || len(l.ready) >= streamQueue {
		return false
	}
	l.ready = append(l.ready, s)
	l.signal()
	return true
}

func (l *streamListener) signal() {
	select {
	case l.waits <- struct{}{}:
	default:
	}
}

func (l *streamListener) Accept() (net.Conn, error) {
	for {
		l.host.lab.mu.Lock()
		closed := l.closed || l.host.closed
		var s *stream
		if len(l.ready) > 0 && !closed {
			s, l.ready = l.ready[0], l.ready[1:]
		}
		more := len(l.ready) > 0 || closed
		l.host.lab.mu.Unlock()
		if more {
			l.signal() // the next one, or the next caller
		}
		switch {
		case s != nil:
			return (*streamConn)(s), nil
		case closed:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		}
		<-l.waits
	}
}

// Close ends Accept. A second Close does nothing.
func (l *streamListener) Close() error {
	l.host.lab.mu.Lock()
	defer l.host.lab.mu.Unlock()
	l.shut()
	return nil
}

func (l *streamListener) shut() {
	if l.closed {
		return
	}
	l.closed = true
	delete(l.host.streams.listeners, l.local)
	for _, s := range l.ready {
		s.end(syscall.ECONNRESET)
	}
	l.ready = nil
	l.signal()
}

func (l *streamListener) Addr() net.Addr {
	if !l.local.Addr().IsValid() {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Unspecified(), l.local.Port()))
	}
	return net.TCPAddrFromAddrPort(l.local)
}

// shut ends all connections and listeners of the host; lab.mu is held.
func (t *streams) shut() {
	for _, l := range t.listeners {
		l.shut()
	}
	for _, s := range t.conns {
		s.end(net.ErrClosed)
	}
}

// dialFirst tries the addresses one after the other, each a moment after the one before
// it, and takes the first connection (RFC 8305, section 5, as package net does it): of
// two families one may be a black hole.
func dialFirst(ctx context.Context, remotes []netip.AddrPort, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		c   net.Conn
		err error
	}
	results := make(chan result) // unbuffered: who finds nobody waiting closes its own
	begin := func(r netip.AddrPort) {
		c, err := dial(ctx, r)
		select {
		case results <- result{c, err}:
		case <-ctx.Done():
			if c != nil {
				c.Close()
			}
		}
	}
	var errs []error
	left, next := len(remotes), 0
	stagger := time.NewTimer(0)
	defer stagger.Stop()
	for left > 0 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-stagger.C:
			if next < len(remotes) {
				go begin(remotes[next])
				next++
				stagger.Reset(eyeballs)
			}
		case r := <-results:
			if r.err == nil {
				return r.c, nil
			}
			errs = append(errs, r.err)
			left--
			stagger.Reset(0)
		}
	}
	return nil, errors.Join(errs...)
}

// eyeballs is how far apart two attempts begin.
const eyeballs = 300 * time.Millisecond
