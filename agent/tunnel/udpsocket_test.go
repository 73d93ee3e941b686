package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TestDatagramsOfAllKinds: small ones pass gVisor by, large ones are fragments, and those
// to oneself never leave; a socket gets them all.
func TestDatagramsOfAllKinds(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		server, err := b.ListenUDP(netip.AddrPortFrom(b.v4, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		for _, from := range []*node{a, b} {
			client, err := from.DialUDP(netip.AddrPortFrom(b.v4, 53))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for _, size := range []int{0, 1, 1000, 5000, 20_000} {
				sent := bytes.Repeat([]byte{byte(size + 1)}, size)
				if n, err := client.Write(sent); n != size || err != nil {
					t.Fatalf("write of %d: %d, %v", size, n, err)
				}
				buf := make([]byte, 1<<16)
				n, who, err := server.ReadFrom(buf)
				if err != nil || !bytes.Equal(buf[:n], sent) {
					t.Fatalf("%d bytes came as %d, %v", size, n, err)
				}
				if who.String() != client.LocalAddr().String() {
					t.Fatalf("from %s, want %s", who, client.LocalAddr())
				}
				if _, err := server.WriteTo(buf[:n], who); err != nil {
					t.Fatal(err)
				}
				if n, err := client.Read(buf); err != nil || !bytes.Equal(buf[:n], sent) {
					t.Fatalf("%d bytes came back as %d, %v", size, n, err)
				}
			}
		}
	})
}

// TestSocketsOfOnePort: a datagram belongs to the socket that talks to its sender, and
// nobody else's reaches one that talks to another.
func TestSocketsOfOnePort(t *testing.T) {
	at := netip.MustParseAddrPort
	var p udpPorts
	open := &udpSocket{local: at("100.64.0.1:7")}
	mine := &udpSocket{local: at("100.64.0.1:7"), peer: at("100.64.0.2:9")}
	only := &udpSocket{local: at("[fd00::1]:7"), peer: at("[fd00::2]:9")}
	for _, c := range []*udpSocket{mine, open, only} {
		p.add(c)
	}
	for _, c := range []struct {
		src, dst string
		want     *udpSocket
	}{
		{"100.64.0.2:9", "100.64.0.1:7", mine},
		{"100.64.0.2:8", "100.64.0.1:7", open},
		{"100.64.0.3:9", "100.64.0.1:7", open},
		{"100.64.0.2:9", "100.64.0.4:7", nil},
		{"[fd00::2]:9", "[fd00::1]:7", only},
		{"[fd00::3]:9", "[fd00::1]:7", nil},
	} {
		if got := p.find(at(c.src), at(c.dst)); got != c.want {
			t.Errorf("%s to %s: %p, want %p", c.src, c.dst, got, c.want)
		}
	}
	p.remove(mine)
	p.remove(mine)
	if got := p.find(at("100.64.0.2:9"), at("100.64.0.1:7")); got != open {
		t.Error("a closed socket gets datagrams")
	}
	p.remove(open)
	p.remove(only)
	if len(p.byPort) != 0 {
		t.Errorf("%d ports are left", len(p.byPort))
	}
}

// TestUDPDeadlinesAndEnds: what ends a read that waits, and what comes after.
func TestUDPDeadlinesAndEnds(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		closed := netip.AddrPortFrom(b.v4, 99)
		c, err := a.DialUDP(closed)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		read := func() error { _, err := c.Read(make([]byte, 10)); return err }
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if err := read(); !isTimeout(err) {
			t.Fatalf("after the deadline: %v", err)
		}
		c.SetReadDeadline(time.Now().Add(time.Hour))
		waits := make(chan error)
		go func() { waits <- read() }()
		c.SetReadDeadline(time.Unix(1, 0))
		if err := <-waits; !isTimeout(err) {
			t.Fatalf("called back by a deadline: %v", err)
		}
		c.SetReadDeadline(time.Time{})
		if _, err := c.Write([]byte("anybody?")); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("from a closed port: %v", err)
		}
		c.SetWriteDeadline(time.Unix(1, 0))
		if _, err := c.Write([]byte("late")); !isTimeout(err) {
			t.Fatalf("write after the deadline: %v", err)
		}
		go func() { waits <- read() }()
		c.Close()
		// As package net has it, and gVisor has not.
		_, ours := c.(*udpSocket)
		ended := func(err error) bool {
			var op *net.OpError
			return err != nil && (!ours || errors.Is(err, net.ErrClosed) && errors.As(err, &op))
		}
		if err := <-waits; !ended(err) {
			t.Fatalf("a read that waits for a socket that is closed: %v", err)
		}
		c.SetWriteDeadline(time.Time{})
		if _, err := c.Write([]byte("gone")); !ended(err) {
			t.Fatalf("a closed socket was written to: %v", err)
		}
		c.SetReadDeadline(time.Unix(1, 0))
		if err := read(); !ended(err) {
			t.Fatalf("a closed socket was read: %v", err)
		}
	})
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

