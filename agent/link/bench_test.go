package link

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

// canned is a network whose socket always has the same packet and takes every one.
type canned struct {
	Network
	packet []byte
	from   netip.AddrPort
	sent   int
}

func (c *canned) ListenUDP(uint16) (PacketConn, error) { return c, nil }
func (c *canned) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return copy(b, c.packet), c.from, nil
}
func (c *canned) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	c.sent++
	return len(b), nil
}
func (c *canned) LocalAddr() net.Addr             { return &net.UDPAddr{Port: 1} }
func (c *canned) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }
func (c *canned) Close() error                    { return nil }

// still returns a link that does not run, with one peer at from and at relay r1.
func still(tb testing.TB) (*Link, *canned, *peer, []conn.ReceiveFunc) {
	c := &canned{packet: make([]byte, 1420), from: netip.MustParseAddrPort("203.0.113.5:41641")}
	c.packet[0] = 4
	key := disco.NewPrivateKey().Public()
	l, err := New(Config{
		Network: c, Self: "alice", WireGuard: wire.WireGuardKey{1}, Disco: disco.NewPrivateKey(),
		TLS: func(wire.RelayID) *tls.Config { return nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	l.SetRelays([]wire.Relay{{ID: "r1", Addr: "192.0.2.1:443"}})
	l.SetPeers([]Peer{{ID: "bob00", WireGuard: wire.WireGuardKey{2}, Disco: key, Reach: wire.Reach{Relay: "r1"}}})
	fns, _, err := l.Open(0)
	if err != nil {
		tb.Fatal(err)
	}
	p := l.peers["bob00"]
	l.table.claim(c.from, p, true)
	return l, c, p, fns
}

// paths are what happens to each packet, one function for each way.
func paths(tb testing.TB) map[string]func() {
	l, c, p, fns := still(tb)
	rc := l.relays.conns["r1"]
	direct, relayed := &route{direct: c.from, relay: rc}, &route{relay: rc}
	s := newStreamConn(p, nil, c.from, true)
	streamed := &route{stream: s, relay: rc}
	var in2 incoming
	var ep conn.Endpoint = p
	out := [][]byte{c.packet}
	in, sizes, eps := [][]byte{make([]byte, 2048)}, make([]int, 1), make([]conn.Endpoint, 1)
	receive := func(fn conn.ReceiveFunc) {
		if n, err := fn(in, sizes, eps); n != 1 || err != nil || eps[0] != ep || sizes[0] != len(c.packet) {
			tb.Fatal("received", n, err, eps, sizes)
		}
	}
	id, _ := frame.IDOf(p.id)
	var incoming incoming
	return map[string]func(){
		"send direct": func() {
			p.route.Store(direct)
			l.Send(out, ep)
		},
		"send relayed": func() {
			p.route.Store(relayed)
			l.Send(out, ep)
			rc.out.drop()
		},
		"send by stream": func() {
			p.route.Store(streamed)
			l.Send(out, ep)
			s.out.drop()
		},
		"receive by stream": func() {
			l.hearStream(s, &in2, c.packet)
			in2.settle(l)
			receive(fns[1])
		},
		"receive direct": func() { receive(fns[0]) },
		"receive relayed": func() {
			l.hearRelayed(rc, &incoming, id, c.packet)
			incoming.settle(l)
			receive(fns[1])
		},
	}
}

func TestNoAllocationPerPacket(t *testing.T) {
	for name, f := range paths(t) {
		if n := testing.AllocsPerRun(2000, f); n != 0 {
			t.Errorf("%s: %v allocations a packet", name, n)
		}
	}
}

func BenchmarkPacket(b *testing.B) {
	for name, f := range paths(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(1420)
			for b.Loop() {
				f()
			}
		})
	}
}

// BenchmarkLoopback sends through two real sockets of this machine.
func BenchmarkLoopback(b *testing.B) {
	c, err := System().ListenUDP(0)
	if err != nil {
		b.Skip("no UDP here:", err)
	}
	defer c.Close()
	l, _, p, _ := still(b)
	real, err := System().ListenUDP(0)
	if err != nil {
		b.Fatal(err)
	}
	l.udp.sock.Store(newSocket(real))
	defer real.Close()
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), newSocket(c).port)
	p.route.Store(&route{direct: to})
	out, in := [][]byte{make([]byte, 1420)}, make([]byte, 2048)
	b.ReportAllocs()
	b.SetBytes(1420)
	for b.Loop() {
		l.Send(out, p)
		if _, _, err := c.ReadFromUDPAddrPort(in); err != nil {
			b.Fatal(err)
		}
	}
}
