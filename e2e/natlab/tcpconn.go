package natlab

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// tcpConn is a gonet connection whose errors are those of package net, so that
// programs that ask errors.Is for net.ErrClosed, os.ErrDeadlineExceeded or
// ECONNREFUSED behave here as they do on a real machine.
type tcpConn struct {
	*gonet.TCPConn
	closed atomic.Bool
}

func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, c.translate("read", err)
}

func (c *tcpConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, c.translate("write", err)
}

func (c *tcpConn) Close() error {
	if c.closed.Swap(true) {
		return c.opError("close", net.ErrClosed)
	}
	return c.TCPConn.Close()
}

func (c *tcpConn) translate(op string, err error) error {
	if err == nil {
		return nil
	}
	if c.closed.Load() {
		return c.opError(op, net.ErrClosed)
	}
	if known := knownError(err); known != nil {
		return c.opError(op, known)
	}
	return err
}

func (c *tcpConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// knownError answers what package net would have said, or nil. gonet passes on no
// more than the text of the netstack's errors.
func knownError(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return nil
	}
	if op.Timeout() {
		return os.ErrDeadlineExceeded
	}
	switch op.Err.Error() {
	case (&tcpip.ErrConnectionRefused{}).String():
		return syscall.ECONNREFUSED
	case (&tcpip.ErrConnectionReset{}).String():
		return syscall.ECONNRESET
	case (&tcpip.ErrConnectionAborted{}).String():
		return syscall.ECONNABORTED
	case (&tcpip.ErrTimeout{}).String():
		return syscall.ETIMEDOUT
	case (&tcpip.ErrHostUnreachable{}).String():
		return syscall.EHOSTUNREACH
	case (&tcpip.ErrNetworkUnreachable{}).String():
		return syscall.ENETUNREACH
	}
	return nil
}

// listener does the same for accepting.
type listener struct {
	*gonet.TCPListener
	host   *Host
	closed atomic.Bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err == nil {
		return &tcpConn{TCPConn: c.(*gonet.TCPConn)}, nil
	}
	if l.closed.Load() || l.host.gone() {
		err = &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	return nil, err
}

// Close ends Accept. A second Close does nothing.
func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.TCPListener.Shutdown()
	return l.TCPListener.Close()
}

func (h *Host) gone() bool {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	return h.closed || h.lab.closed
}