// boundUDP is a socket at port 7 of a NIC of its own.
func boundUDP(t *testing.T, own netip.Addr) (*nic, *udpSocket) {
	t.Helper()
	n, err := newNIC([]netip.Addr{own}, 1420)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	c, err := n.ListenUDP(netip.AddrPortFrom(own, 7))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return n, c.(*udpSocket)
}

// TestDatagramsDoNotAllocate: from a socket to the queue, and from a packet to a read.
func TestDatagramsDoNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("pools forget at random under the race detector")
	}
	own := netip.MustParseAddr("100.64.0.1")
	n, c := boundUDP(t, own)
	other := netip.MustParseAddrPort("100.64.0.2:9")
	payload, buf := make([]byte, 1000), make([]byte, 2000)
	pkt := make([]byte, datagramSize(own, len(payload)))
	writeDatagram(pkt, other, netip.AddrPortFrom(own, 7), 1, payload)
	bufs, sizes := [][]byte{make([]byte, 2000)}, make([]int, 1)
	back := net.Addr(net.UDPAddrFromAddrPort(other))
	once := func() {
		if _, err := n.Write([][]byte{pkt}[:1], 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ReadFrom(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteTo(payload, back); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Read(bufs, sizes, 0); got != 1 || err != nil || sizes[0] != len(pkt) {
			t.Fatal(got, sizes, err)
		}
	}
	if got := testing.AllocsPerRun(1000, once); got > 0 {
		t.Errorf("%v allocations a datagram there and back", got)
	}
}

// givenEnd is an endpoint of gVisor's with that in it; nil is a datagram.
type givenEnd struct {
	tcpip.Endpoint
	has []tcpip.Error
}

func (e *givenEnd) Read(w io.Writer, _ tcpip.ReadOptions) (res tcpip.ReadResult, err tcpip.Error) {
	if len(e.has) == 0 {
		return res, &tcpip.ErrWouldBlock{}
	}
	if err, e.has = e.has[0], e.has[1:]; err != nil {
		return res, err
	}
	res.Count, _ = w.Write([]byte("x"))
	res.RemoteAddr = tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{100, 64, 0, 2}), Port: 9}
	return res, nil
}

// TestReadersAreAllWoken: gVisor tells once of several datagrams, and of the end.
func TestReadersAreAllWoken(t *testing.T) {
	refused, end := &tcpip.ErrConnectionRefused{}, &tcpip.ErrClosedForReceive{}
	for name, c := range map[string]struct {
		has                     []tcpip.Error
		datagrams, errors, ends int
	}{
		"datagrams": {[]tcpip.Error{nil, nil, nil}, 3, 0, 0},
		"an error":  {[]tcpip.Error{nil, refused, nil}, 2, 1, 0},
		"the end":   {[]tcpip.Error{end}, 0, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &udpSocket{ep: &givenEnd{has: c.has}, mail: mailbox{limit: udpBuffer}}
				s.ready.L = &s.mu
				results := make(chan error, 3)
				for range 3 {
					go func() {
						_, _, err := s.read(make([]byte, 10), true)
						results <- err
					}()
				}
				synctest.Wait()
				s.fetch()
				synctest.Wait()
				s.SetReadDeadline(time.Unix(1, 0)) // ends who was not woken
				var datagrams, refusals, ends int
				for range 3 {
					switch err := <-results; {
					case err == nil:
						datagrams++
					case errors.Is(err, syscall.ECONNREFUSED):
						refusals++
					case errors.Is(err, net.ErrClosed):
						ends++
					}
				}
				if datagrams != c.datagrams || refusals != c.errors || ends != c.ends {
					t.Errorf("%d datagrams, %d errors, %d ends: %+v", datagrams, refusals, ends, c)
				}
				if s.news.Load() != (c.ends > 0) {
					t.Error("writes go the wrong way from now on")
				}
			})
		})
	}
}

