package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// connect opens a connection from a to b and returns both ends.
func connect(t testing.TB, a, b *node, port uint16) (client, server net.Conn) {
	t.Helper()
	return connectAt(t, a, b, b.at(port))
}

func connectAt(t testing.TB, a, b *node, at netip.AddrPort) (client, server net.Conn) {
	t.Helper()
	l, err := b.ListenTCP(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err = a.DialTCP(patience(t), at)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestTCPCrossesTheTunnel(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		sent := strings.Repeat("0123456789", 100_000)
		go func() {
			io.WriteString(client, sent)
			client.(*TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(server)
		if err != nil || string(got) != sent {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(sent))
		}
		// The other direction is still open after the half-close.
		io.WriteString(server, "bye")
		server.Close()
		if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		s := a.PeerStats()[b.key]
		if s.LastHandshake.IsZero() || s.Tx < uint64(len(sent)) || s.Rx == 0 {
			t.Fatalf("stats %+v", s)
		}
	})
}

func TestIPv6AndUDP(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		at := netip.AddrPortFrom(b.v6, 53)
		server, err := b.ListenUDP(at)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client, err := a.DialUDP(at)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		io.WriteString(client, "ping")
		buf := make([]byte, 100)
		n, from, err := server.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "ping" {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
		server.WriteTo([]byte("pong"), from)
		if n, err = client.Read(buf); err != nil || string(buf[:n]) != "pong" {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
	})
}

// TestTCPIsCutForANarrowPath: a connection that is open, both families, both ways; and
// whole again when the path is.
func TestTCPIsCutForANarrowPath(t *testing.T) {
	noLeaks(t)
	a, b := newPair(t, stacks{Enclave})
	var largest atomic.Int64
	see := func(pkt []byte) {
		if n := int64(len(pkt)); n > largest.Load() {
			largest.Store(n)
		}
	}
	for _, n := range []*node{a, b} {
		n.filter.tap.Store(&see)
	}
	const block = 300_000
	pass := func(from, to net.Conn) {
		t.Helper()
		go io.WriteString(from, strings.Repeat("0123456789", block/10))
		if _, err := io.CopyN(io.Discard, to, block); err != nil {
			t.Fatal(err)
		}
	}
	var pairs [][2]net.Conn
	for _, at := range []netip.AddrPort{b.at(80), netip.AddrPortFrom(b.v6, 80)} {
		client, server := connectAt(t, a, b, at)
		pairs = append(pairs, [2]net.Conn{client, server}, [2]net.Conn{server, client})
	}
	for _, tt := range []struct{ told, most int64 }{{0, DefaultMTU}, {1250, 1248}, {516, 512}, {0, DefaultMTU}} {
		a.SetSize(b.key, int(tt.told))
		b.SetSize(a.key, int(tt.told))
		for i, p := range pairs {
			pass(p[0], p[1]) // what TCP had in hand, too
			largest.Store(0)
			pass(p[0], p[1])
			if got := largest.Load(); got > tt.most || got < tt.most-30 { // TCP leaves room for options
				t.Errorf("direct path for %d bytes, connection %d: packets of up to %d bytes, want some %d", tt.told, i, got, tt.most)
			}
		}
	}
	a.SetSize(b.key, 600)
	head := segment{v6: true}.encode()[:header.IPv6MinimumSize]
	if n := testing.AllocsPerRun(100, func() { limit(*a.paths.limits.Load(), head, []netip.Addr{a.v4}) }); n > 0 {
		t.Errorf("%v allocations a packet", n)
	}
	if err := a.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	if n := len(a.paths.sizes); n > 0 || a.paths.limits.Load() != nil {
		t.Errorf("%d sizes of peers that are gone", n)
	}
}

func TestPing(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		for _, addr := range []netip.Addr{b.v4, b.v6} {
			if rtt, err := a.Ping(patience(t), addr); err != nil || rtt <= 0 {
				t.Fatalf("ping %s: %s, %v", addr, rtt, err)
			}
		}
		b.filter.denyIn.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := a.Ping(ctx, b.v4); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a filtered ping: %v", err)
		}
	})
}

func TestFilterDeniesAtTheReceiver(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatal(err)
		}
		b.filter.denyIn.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if c, err := a.DialTCP(ctx, b.at(80)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial: %v, %v", c, err)
		}
	})
}

func TestClosedPortIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		if _, err := a.DialTCP(patience(t), b.at(81)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	})
}

func TestLingerZeroResets(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		client.(*TCPConn).SetLinger(0)
		client.Close()
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after a reset: %v", err)
		}
	})
}

// A reset that a write was told of must not leave the read with a regular end.
func TestAResetIsNoEndAfterAWrite(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		client.(*TCPConn).SetLinger(0)
		client.Close()
		var err error
		for deadline := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(deadline); {
			_, err = io.WriteString(server, "x")
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("write after a reset: %v", err)
		}
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after that: %v", err)
		}
	})
}

