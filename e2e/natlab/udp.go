package natlab

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	firstEphemeral = 49152 // RFC 6335
	udpQueue       = 1024  // packets that wait for a reader; about a socket buffer of 1.5 MB
)

// UDPConn is a UDP socket of a simulated host. It is a net.PacketConn and has the
// netip methods of net.UDPConn.
type UDPConn struct {
	host  *Host
	local netip.AddrPort // the address is invalid for a wildcard socket
	queue *queue
}

var _ net.PacketConn = (*UDPConn)(nil)

// ListenUDP opens a socket on all addresses of the host, IPv4 and IPv6, also those
// that it will get. Port 0 picks a free one.
func (h *Host) ListenUDP(port uint16) (*UDPConn, error) {
	return h.ListenUDPAddrPort(netip.AddrPortFrom(netip.Addr{}, port))
}

// ListenUDPAddrPort opens a socket on one address of the host. An unspecified or
// invalid address means all.
func (h *Host) ListenUDPAddrPort(local netip.AddrPort) (*UDPConn, error) {
	addr := local.Addr().Unmap()
	if addr.IsUnspecified() {
		addr = netip.Addr{}
	}
	fail := func(err error) error {
		return &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(local), Err: err}
	}
	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.closed || l.closed {
		return nil, fail(errHostGone)
	}
	if addr.IsValid() && !h.owns(addr) {
		return nil, fail(syscall.EADDRNOTAVAIL)
	}
	key := netip.AddrPortFrom(addr, local.Port())
	if key.Port() == 0 {
		for range 1 << 14 {
			key = netip.AddrPortFrom(addr, h.nextPort)
			h.nextPort = max(h.nextPort+1, firstEphemeral)
			if h.udp[key] == nil {
				break
			}
		}
	}
	if h.udp[key] != nil {
		return nil, fail(syscall.EADDRINUSE)
	}
	c := &UDPConn{host: h, local: key, queue: newQueue(udpQueue)}
	c.queue.frozen = h.suspended
	h.udp[key] = c
	return c, nil
}

func (h *Host) owns(a netip.Addr) bool {
	for _, own := range h.port.addrs {
		if own == a {
			return true
		}
	}
	return false
}

// deliverUDP finds the socket: one bound to the address before a wildcard.
func (h *Host) deliverUDP(now time.Time, p *packet, v *view) {
	c := h.udp[v.to()]
	if c == nil {
		c = h.udp[netip.AddrPortFrom(netip.Addr{}, v.dport)]
	}
	if c == nil {
		e := h.lab.get(nil)
		if e.data = appendICMPError(e.data, causePort, 0, v.dst, p.data, v); e.data != nil {
			h.emit(now, e)
		}
		h.lab.discard(now, h.label, p, DropNoSocket)
		return
	}
	if !c.queue.push(p) {
		h.lab.discard(now, h.label, p, DropQueue)
	}
}

// ReadFromUDPAddrPort waits for a packet and copies its payload into b, cut to
// len(b). It fails with net.ErrClosed or os.ErrDeadlineExceeded.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	p, err := c.queue.pop()
	if err != nil {
		return 0, netip.AddrPort{}, c.opError("read", err)
	}
	var v view
	parse(p.data, &v)
	n := copy(b, p.data[v.l4+8:v.end])
	from := v.from()
	c.host.lab.put(p)
	return n, from, nil
}

// WriteToUDPAddrPort sends b to an address. It never waits for the network; what
// does not fit into a queue is lost. A packet above the path MTU fails with
// EMSGSIZE, since the lab does not fragment.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if err := c.queue.awake(); err != nil {
		return 0, c.opError("write", err)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	h, l := c.host, c.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	src := c.local.Addr()
	if src.IsValid() && !h.owns(src) {
		return 0, c.opError("write", syscall.EADDRNOTAVAIL)
	}
	if !src.IsValid() {
		src = h.firstAddr(to.Addr().Is6())
	}
	if !to.IsValid() || !src.IsValid() || src.Is6() != to.Addr().Is6() {
		return 0, c.opError("write", syscall.ENETUNREACH)
	}
	head := 28
	if src.Is6() {
		head = 48
	}
	if head+len(b) > h.pathMTU(to.Addr()) {
		return 0, c.opError("write", syscall.EMSGSIZE)
	}
	p := l.get(nil)
	p.data = appendUDP(p.data, netip.AddrPortFrom(src, c.local.Port()), to, b)
	h.emit(time.Now(), p)
	return len(b), nil
}

// ReadFrom is ReadFromUDPAddrPort for net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo is WriteToUDPAddrPort for net.PacketConn.
func (c *UDPConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.opError("write", fmt.Errorf("%T is no UDP address", to))
	}
	return c.WriteToUDPAddrPort(b, u.AddrPort())
}

// LocalAddr answers a *net.UDPAddr; a wildcard socket is at [::].
func (c *UDPConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.LocalAddrPort()) }

// LocalAddrPort is LocalAddr without the detour.
func (c *UDPConn) LocalAddrPort() netip.AddrPort {
	if !c.local.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), c.local.Port())
	}
	return c.local
}

// SetReadDeadline ends waiting reads at t; the zero time means never.
func (c *UDPConn) SetReadDeadline(t time.Time) error {
	c.queue.setDeadline(t)
	return nil
}

// SetWriteDeadline does nothing: writes do not wait.
func (c *UDPConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (c *UDPConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close ends the socket and all waiting reads. A second Close does nothing.
func (c *UDPConn) Close() error {
	c.host.lab.mu.Lock()
	if c.host.udp[c.local] == c {
		delete(c.host.udp, c.local)
	}
	c.host.lab.mu.Unlock()
	c.queue.close()
	return nil
}

func (c *UDPConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
}
