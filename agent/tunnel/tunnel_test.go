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
