package tunnel

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"
)

// udpSocket is a UDP socket of nic. Under it is one of gVisor's, which owns the port and
// does all that is rare: fragments, datagrams that need some, those of this system to
// itself, ICMP errors, the end. The rest, a whole datagram between two systems, passes it
// by in both directions (decision 0181).
type udpSocket struct {
	nic   *nic
	slow  *gonet.UDPConn // the same endpoint, for writes
	ep    tcpip.Endpoint
	local netip.AddrPort // our address; not valid: nothing passes gVisor by
	peer  netip.AddrPort // the only one it talks to; not valid after ListenUDP
	next  *udpSocket     // on the same port; guarded by ports.mu

	news    atomic.Bool // failed or ended are set: writes go to gVisor
	writeBy atomic.Pointer[time.Time]

	mu      sync.Mutex // guards what follows; held for a copy, never while sending
	ready   sync.Cond
	mail    mailbox
	failed  tcpip.Error // by an ICMP error; the next call returns it
	ended   bool
	until   deadline // of readers
	from    netip.AddrPort
	fromUDP *net.UDPAddr // from, as was returned
}

// newUDPSocket makes a socket of an endpoint, which keeps so many bytes that nobody has read.
func newUDPSocket(n *nic, ep tcpip.Endpoint, wq *waiter.Queue, unread int) *udpSocket {
	c := &udpSocket{nic: n, slow: gonet.NewUDPConn(wq, ep), ep: ep, mail: mailbox{limit: unread}}
	c.ready.L = &c.mu
	// Not the queue's own waiters: the stack announces an ICMP error as such only.
	entry := waiter.NewFunctionEntry(waiter.ReadableEvents|waiter.EventErr|waiter.EventHUp, func(waiter.EventMask) { c.fetch() })
	wq.EventRegister(&entry)
	return c
}

// settle looks up what gVisor made of the socket. From then on datagrams may pass it by.
func (c *udpSocket) settle() {
	c.local, c.peer = addrPortOf(c.ep.GetLocalAddress()), addrPortOf(c.ep.GetRemoteAddress())
	if slices.Contains(c.nic.own, c.local.Addr()) {
		c.nic.ports.add(c)
	} else {
		c.local = netip.AddrPort{}
	}
}

func addrPortOf(a tcpip.FullAddress, err tcpip.Error) netip.AddrPort {
	if err != nil || a.Addr.Len() == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netipOf(a.Addr), a.Port)
}

// fetch empties gVisor's own queue, which counts the bytes of payloads only: of a flood of
// datagrams with little or nothing in them it would keep all. gVisor calls it with locks of
// its own, and tells of the first datagram of several only.
func (c *udpSocket) fetch() {
	f := fetches.Get().(*fetched)
	defer fetches.Put(f)
	for {
		f.w = f.b[:]
		res, terr := c.ep.Read(&f.w, tcpip.ReadOptions{NeedRemoteAddr: true})
		switch terr.(type) {
		case nil:
			c.take(addrPortOf(res.RemoteAddr, nil), f.b[:res.Count])
		case *tcpip.ErrWouldBlock:
			return
		case *tcpip.ErrClosedForReceive:
			c.fail(nil)
			return
		default:
			c.fail(terr)
		}
	}
}

// fetched is a datagram on its way from gVisor's queue to a mailbox.
type fetched struct {
	w tcpip.SliceWriter
	b [1 << 16]byte
}

var fetches = sync.Pool{New: func() any { return new(fetched) }}

// fail notes an error, or the end.
func (c *udpSocket) fail(terr tcpip.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if terr != nil {
		c.failed = terr
	} else {
		c.ended = true
	}
	c.news.Store(true)
	c.ready.Broadcast()
}

// failure is the error that waits, once. The caller holds mu.
func (c *udpSocket) failure() tcpip.Error {
	terr := c.failed
	if terr != nil { // every read comes by here, and writers look at news
		c.failed = nil
		c.news.Store(c.ended)
	}
	return terr
}

// take gets a datagram from the network.
func (c *udpSocket) take(from netip.AddrPort, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && c.mail.push(from, payload) {
		c.ready.Signal()
	}
}

// Read reads as net.Conn.
func (c *udpSocket) Read(b []byte) (int, error) {
	n, _, err := c.read(b, false)
	return n, c.named("read", err)
}

// ReadFrom reads as net.PacketConn. The address is shared with later calls.
func (c *udpSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.read(b, true)
	if err != nil {
		return n, nil, c.named("read", err)
	}
	return n, from, nil
}

// read reads once; the error is a deadline as it is, net.ErrClosed or gVisor's. To say
// which socket it is of, gVisor would have to be asked, and while that ends a socket it
// waits for mu.
func (c *udpSocket) read(b []byte, named bool) (int, *net.UDPAddr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if !c.ended && c.until.over() {
			return 0, nil, os.ErrDeadlineExceeded
		}
		if terr := c.failure(); terr != nil {
			return 0, nil, opError("read", "udp", c.peer, terr)
		}
		if c.ended {
			return 0, nil, errClosed("read", "udp")
		}
		if n, from, ok := c.mail.pop(b); ok {
			if named && from != c.from {
				c.from, c.fromUDP = from, net.UDPAddrFromAddrPort(from)
			}
			return n, c.fromUDP, nil
		}
		c.until.wait(&c.ready)
	}
}

