package link

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// lab is a small internet: hosts with one address each, some behind a NAT.
type lab struct {
	mu     sync.Mutex
	hosts  map[netip.Addr]*ground
	delay  time.Duration
	drop   func(from, to netip.AddrPort) bool // of UDP, by public addresses
	noTCP  bool                               // nothing can be dialled
	public map[netip.AddrPort]*natHost        // mappings of all NATs
}

// ground is one host; it is a Network.
type ground struct {
	*lab
	addr   netip.Addr
	nat    *natHost
	udp    map[uint16]*datagrams
	tcp    map[uint16]func(net.Conn)
	conns  []*pipe
	port   uint16
	fail   error               // of writes
	far    time.Duration       // of connecting
	no     map[netip.Addr]bool // cannot be dialled from here
	listen string              // where streams are taken
	also   []netip.Addr        // its other addresses, for TCP
	lag    time.Duration       // of what it reads by TCP
	hello  map[netip.Addr]bool // hear of what is written to them by TCP the first piece alone
	spray  int
}

// natHost is the NAT before one host: mapping by RFC 4787, filtering by address and
// port.
type natHost struct {
	public  netip.Addr
	hard    bool
	blocked bool
	in      *ground
	next    uint16
	maps    map[[2]netip.AddrPort]netip.AddrPort // inside, and destination when hard -> outside
	back    map[netip.AddrPort]netip.AddrPort    // outside -> inside
	open    map[[2]netip.AddrPort]bool           // outside, remote
}

func newLab() *lab {
	return &lab{hosts: map[netip.Addr]*ground{}, public: map[netip.AddrPort]*natHost{}, delay: 10 * time.Millisecond}
}

// host adds a host; public is empty without a NAT.
func (l *lab) host(addr, public, kind string) *ground {
	g := &ground{lab: l, addr: netip.MustParseAddr(addr), udp: map[uint16]*datagrams{}, tcp: map[uint16]func(net.Conn){}, port: 40000}
	if public != "" {
		g.nat = &natHost{public: netip.MustParseAddr(public), hard: kind == "hard", blocked: kind == "blocked", in: g, next: 20000}
		g.nat.reset()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[g.addr] = g
	return g
}

func (n *natHost) reset() {
	n.maps = map[[2]netip.AddrPort]netip.AddrPort{}
	n.back = map[netip.AddrPort]netip.AddrPort{}
	n.open = map[[2]netip.AddrPort]bool{}
}

func (n *natHost) out(l *lab, src, dst netip.AddrPort) netip.AddrPort {
	key := [2]netip.AddrPort{src}
	if n.hard {
		key[1] = dst
	}
	if _, ok := n.maps[key]; !ok {
		n.next += 3
		n.maps[key] = netip.AddrPortFrom(n.public, n.next)
		n.back[n.maps[key]] = src
		l.public[n.maps[key]] = n
	}
	n.open[[2]netip.AddrPort{n.maps[key], dst}] = true
	return n.maps[key]
}

func (g *ground) ListenUDP(port uint16) (PacketConn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if port == 0 {
		g.port++
		port = g.port
	}
	if g.udp[port] != nil {
		return nil, errors.New("port in use")
	}
	c := &datagrams{g: g, port: port, queue: make(chan datagram, 1024), closed: make(chan struct{}), late: make(chan struct{})}
	g.udp[port] = c
	return c, nil
}

// ListenTCP implements StreamListener.
func (g *ground) ListenTCP(addr string) (net.Listener, error) {
	_, s, _ := net.SplitHostPort(addr)
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return nil, err
	}
	l := &listener{g: g, port: uint16(port), queue: make(chan net.Conn, 64), closed: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tcp[l.port] = func(c net.Conn) {
		select {
		case l.queue <- c:
		case <-l.closed:
			c.Close()
		}
	}
	return l, nil
}

// listener takes TCP connections.
type listener struct {
	g      *ground
	port   uint16
	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.g.mu.Lock()
		defer l.g.mu.Unlock()
		delete(l.g.tcp, l.port)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: int(l.port)} }

func (g *ground) LookupHost(_ context.Context, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	return []netip.Addr{a}, err
}

func (g *ground) Addrs() ([]netip.Addr, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]netip.Addr{g.addr}, g.also...), nil
}

// move gives the host another address, and another NAT state.
func (g *ground) move(addr, public string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.hosts, g.addr)
	g.addr = netip.MustParseAddr(addr)
	g.hosts[g.addr] = g
	g.nat.reset()
	g.nat.public = netip.MustParseAddr(public)
	for _, c := range g.conns {
		c.hole.Store(true)
	}
}