// A reset must come through whatever the connection is doing: with a sender that waits
// for a window, after one direction has ended and nothing is under way, over IPv6, and
// for a far end that has not read yet.
func TestLingerZeroResetsInAnyState(t *testing.T) {
	states := map[string]func(client, server net.Conn){
		"blocked sender": func(client, _ net.Conn) {
			client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			for buf := make([]byte, 1<<20); ; {
				if _, err := client.Write(buf); err != nil {
					return
				}
			}
		},
		"half closed": func(client, server net.Conn) {
			client.(*TCPConn).CloseWrite()
			io.ReadAll(server)
		},
		"half closed by the other": func(client, server net.Conn) {
			server.(*TCPConn).CloseWrite()
			io.ReadAll(client)
		},
		"unread data": func(client, server net.Conn) {
			io.WriteString(server, "unread")
			io.ReadFull(client, make([]byte, 1))
		},
	}
	onEach(t, func(t *testing.T, on stacks) {
		for name, prepare := range states {
			t.Run(name, func(t *testing.T) {
				noLeaks(t)
				a, b := newPair(t, on)
				client, server := connectAt(t, a, b, netip.AddrPortFrom(b.v6, 80))
				prepare(client, server)
				client.(*TCPConn).SetLinger(0)
				client.Close()
				server.SetDeadline(time.Now().Add(5 * time.Second))
				_, err := io.Copy(io.Discard, server)
				if err == nil { // the end of data came before; a write tells the rest
					for err == nil {
						_, err = io.WriteString(server, "x")
					}
				}
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNABORTED) {
					t.Fatalf("after a reset: %v", err)
				}
			})
		}
	})
}

// The end of a tunnel is a reset for those who talk to it.
func TestAbortResetsPeers(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		_, server := connect(t, a, b, 80)
		a.stack.Abort()
		server.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	})
}

// TestCloseResetsPeers: whoever talked to a tunnel that closes learns it from a reset,
// not from a timeout.
func TestCloseResetsPeers(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		a, b := newPair(t, on)
		_, server := connect(t, a, b, 80)
		a.Close()
		server.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	})
}

func TestRemovedPeerIsForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)
		before := b.PeerStats()[a.key].Rx
		if err := b.SetPeers(nil); err != nil {
			t.Fatal(err)
		}
		if s := b.PeerStats(); len(s) != 0 {
			t.Fatalf("peers left: %v", s)
		}
		// A still has its keys and encrypts; B must not decrypt, with a handshake or not.
		io.WriteString(client, "late")
		server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := server.Read(make([]byte, 8)); n != 0 || err == nil {
			t.Fatalf("read %d bytes from a forgotten peer, %v", n, err)
		}
		// Introduced anew it must shake hands again: the counters begin at zero.
		if err := b.SetPeers([]Peer{a.peer()}); err != nil {
			t.Fatal(err)
		}
		if s := b.PeerStats()[a.key]; !s.LastHandshake.IsZero() || s.Rx >= before {
			t.Fatalf("the old session is back: %+v", s)
		}
	})
}

func TestSetPeersKeepsSessions(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		w := wiring{stacks: on}
		a := newNode(t, &w, "100.64.0.1", "fd7a::1")
		b := newNode(t, &w, "100.64.0.2", "fd7a::2")
		c := newNode(t, &w, "100.64.0.3", "fd7a::3")
		b.SetPeers([]Peer{a.peer()})
		c.SetPeers([]Peer{a.peer()})
		if err := a.SetPeers([]Peer{b.peer()}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatal(err)
		}
		session := a.PeerStats()[b.key].LastHandshake
		if err := a.SetPeers([]Peer{c.peer(), b.peer()}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Ping(patience(t), c.v4); err != nil {
			t.Fatal(err)
		}
		// The two swap an address; traffic must follow its new owner.
		pb, pc := b.peer(), c.peer()
		pb.Addrs[0], pc.Addrs[0] = pc.Addrs[0], pb.Addrs[0]
		pb.KeepAlive = 1500 * time.Millisecond
		if err := a.SetPeers([]Peer{pb, pc}); err != nil {
			t.Fatal(err)
		}
		text, _ := a.dev.IpcGet()
		if _, section, _ := strings.Cut(text, "endpoint="+string(w.binds[hexKey(b.key)].self)); !strings.Contains(strings.Split(section, "public_key")[0], "allowed_ip="+c.v4.String()+"/32") {
			t.Fatalf("the address did not move:\n%s", text)
		}
		if !strings.Contains(text, "persistent_keepalive_interval=2\n") {
			t.Fatalf("keep-alive is not rounded up:\n%s", text)
		}
		// An address that goes to nobody is gone.
		pb.Addrs = pb.Addrs[1:]
		if err := a.SetPeers([]Peer{pb, pc}); err != nil {
			t.Fatal(err)
		}
		if text, _ = a.dev.IpcGet(); strings.Contains(text, c.v4.String()) {
			t.Fatalf("the address is still there:\n%s", text)
		}
		if got := a.PeerStats()[b.key].LastHandshake; got != session {
			t.Fatalf("the session did not survive: %s, %s", got, session)
		}
	})
}