// Write writes as net.Conn, to the peer of DialUDP.
func (c *udpSocket) Write(b []byte) (int, error) {
	if c.passes(b, c.peer) {
		return c.send(b, c.peer)
	}
	if err := c.writeFailure(); err != nil {
		return 0, err
	}
	n, err := c.slow.Write(b)
	return n, errnoOf(err)
}

// WriteTo writes as net.PacketConn.
func (c *udpSocket) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok || to == nil {
		return 0, c.error("write", syscall.EINVAL)
	}
	at := to.AddrPort()
	if at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()); c.passes(b, at) {
		return c.send(b, at)
	}
	if err := c.writeFailure(); err != nil {
		return 0, err
	}
	n, err := c.slow.WriteTo(b, addr)
	return n, errnoOf(err)
}

// writeFailure is the error that waits, of a write.
func (c *udpSocket) writeFailure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if terr := c.failure(); terr != nil {
		return opError("write", "udp", c.peer, terr)
	}
	if c.ended {
		return errClosed("write", "udp")
	}
	return nil
}

// passes reports whether a datagram can be made here.
func (c *udpSocket) passes(b []byte, to netip.AddrPort) bool {
	if c.news.Load() || !to.IsValid() || to.Port() == 0 || !c.local.IsValid() || to.Addr().Is4() != c.local.Addr().Is4() ||
		!to.Addr().IsGlobalUnicast() || datagramSize(to.Addr(), len(b)) > c.nic.mtu || slices.Contains(c.nic.own, to.Addr()) {
		return false
	}
	by := c.writeBy.Load()
	return by == nil || by.IsZero() || time.Now().Before(*by)
}

func (c *udpSocket) send(b []byte, to netip.AddrPort) (int, error) {
	size := datagramSize(to.Addr(), len(b))
	v := buffer.NewView(size)
	v.Grow(size)
	writeDatagram(v.AsSlice(), c.local, to, uint16(c.nic.ident.Add(1)), b)
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	defer p.DecRef()
	one := [1]*stack.PacketBuffer{p}
	if _, terr := c.nic.port.out.put(one[:]); terr != nil {
		return 0, opError("write", "udp", to, terr)
	}
	return len(b), nil
}

// SetReadDeadline is as in net.Conn.
func (c *udpSocket) SetReadDeadline(t time.Time) error {
	c.until.set(t, &c.ready)
	return nil
}

// SetWriteDeadline is as in net.Conn.
func (c *udpSocket) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(&t)
	return c.slow.SetWriteDeadline(t)
}

// SetDeadline is as in net.Conn.
func (c *udpSocket) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// Close ends the socket; reads and writes return net.ErrClosed from then on. It is
// idempotent.
func (c *udpSocket) Close() error {
	c.nic.ports.remove(c)
	c.ep.Close() // which makes gVisor call fetch
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mail = mailbox{}
	c.until.stop()
	c.ready.Broadcast()
	return nil
}

// LocalAddr is as in net.Conn.
func (c *udpSocket) LocalAddr() net.Addr { return c.slow.LocalAddr() }

// RemoteAddr is nil after ListenUDP.
func (c *udpSocket) RemoteAddr() net.Addr { return c.slow.RemoteAddr() }

// named says which socket a deadline is of, as errors of package net do.
func (c *udpSocket) named(op string, err error) error {
	if err == os.ErrDeadlineExceeded {
		return c.error(op, err)
	}
	return err
}

func (c *udpSocket) error(op string, err error) error {
	e := &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
	if c.peer.IsValid() {
		e.Addr = net.UDPAddrFromAddrPort(c.peer)
	}
	return e
}

// udpPorts finds the socket of a datagram.
type udpPorts struct {
	mu     sync.RWMutex // guards byPort, and the lists that hang there
	byPort map[uint16]*udpSocket
}

func (p *udpPorts) add(c *udpSocket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byPort == nil {
		p.byPort = make(map[uint16]*udpSocket)
	}
	c.next = p.byPort[c.local.Port()]
	p.byPort[c.local.Port()] = c
}

func (p *udpPorts) remove(c *udpSocket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	port := c.local.Port()
	list := p.byPort[port]
	for at := &list; *at != nil; at = &(*at).next {
		if *at == c {
			*at = c.next
			break
		}
	}
	if list == nil {
		delete(p.byPort, port)
	} else {
		p.byPort[port] = list
	}
}

// find prefers a socket that talks to src alone.
func (p *udpPorts) find(src, dst netip.AddrPort) (found *udpSocket) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for c := p.byPort[dst.Port()]; c != nil; c = c.next {
		switch {
		case c.local != dst:
		case c.peer == src:
			return c
		case !c.peer.IsValid():
			found = c
		}
	}
	return found
}

// deliver hands a packet to the socket of the datagram that it is, if both are such.
func (p *udpPorts) deliver(pkt []byte) bool {
	src, dst, payload, ok := parseDatagram(pkt)
	if !ok {
		return false
	}
	c := p.find(src, dst)
	if c == nil {
		return false
	}
	c.take(src, payload)
	return true
}
