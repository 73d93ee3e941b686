package natlab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs f in a bubble with a lab whose TCP belongs there.
func inBubble(t *testing.T, f func(t *testing.T, lab *Lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lab := New(Config{Seed: 11, Bubble: true}).Start()
		defer lab.Close()
		f(t, lab)
	})
}

// pour sends n bytes over c, half of which come back, and compares.
func pour(t *testing.T, c, far net.Conn, n int) {
	t.Helper()
	data := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	sum := make(chan [32]byte, 1)
	go func() {
		got, err := io.ReadAll(far)
		if err != nil {
			t.Errorf("far end: %v", err)
		}
		sum <- sha256.Sum256(got)
		far.Close()
	}()
	if _, err := io.Copy(c, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if <-sum != sha256.Sum256(data) {
		t.Error("what came is not what was sent")
	}
}

func accept(t *testing.T, h *Host, port uint16) (net.Listener, chan net.Conn) {
	t.Helper()
	l, err := h.ListenTCP(port)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			conns <- c
		}
	}()
	return l, conns
}

func TestStreamsCarryOverBadLinks(t *testing.T) {
	bad := LinkConfig{Latency: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: .2, Reorder: .05, Duplicate: .05}
	narrow := Easy()
	narrow.Uplink.MTU = 576
	for name, net := range map[string]struct {
		nat  NATConfig
		link LinkConfig
	}{
		"good":            {Easy(), LinkConfig{Latency: 20 * time.Millisecond}},
		"without a delay": {Easy(), LinkConfig{}},
		"lossy":           {Hard(), bad},
		"narrow":          {narrow, LinkConfig{Latency: time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, lab *Lab) {
				guest, web := lab.Host("guest", lab.Behind(net.nat), Over(net.link)), lab.Host("web", lab.Internet())
				l, conns := accept(t, web, 443)
				defer l.Close()
				begun := time.Now()
				c := dial(t, guest, "web:443")
				pour(t, c, <-conns, 300_000)
				t.Logf("300 kB in %v", time.Since(begun))
			})
		})
	}
}

func TestStreamErrorsAreThoseOfSockets(t *testing.T) {
	inBubble(t, func(t *testing.T, lab *Lab) {
		wire := Over(LinkConfig{Latency: 10 * time.Millisecond})
		guest, web := lab.Host("guest", lab.Behind(Easy()), wire), lab.Host("web", lab.Internet(), wire)
		if _, err := guest.DialContext(t.Context(), "tcp", "web:81"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := guest.DialContext(ctx, "tcp", "203.0.113.200:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody is there: %v", err)
		}
		l, conns := accept(t, web, 443)
		c := dial(t, guest, "web:443")
		far := <-conns
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a late read: %v", err)
		}
		c.SetReadDeadline(time.Time{})
		// Written, not read: the sender waits, and goes on when somebody reads.
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := c.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < streamWindow || n > 3*streamWindow {
			t.Errorf("wrote %d without a reader: %v", n, err)
		}
		if got, err := io.ReadFull(far, make([]byte, n)); err != nil {
			t.Errorf("read %d of %d: %v", got, n, err)
		}
		// The NAT forgets the connection: the server knows no such client and says so.
		guest.Network().Router().Rebind()
		c.SetWriteDeadline(time.Time{})
		io.WriteString(c, "still there?")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the NAT forgot: %v", err)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
		c.Close()
		if _, err := c.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	})
}

func TestOneFamilyMayBeABlackHole(t *testing.T) {
	inBubble(t, func(t *testing.T, lab *Lab) {
		cfg := Easy()
		cfg.IPv6, cfg.IPv4Lost = true, true
		wire := Over(LinkConfig{Latency: 10 * time.Millisecond})
		guest, web := lab.Host("guest", lab.Behind(cfg), wire), lab.Host("web", lab.Internet(), DualStack(), wire)
		_, conns := accept(t, web, 443)
		begun := time.Now()
		c := dial(t, guest, "web:443")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("connected after %v", took)
		}
		pour(t, c, <-conns, 1000)
	})
}

func TestAGivenUpStreamEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, lab *Lab) {
		guest, web := lab.Host("guest", lab.Behind(Easy())), lab.Host("web", lab.Internet())
		_, conns := accept(t, web, 443)
		c := dial(t, guest, "web:443")
		<-conns
		web.Disconnect()
		io.WriteString(c, "anyone?")
		begun := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
