package tunnel

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TCPConn is a connection of the overlay. Beyond net.Conn it closes each direction by
// itself (CloseRead, CloseWrite) and can be reset, as a *net.TCPConn can.
type TCPConn struct {
	*gonet.TCPConn
	io   *tcpIO // nil where the endpoint is out of reach, and gonet reads and writes
	end  ender
	shut atomic.Bool // CloseWrite was called
}

// ender ends a connection in ways that gonet does not offer.
type ender interface {
	// linger is net.TCPConn.SetLinger.
	linger(sec int)
	// await returns when a read would not wait.
	await()
	// close ends the connection as linger was told.
	close()
}

// ownEnd is the end of a connection of nic, whose endpoint is at hand.
type ownEnd struct {
	tcpip.Endpoint
	wq *waiter.Queue
}

func (e ownEnd) close() { e.Close() }

// await waits for the same events as gonet's Read.
func (e ownEnd) await() {
	if e.Readiness(waiter.ReadableEvents) != 0 {
		return
	}
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	e.wq.EventRegister(&entry)
	defer e.wq.EventUnregister(&entry)
	if e.Readiness(waiter.ReadableEvents) == 0 { // still, now that it would tell
		<-ready
	}
}

func (e ownEnd) linger(sec int) {
	e.SocketOptions().SetLinger(tcpip.LingerOption{
		Enabled: sec >= 0,
		Timeout: time.Duration(max(sec, 0)) * time.Second,
	})
}

// Keep-alive notices a peer that vanished under a connection nobody writes to. The
// first probe comes late, because each one wakes the path.
const (
	keepIdle     = 2 * time.Minute
	keepInterval = 15 * time.Second
	keepCount    = 4
)

func newTCPConn(wq *waiter.Queue, ep tcpip.Endpoint, g *growth) *TCPConn {
	idle := tcpip.KeepaliveIdleOption(keepIdle)
	interval := tcpip.KeepaliveIntervalOption(keepInterval)
	// The three calls refuse only values out of range, and these are constants.
	ep.SetSockOpt(&idle)
	ep.SetSockOpt(&interval)
	ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepCount)
	ep.SocketOptions().SetKeepAlive(true)
	return &TCPConn{TCPConn: gonet.NewTCPConn(wq, ep), io: newTCPIO(wq, ep, g), end: ownEnd{ep, wq}}
}

// SetLinger sets what Close does, as net.TCPConn.SetLinger: with 0 it resets the
// connection, with a negative number it closes it in order.
func (c *TCPConn) SetLinger(sec int) error {
	c.end.linger(sec)
	return nil
}

// Close closes in order, or resets after SetLinger(0). It is idempotent.
func (c *TCPConn) Close() error {
	c.end.close()
	if c.io != nil {
		c.io.stop()
	}
	return nil
}

// SetDeadline is as in net.Conn, as are the next two.
func (c *TCPConn) SetDeadline(t time.Time) error {
	if c.io == nil {
		return c.TCPConn.SetDeadline(t)
	}
	c.io.setDeadlines(&t, &t)
	return nil
}

func (c *TCPConn) SetReadDeadline(t time.Time) error {
	if c.io == nil {
		return c.TCPConn.SetReadDeadline(t)
	}
	c.io.setDeadlines(&t, nil)
	return nil
}

func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	if c.io == nil {
		return c.TCPConn.SetWriteDeadline(t)
	}
	c.io.setDeadlines(nil, &t)
	return nil
}

// AwaitRead returns when a Read would not wait: whoever has many connections needs no
// buffer for each. It knows no deadline; Close ends it.
func (c *TCPConn) AwaitRead() { c.end.await() }

// Read reads as net.Conn. A reset is syscall.ECONNRESET, never io.EOF.
func (c *TCPConn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	if err == io.EOF && c.RemoteAddr() == nil && !c.shut.Load() {
		// The stack tells of a reset once, and a write was told. Whoever has only got
		// the end of the data is still connected.
		return n, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return n, err
}

func (c *TCPConn) read(b []byte) (int, error) {
	if c.io == nil {
		n, err := c.TCPConn.Read(b)
		return n, errnoOf(err)
	}
	n, err := c.io.read(b)
	return n, c.named("read", err)
}

// named says what failed, as errors of package net do.
func (c *TCPConn) named(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// CloseWrite ends our direction in order.
func (c *TCPConn) CloseWrite() error {
	c.shut.Store(true)
	return c.TCPConn.CloseWrite()
}

// Write writes as net.Conn.
func (c *TCPConn) Write(b []byte) (int, error) {
	if c.io == nil {
		n, err := c.TCPConn.Write(b)
		return n, errnoOf(err)
	}
	n, err := c.io.write(b)
	return n, c.named("write", err)
}

// errnoOf puts the number of the operating system in place of the text that gonet
// makes of the stack's errors, so that errors.Is works as with any other socket.
func errnoOf(err error) error {
	if err == nil {
		return nil
	}
	var op *net.OpError // after the return above: it escapes
	if !errors.As(err, &op) {
		return err
	}
	text := op.Err.Error()
	for _, e := range errnos {
		if text == e.stack.String() {
			op.Err = e.sys
			break
		}
	}
	return err
}

// errnos is read only.
var errnos = []struct {
	stack tcpip.Error
	sys   syscall.Errno
}{
	{&tcpip.ErrConnectionReset{}, syscall.ECONNRESET},
	{&tcpip.ErrConnectionRefused{}, syscall.ECONNREFUSED},
	{&tcpip.ErrConnectionAborted{}, syscall.ECONNABORTED},
	{&tcpip.ErrAborted{}, syscall.ECONNABORTED},
	{&tcpip.ErrTimeout{}, syscall.ETIMEDOUT},
	{&tcpip.ErrHostUnreachable{}, syscall.EHOSTUNREACH},
	{&tcpip.ErrHostDown{}, syscall.EHOSTUNREACH},
	{&tcpip.ErrNetworkUnreachable{}, syscall.ENETUNREACH},
	{&tcpip.ErrClosedForSend{}, syscall.EPIPE},
	{&tcpip.ErrPortInUse{}, syscall.EADDRINUSE},
	{&tcpip.ErrBadLocalAddress{}, syscall.EADDRNOTAVAIL},
}

// opError names what was attempted and maps the stack's error.
func opError(op, network string, at netip.AddrPort, err tcpip.Error) error {
	e := &net.OpError{Op: op, Net: network, Err: errors.New(err.String())}
	switch network {
	case "udp":
		e.Addr = net.UDPAddrFromAddrPort(at)
	default:
		e.Addr = net.TCPAddrFromAddrPort(at)
	}
	return errnoOf(e)
}

// errClosed is what a socket returns that is asked for too late.
func errClosed(op, network string) error {
	return &net.OpError{Op: op, Net: network, Err: net.ErrClosed}
}
