package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// DialTCP is as Tunnel.DialTCP.
func (s *stock) DialTCP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.gate.enter() {
		return nil, errClosed("dial", "tcp")
	}
	defer s.gate.leave()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := &socket{end: cancel}
	if !s.sockets.add(dial) {
		return nil, errClosed("dial", "tcp")
	}
	defer s.sockets.remove(dial)
	c, err := s.net.DialContextTCPAddrPort(inner, dst)
	switch {
	case err == nil:
		return s.newConn(c, "dial")
	case ctx.Err() != nil:
		err = ctx.Err()
	case inner.Err() != nil:
		err = net.ErrClosed
	}
	return nil, stockError("dial", "tcp", net.TCPAddrFromAddrPort(dst), err)
}

// stockError makes err of the form that the other stack returns.
func stockError(op, network string, at net.Addr, err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		e.Op, e.Addr = op, at
		return errnoOf(e)
	}
	return errnoOf(&net.OpError{Op: op, Net: network, Addr: at, Err: err})
}

func (s *stock) newConn(c *gonet.TCPConn, op string) (net.Conn, error) {
	e := &stockEnd{stock: s, conn: c, flow: tcpFlow{addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())}}
	e.socket.end = func() {
		e.linger(0)
		e.close()
	}
	if !s.sockets.add(&e.socket) {
		e.socket.end()
		return nil, errClosed(op, "tcp")
	}
	return &TCPConn{TCPConn: c, end: e}, nil
}

// addrPort returns the zero value for a connection that has already ended.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// stockEnd is the end of a connection whose endpoint is out of reach.
type stockEnd struct {
	stock  *stock
	conn   *gonet.TCPConn
	flow   tcpFlow
	socket socket
	abort  atomic.Bool
	once   sync.Once
}

// await does not wait: the endpoint is hidden, so a Read waits with its buffer.
func (e *stockEnd) await() {}

// linger tells a reset from the rest only: a Close never waits here.
func (e *stockEnd) linger(sec int) { e.abort.Store(sec == 0) }

func (e *stockEnd) close() {
	e.once.Do(func() {
		e.stock.sockets.remove(&e.socket)
		if e.abort.Load() {
			e.stock.reset(e.flow)
		}
		e.conn.Close()
	})
}

// ListenTCP is as Tunnel.ListenTCP.
func (s *stock) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	inner, err := s.net.ListenTCPAddrPort(at)
	if err != nil {
		return nil, stockError("listen", "tcp", net.TCPAddrFromAddrPort(at), err)
	}
	l := &stockListener{stock: s, inner: inner, addr: inner.Addr()}
	l.socket.end = func() { l.Close() }
	if !s.sockets.add(&l.socket) {
		inner.Close()
		return nil, errClosed("listen", "tcp")
	}
	return l, nil
}

type stockListener struct {
	stock  *stock
	inner  *gonet.TCPListener
	addr   net.Addr
	socket socket
	once   sync.Once
}

func (l *stockListener) Accept() (net.Conn, error) {
	c, err := l.inner.Accept()
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	return l.stock.newConn(c.(*gonet.TCPConn), "accept")
}

func (l *stockListener) Close() error {
	l.once.Do(func() {
		l.stock.sockets.remove(&l.socket)
		l.inner.Close() // wakes Accept
	})
	return nil
}

func (l *stockListener) Addr() net.Addr { return l.addr }