func (g *ground) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	to := netip.MustParseAddrPort(addr)
	g.mu.Lock()
	h := g.hosts[to.Addr()]
	if g.noTCP || g.no[to.Addr()] || h == nil || h.tcp[to.Port()] == nil {
		g.mu.Unlock()
		return nil, errors.New("connection refused")
	}
	a, b := newPipe()
	seen := g.addr
	if g.nat != nil {
		seen = g.nat.public
	}
	g.port++
	a.far, b.far = to, netip.AddrPortFrom(seen, g.port)
	a.lag, b.lag = g.lag, h.lag
	a.once = g.hello[to.Addr()]
	g.conns = append(g.conns, a, b)
	accept, far := h.tcp[to.Port()], h.far
	g.mu.Unlock()
	time.Sleep(far)
	go accept(b)
	return a, nil
}

// hangUp ends all TCP connections, also those that no packet passes any more.
func (l *lab) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.hosts {
		for _, c := range g.conns {
			c.hole.Store(false)
			c.Close()
		}
	}
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

// datagrams is a UDP socket.
type datagrams struct {
	g      *ground
	port   uint16
	queue  chan datagram
	once   sync.Once
	closed chan struct{}
	mu     sync.Mutex
	late   chan struct{} // closed: the deadline has passed
	isLate bool
}

func (c *datagrams) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	c.mu.Lock()
	late := c.late
	c.mu.Unlock()
	select {
	case <-late:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-c.queue:
		return copy(b, d.b), d.from, nil
	case <-late:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *datagrams) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !t.IsZero() && !c.isLate:
		close(c.late)
		c.isLate = true
	case t.IsZero() && c.isLate:
		c.late, c.isLate = make(chan struct{}), false
	}
	return nil
}

func (c *datagrams) LocalAddr() net.Addr { return &net.UDPAddr{Port: int(c.port)} }

func (c *datagrams) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.g.mu.Lock()
		defer c.g.mu.Unlock()
		delete(c.g.udp, c.port)
	})
	return nil
}

func (c *datagrams) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	l := c.g.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.g.fail != nil {
		return 0, c.g.fail
	}
	src := netip.AddrPortFrom(c.g.addr, c.port)
	if to.Addr().IsPrivate() { // one network for whoever shares the first three bytes
		if p, _ := c.g.addr.Prefix(24); p.Contains(to.Addr()) {
			l.deliver(b, src, to)
		}
		return len(b), nil
	}
	if n := c.g.nat; n != nil {
		if n.blocked {
			return len(b), nil
		}
		src = n.out(l, src, to)
	}
	if l.drop == nil || !l.drop(src, to) {
		l.deliver(b, src, to)
	}
	return len(b), nil
}

func (l *lab) deliver(b []byte, src, to netip.AddrPort) {
	d := datagram{append([]byte(nil), b...), src}
	time.AfterFunc(l.delay, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := l.public[to]; n != nil {
			if !n.open[[2]netip.AddrPort{to, src}] {
				return
			}
			to = n.back[to]
		}
		if h := l.hosts[to.Addr()]; h != nil && h.udp[to.Port()] != nil {
			select {
			case h.udp[to.Port()].queue <- d:
			default:
			}
		}
	})
}

// pipe is one end of a TCP connection, with a send buffer without end.
type pipe struct {
	in, out *half
	hole    atomic.Bool // what is written disappears
	far     netip.AddrPort
	lag     time.Duration
	once    bool // after the next write a hole
}

type half struct {
	mu    sync.Mutex
	buf   []byte
	eof   bool
	more  chan struct{} // capacity 1
	until time.Time
}

func newPipe() (a, b *pipe) {
	x, y := &half{more: make(chan struct{}, 1)}, &half{more: make(chan struct{}, 1)}
	return &pipe{in: x, out: y}, &pipe{in: y, out: x}
}

func (h *half) wake() {
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (s *pipe) Read(b []byte) (int, error) {
	for {
		s.in.mu.Lock()
		n := copy(b, s.in.buf)
		s.in.buf = s.in.buf[n:]
		eof, until := s.in.eof, s.in.until
		s.in.mu.Unlock()
		if n > 0 {
			time.Sleep(s.lag)
			return n, nil
		}
		if eof {
			return 0, io.EOF
		}
		var late <-chan time.Time
		if !until.IsZero() {
			if time.Until(until) <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			late = time.After(time.Until(until))
		}
		select {
		case <-s.in.more:
		case <-late:
		}
	}
}

func (s *pipe) Write(b []byte) (int, error) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.eof {
		return 0, net.ErrClosed
	}
	if !s.hole.Load() {
		s.out.buf = append(s.out.buf, b...)
		s.out.wake()
		s.hole.Store(s.once)
	}
	return len(b), nil
}

func (s *pipe) Close() error {
	for _, h := range []*half{s.in, s.out} {
		h.mu.Lock()
		if h == s.in || !s.hole.Load() {
			h.eof = true
			h.wake()
		}
		h.mu.Unlock()
	}
	return nil
}

func (s *pipe) SetReadDeadline(t time.Time) error {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.until = t
	s.in.wake()
	return nil
}

func (s *pipe) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *pipe) SetWriteDeadline(time.Time) error { return nil }
func (s *pipe) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *pipe) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(s.far) }
