package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// DialUDP is as Tunnel.DialUDP.
func (s *stock) DialUDP(dst netip.AddrPort) (net.Conn, error) {
	return s.udp("dial", dst, netip.AddrPort{}, dst)
}

// ListenUDP is as Tunnel.ListenUDP.
func (s *stock) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	return s.udp("listen", at, at, netip.AddrPort{})
}

func (s *stock) udp(op string, at, local, remote netip.AddrPort) (*stockUDP, error) {
	inner, err := s.net.DialUDPAddrPort(local, remote)
	if err != nil {
		return nil, stockError(op, "udp", net.UDPAddrFromAddrPort(at), err)
	}
	c := &stockUDP{UDPConn: &UDPConn{inner}, stock: s}
	if a, ok := inner.LocalAddr().(*net.UDPAddr); ok {
		c.port = a.AddrPort().Port()
	}
	c.socket = socket{end: func() { c.Close() }, udp: c}
	if !s.sockets.add(&c.socket) {
		inner.Close()
		return nil, errClosed(op, "udp")
	}
	return c, nil
}

// stockUDP adds two things to a socket of the stock stack: its writes are counted, for
// Close, and an ICMP error wakes a Read, which sleeps through it by itself.
type stockUDP struct {
	*UDPConn
	stock  *stock
	port   uint16
	socket socket
	once   sync.Once

	mu       sync.Mutex // guards deadline, and the one that is set in UDPConn
	deadline time.Time  // of reads, as the user wants it
}

// poke makes a blocked Read look again, by a deadline that is over.
func (c *stockUDP) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.UDPConn.SetReadDeadline(time.Unix(1, 0))
}

// poked reports whether a time-out is none of the user's, and sets the user's again.
func (c *stockUDP) poked(err error) bool {
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.UDPConn.SetReadDeadline(c.deadline)
	return c.deadline.IsZero() || time.Now().Before(c.deadline)
}

func (c *stockUDP) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.UDPConn.SetReadDeadline(t)
}

func (c *stockUDP) SetDeadline(t time.Time) error {
	c.UDPConn.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

func (c *stockUDP) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c *stockUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(b)
		if err == nil || !c.poked(err) {
			return n, from, err
		}
	}
}

func (c *stockUDP) Write(b []byte) (int, error) {
	if !c.stock.gate.enter() {
		return 0, errClosed("write", "udp")
	}
	defer c.stock.gate.leave()
	return c.UDPConn.Write(b)
}

func (c *stockUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	if !c.stock.gate.enter() {
		return 0, errClosed("write", "udp")
	}
	defer c.stock.gate.leave()
	n, err := c.UDPConn.WriteTo(b, to)
	return n, errnoOf(err)
}

func (c *stockUDP) Close() error {
	c.once.Do(func() {
		c.stock.sockets.remove(&c.socket)
		c.UDPConn.Close()
	})
	return nil
}