// TestNothingUnreadInGVisor: what does not pass gVisor by is not kept there, where nobody
// counts a datagram without a payload, and little of a small one.
func TestNothingUnreadInGVisor(t *testing.T) {
	own := netip.MustParseAddr("100.64.0.1")
	n, c := boundUDP(t, own)
	const options = 4
	plain := make([]byte, datagramSize(own, 0))
	writeDatagram(plain, netip.MustParseAddrPort("100.64.0.2:9"), netip.AddrPortFrom(own, 7), 1, nil)
	pkt := slices.Concat(plain[:header.IPv4MinimumSize], []byte{1, 1, 1, 0}, plain[header.IPv4MinimumSize:])
	ip := header.IPv4(pkt)
	ip.SetHeaderLength(header.IPv4MinimumSize + options)
	ip.SetTotalLength(uint16(len(pkt)))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	if _, _, _, ok := parseDatagram(pkt); ok {
		t.Fatal("it passes gVisor by")
	}
	const many = 1000
	for range many {
		if _, err := n.Write([][]byte{pkt}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if c.ep.Readiness(waiter.ReadableEvents)&waiter.ReadableEvents != 0 {
		t.Error("gVisor keeps datagrams")
	}
	c.mu.Lock()
	unread := (c.mail.w - c.mail.r) / mailHead
	c.mu.Unlock()
	if unread != many {
		t.Fatalf("%d datagrams are unread, want %d", unread, many)
	}
	if k, from, err := c.ReadFrom(make([]byte, 10)); k != 0 || err != nil || from.String() != "100.64.0.2:9" {
		t.Errorf("the first: %d bytes from %v, %v", k, from, err)
	}
}

// askedEnd is an endpoint of gVisor's that knows what it may be asked under which lock.
type askedEnd struct {
	tcpip.Endpoint
	t *testing.T
	c *udpSocket
}

func (e askedEnd) GetLocalAddress() (tcpip.FullAddress, tcpip.Error) {
	if !e.c.mu.TryLock() {
		e.t.Error("gVisor is asked for an address with the lock that it may be waiting for")
		return tcpip.FullAddress{}, nil
	}
	e.c.mu.Unlock()
	return tcpip.FullAddress{}, nil
}

// TestDeadlineAndClose: gVisor tells of the end of a socket with its own lock held, the one
// that addresses are under. A reader whose deadline passes meanwhile must not hold ours.
func TestDeadlineAndClose(t *testing.T) {
	c := new(udpSocket)
	c.ready.L = &c.mu
	c.slow = gonet.NewUDPConn(new(waiter.Queue), askedEnd{t: t, c: c})
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := c.Read(nil); !isTimeout(err) {
		t.Error(err)
	}
	if _, _, err := c.ReadFrom(nil); !isTimeout(err) {
		t.Error(err)
	}
}

// unread is a gateway whose way onward never opens.
type unread struct{ flows chan net.Conn }

func (unread) ForwardTCP(_, _ netip.AddrPort, _ func() (net.Conn, error), refuse func()) { refuse() }

func (u unread) ForwardUDP(_, _ netip.AddrPort, c net.Conn) { u.flows <- c }

func (unread) Echo([]byte) {}

// TestNothingUnreadBehindAGateway: a flow that nobody reads yet keeps no more than its share,
// of datagrams without a payload either; it gets the first, and answers.
func TestNothingUnreadBehindAGateway(t *testing.T) {
	own := netip.MustParseAddr("100.64.0.1")
	n, err := newNIC([]netip.Addr{own}, 1420)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	u := unread{make(chan net.Conn, 1)}
	if err := n.forward(u, []netip.Addr{own}); err != nil {
		t.Fatal(err)
	}
	src, dst := netip.MustParseAddrPort("100.64.0.2:9"), netip.MustParseAddrPort("10.0.0.1:7")
	first, empty := make([]byte, datagramSize(own, 5)), make([]byte, datagramSize(own, 0))
	writeDatagram(first, src, dst, 1, []byte("first"))
	writeDatagram(empty, src, dst, 2, nil)
	for i := range 2 * forwardBuffer / mailHead {
		pkt := empty
		if i == 0 {
			pkt = first
		}
		if _, err := n.Write([][]byte{slices.Clone(pkt)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	c := (<-u.flows).(*udpSocket)
	defer c.Close()
	if c.ep.Readiness(waiter.ReadableEvents)&waiter.ReadableEvents != 0 {
		t.Error("gVisor keeps datagrams")
	}
	c.mu.Lock()
	kept := c.mail.w - c.mail.r
	c.mu.Unlock()
	if kept > forwardBuffer || kept < forwardBuffer-mailHead {
		t.Errorf("%d bytes are unread, want %d at most, and that", kept, forwardBuffer)
	}
	b := make([]byte, 10)
	if k, err := c.Read(b); err != nil || string(b[:k]) != "first" {
		t.Errorf("the first: %q, %v", b[:k], err)
	}
	if _, err := c.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
	c.Close()
	for { // the end comes after nothing more
		if _, err := c.Read(b); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			break
		}
	}
}
