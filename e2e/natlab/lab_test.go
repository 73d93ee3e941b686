package natlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs f with a started lab inside a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T, lab *Lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lab := New(Config{Seed: 1}).Start()
		defer lab.Close()
		f(t, lab)
	})
}

// onClock runs f with a started lab on the wall clock; TCP needs it.
func onClock(t *testing.T, f func(t *testing.T, lab *Lab)) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	lab := New(Config{Seed: 1, Record: 1 << 20}).Start()
	defer lab.Close()
	defer func() {
		if t.Failed() {
			f, err := os.Create(t.ArtifactDir() + "/lab.pcapng")
			if err == nil {
				lab.WritePCAP(f)
				f.Close()
			}
		}
	}()
	f(t, lab)
}

func listen(t *testing.T, h *Host, port uint16) *UDPConn {
	t.Helper()
	c, err := h.ListenUDP(port)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c *UDPConn, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// receive waits up to a second of the lab's time.
func receive(c *UDPConn) (string, netip.AddrPort, error) {
	var b [2048]byte
	c.SetReadDeadline(time.Now().Add(time.Second))
	n, from, err := c.ReadFromUDPAddrPort(b[:])
	return string(b[:n]), from, err
}

func mustReceive(t *testing.T, c *UDPConn, want string) netip.AddrPort {
	t.Helper()
	got, from, err := receive(c)
	if err != nil || got != want {
		t.Fatalf("received %q, %v; want %q (drops %v)", got, err, want, c.host.lab.Drops())
	}
	return from
}

func mustNotReceive(t *testing.T, c *UDPConn) {
	t.Helper()
	if got, from, err := receive(c); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("received %q from %v, %v; want nothing", got, from, err)
	}
}

func at(h *Host, port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addrs()[0], port) }

func TestUDPCrossesTheInternet(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		wire := LinkConfig{Latency: 20 * time.Millisecond}
		a := lab.Host("a", lab.Internet(), Over(wire), DualStack())
		b := lab.Host("b", lab.Internet(), Over(wire), DualStack())
		ca, cb := listen(t, a, 0), listen(t, b, 7)
		for i, v6 := range []bool{false, true} {
			start := time.Now()
			send(t, ca, netip.AddrPortFrom(b.Addrs()[i], 7), "hello")
			from := mustReceive(t, cb, "hello")
			if took := time.Since(start); took != 40*time.Millisecond {
				t.Errorf("took %v, want twice 20 ms", took)
			}
			if from.Addr() != a.Addrs()[i] || from.Addr().Is6() != v6 {
				t.Errorf("came from %v", from)
			}
			send(t, cb, from, "back")
			mustReceive(t, ca, "back")
		}
		if got := lab.Traffic(a, b); got.Packets != 2 {
			t.Errorf("traffic a to b: %+v", got)
		}
	})
}

func TestPing(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		a := lab.Host("a", lab.Behind(Easy()), Over(LinkConfig{Latency: 5 * time.Millisecond}))
		b := lab.Host("b", lab.Internet())
		rtt, err := a.Ping(t.Context(), b.Addrs()[0])
		if err != nil || rtt != 10*time.Millisecond {
			t.Errorf("ping: %v, %v", rtt, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Ping(ctx, a.Addrs()[0]); err == nil {
			t.Error("a private address answered from outside")
		}
	})
}

func TestHTTPThroughNATs(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		wire := Over(LinkConfig{Latency: 2 * time.Millisecond})
		web := lab.Host("web", lab.Internet(), wire)
		carrier := lab.Router("carrier", lab.Internet(), CGNAT())
		home := lab.Router("home", carrier.LAN(), Easy())
		hotel := lab.Router("hotel", lab.Internet(), OnlyTCP443())
		serve(t, web, 443)
		serve(t, web, 80)
		for _, n := range []*Network{lab.Internet(), home.LAN(), hotel.LAN()} {
			h := lab.Host("client at "+n.String(), n, wire)
			if got, err := get(h, "http://web.lab:443/"); err != nil || !strings.HasPrefix(got, "hello") {
				t.Errorf("%s: %.20q, %v", h, got, err)
			}
		}
		h := lab.Host("guest", hotel.LAN())
		if got, err := get(h, "http://web.lab:80/"); err == nil {
			t.Errorf("port 80 left the hotel: %q", got)
		}
	})
}

// serve answers every GET with "hello" and 200 kB.
func serve(t *testing.T, h *Host, port uint16) {
	t.Helper()
	l, err := h.ListenTCP(port)
	if err != nil {
		t.Fatal(err)
	}
	body := "hello" + strings.Repeat("x", 200_000)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, body)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
}

func get(h *Host, url string) (string, error) {
	tr := &http.Transport{DialContext: h.DialContext}
	defer tr.CloseIdleConnections()
	c := http.Client{Transport: tr, Timeout: 2 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && len(b) != 200_005 {
		err = fmt.Errorf("%d bytes", len(b))
	}
	return string(b), err
}

func TestRefusedWithoutListener(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		a, b := lab.Host("a", lab.Internet()), lab.Host("b", lab.Internet())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of a busy machine
		defer cancel()
		_, err := a.DialContext(ctx, "tcp", netip.AddrPortFrom(b.Addrs()[0], 9).String())
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	before := runtime.NumGoroutine()
	for range 3 {
		lab := New(Config{}).Start()
		a := lab.Host("a", lab.Behind(Easy()))
		b := lab.Host("b", lab.Internet())
		l, err := b.ListenTCP(80)
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			accepted <- err
		}()
		c, err := a.DialContext(t.Context(), "tcp", "b:80")
		if err != nil {
			t.Fatal(err)
		}
		u := listen(t, a, 0)
		read := make(chan error, 1)
		go func() {
			_, _, err := u.ReadFromUDPAddrPort(nil)
			read <- err
		}()
		lab.Close()
		lab.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if <-accepted == nil {
			t.Error("a read on a closed lab succeeded")
		}
		c.Close()
		l.Close()
		if _, err := a.ListenUDP(0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen on a closed lab: %v", err)
		}
	}
	// gVisor's timers and processors end on their own time.
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), b[:runtime.Stack(b, true)])
		}
	}
}
