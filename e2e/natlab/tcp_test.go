package natlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// echo answers every connection with what it says.
func echo(t *testing.T, h *Host, port uint16) {
	t.Helper()
	l, err := h.ListenTCP(port)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			wg.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		h.Close()
		wg.Wait()
	})
}

// talk says text on c and wants it back.
func talk(c net.Conn, text string) error {
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		return fmt.Errorf("heard %q: %w", b, err)
	}
	return nil
}

func dial(t *testing.T, h *Host, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of a busy machine
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTCPFitsNarrowLinks(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		cfg := Easy()
		cfg.Uplink.MTU = 1300
		guest := lab.Host("guest", lab.Router("nat", lab.Internet(), cfg).LAN())
		web := lab.Host("web", lab.Internet())
		echo(t, web, 7)
		longest := 0
		stop := lab.Tap(func(s Sight) {
			if s.Node == "nat" && s.Drop == Passed {
				longest = max(longest, len(s.Packet))
			}
		})
		defer stop()
		if err := talk(dial(t, guest, "web:7"), string(make([]byte, 20_000))); err != nil {
			t.Error(err)
		}
		if d := lab.Drops()[DropMTU]; d == 0 {
			t.Error("nothing was too big; the test tests nothing")
		}
		stop()
		if longest > 1300 || longest < 1200 {
			t.Errorf("the longest packet had %d bytes", longest)
		}
	})
}

func TestTCPOverIPv6AndLoss(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		bad := Over(LinkConfig{Latency: time.Millisecond, Loss: 0.02, Reorder: 0.02, Corrupt: 0.01, Duplicate: 0.02})
		cfg := Easy()
		cfg.IPv6 = true
		inside := lab.Host("inside", lab.Router("nat", lab.Internet(), cfg).LAN(), bad)
		web := lab.Host("web", lab.Internet(), DualStack())
		echo(t, web, 7)
		for _, a := range web.Addrs() {
			if err := talk(dial(t, inside, net.JoinHostPort(a.String(), "7")), string(make([]byte, 50_000))); err != nil {
				t.Errorf("%v: %v", a, err)
			}
		}
	})
}

func TestTCPAfterAMove(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		laptop, web := lab.Host("laptop", lab.Behind(Easy())), lab.Host("web", lab.Internet())
		echo(t, web, 7)
		old := dial(t, laptop, "web.lab:7")
		if err := talk(old, "before"); err != nil {
			t.Fatal(err)
		}
		laptop.MoveTo(lab.Behind(Hard()))
		if err := talk(dial(t, laptop, "web.lab:7"), "after"); err != nil {
			t.Error(err)
		}
		old.SetDeadline(time.Now().Add(100 * time.Millisecond))
		io.WriteString(old, "from nowhere")
		if n, err := old.Read(make([]byte, 64)); err == nil {
			t.Errorf("the old connection still hears %d bytes", n)
		}
	})
}

// TestTCPErrors: programs see the errors that package net would give them.
func TestTCPErrors(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		a, web := lab.Host("a", lab.Internet()), lab.Host("web", lab.Internet())
		echo(t, web, 7)
		c := dial(t, a, "web:7")
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		c.SetReadDeadline(time.Time{})
		read := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		c.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read while closing: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	})
}

func TestManyHostsAtOnce(t *testing.T) {
	onClock(t, func(t *testing.T, lab *Lab) {
		web := lab.Host("web", lab.Internet())
		echo(t, web, 7)
		nats := []NATConfig{Easy(), EasyAF(), Hard(), FullCone(), Firewall(), Open(), CGNAT()}
		var wg sync.WaitGroup
		for i := range 14 {
			h := lab.Host(fmt.Sprint("h", i), lab.Behind(nats[i%len(nats)]), Over(LinkConfig{Latency: 2 * time.Millisecond}))
			c := dial(t, h, "web.lab:7")
			wg.Go(func() {
				for n := range 5 {
					if err := talk(c, fmt.Sprint(n, string(make([]byte, 20_000)))); err != nil {
						t.Errorf("%s: %v", h, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if n := len(lab.Hosts()); n != 15 {
			t.Errorf("%d hosts", n)
		}
	})
}

func TestAPortIsFreeAgainWhileConnectionsLinger(t *testing.T) {
	lab := New(Config{Seed: 1}).Start()
	defer lab.Close()
	server, client := lab.Host("server", lab.Internet()), lab.Host("client", lab.Internet())
	l, err := server.ListenTCP(443)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := server.ListenTCP(443); err == nil {
		twice.Close()
		t.Error("two servers on one port")
	}
	c, err := client.DialContext(t.Context(), "tcp", "server:443")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Disconnect() // nobody hears that it ends
	in.Close()
	l.Close()
	server.Reconnect()
	again, err := server.ListenTCP(443)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
