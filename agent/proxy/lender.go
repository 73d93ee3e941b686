package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
)

// lender is a net.Listener whose connections were accepted by someone else.
type lender struct {
	net.Listener // for Addr
	conns        chan net.Conn
	done         <-chan struct{}
}

// lend hands c to whoever accepts, and returns when it was closed there. The end of
// ctx resets it.
func (l *lender) lend(ctx context.Context, c net.Conn) {
	t := &lentConn{Conn: c, closed: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { abort(t) })
	defer stop()
	select {
	case l.conns <- t:
		<-t.closed
	case <-ctx.Done():
	}
}

func (l *lender) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close leaves the listener to its owner.
func (l *lender) Close() error { return nil }

// lentConn tells when it is closed.
type lentConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *lentConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

func (c *lentConn) CloseWrite() error {
	if h, ok := c.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *lentConn) SetLinger(sec int) error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