func TestSetPeersRefusesContradictions(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		key := b.key
		key[0]++
		err := a.SetPeers([]Peer{
			b.peer(), b.peer(),
			{Key: key, Addrs: []netip.Addr{b.v4}},
			{Key: a.key, KeepAlive: -time.Second},
			{Addrs: []netip.Addr{{}}},
		})
		for _, want := range []string{"peers[1]: key", "given twice", "peers[2]: 100.64.0.2 belongs to", "peers[3]", "our own", "keep-alive", "peers[4]: no key", "no overlay address"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error lacks %q: %v", want, err)
			}
		}
		if len(a.PeerStats()) != 1 {
			t.Fatal("a refused list took effect")
		}
	})
}

// A cut leaves a reset for the local end and one for the remote end.
func TestInjectedResetAbortsBothEnds(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connect(t, a, b, 80)

		// Learn a's sequence numbers from a packet of the flow.
		var mu sync.Mutex
		var seen []byte
		tap := func(pkt []byte) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen[:0], pkt...)
		}
		a.filter.tap.Store(&tap)
		io.WriteString(client, "x")
		if _, err := server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		data := header.TCP(header.IPv4(seen).Payload())
		seq, ack := data.SequenceNumber()+uint32(len(data.Payload())), data.AckNumber()
		mu.Unlock()

		// The filter is shut: only what is injected may pass now.
		a.filter.denyOut.Store(true)
		b.filter.denyOut.Store(true)
		local := craftReset(b.at(80), client.LocalAddr(), ack, seq)
		remote := craftReset(client.LocalAddr(), b.at(80), seq, ack)
		a.Inject([][]byte{local}, [][]byte{remote})
		for name, c := range map[string]net.Conn{"local": client, "remote": server} {
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s end: %v, want a reset", name, err)
			}
		}
	})
}

// wireguard-go has no counter for it: we know by the log line alone.
// TestALiarMovesNobody: a network that names a third party as the sender of valid
// packets does not make the answers go there.
func TestALiarMovesNobody(t *testing.T) {
	w := wiring{stacks: stacks{Enclave}}
	a, b := newNode(t, &w, "100.64.0.1", "fd7a::1"), newNode(t, &w, "100.64.0.2", "fd7a::2")
	for n, other := range map[*node]*node{a: b, b: a} {
		if err := n.SetPeers([]Peer{other.peer()}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Ping(patience(t), b.v4); err != nil {
		t.Fatal(err)
	}
	nobody := memEndpoint(strings.Repeat("ab", 32))
	w.liar.Store(&nobody)
	for range 3 {
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatalf("the answers went elsewhere: %v", err)
		}
	}
}

func TestSpoofedSourceIsCounted(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		if _, err := a.Ping(patience(t), b.v4); err != nil {
			t.Fatal(err)
		}
		if n := b.Spoofed(); n != 0 {
			t.Fatalf("%d spoofed before any", n)
		}
		a.Inject(nil, [][]byte{udp4("100.64.0.9", "100.64.0.2"), udp6("fd7a::9", "fd7a::2")})
		eventually(t, "both packets are counted", func() bool { return b.Spoofed() == 2 })
	})
}

func TestCloseUnderTraffic(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		for range 20 {
			a, b := newPair(t, on)
			client, server := connect(t, a, b, 80)
			var wg sync.WaitGroup
			buf := make([]byte, 32<<10)
			wg.Go(func() {
				for {
					if _, err := client.Write(buf); err != nil {
						return
					}
				}
			})
			wg.Go(func() { io.Copy(io.Discard, server) })
			u, err := a.DialUDP(b.at(9))
			if err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						u.Write(buf[:1000])
					}
				}
			})
			a.Ping(patience(t), b.v4)
			a.Close()
			b.Close()
			close(stop)
			wg.Wait()
			a.Close()
			if slices.Contains(on, Stock) {
				continue // its Close does not wait; noLeaks sees that it ends
			}
			buf = make([]byte, 1<<20)
			for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				// The timer of a deadline is a goroutine of its own for a moment.
				if strings.Contains(g, "gvisor.dev") && !strings.Contains(g, "setDeadline.func") {
					t.Fatalf("Close returned before the stack ended:\n%s", g)
				}
			}
		}
	})
}

func TestListenerCloseEndsAccept(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, _ := newPair(t, on)
		l, err := a.ListenTCP(a.at(0))
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().(*net.TCPAddr).Port == 0 {
			t.Fatal("no port was picked")
		}
		ended := make(chan error)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestConfigNamesEveryMistake(t *testing.T) {
	_, err := New(Config{MTU: 100, Addrs: []netip.Addr{{}}, Netstack: "kernel"})
	for _, want := range []string{"addrs[0]", "mtu", "private key", "bind", "filter", `netstack "kernel": want enclave or stock`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
