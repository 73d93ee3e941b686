package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// book is a Dialer that knows a few names and dials them on this machine.
type book map[string]string

func (b book) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := b[addr]
	switch {
	case !ok:
		return nil, &Error{Reason: UnknownName, Target: addr}
	case to == "denied":
		return nil, &Error{Reason: Denied, Target: addr, Err: errors.New("no rule of any policy covers tcp/22")}
	case to == "offline":
		return nil, &Error{Reason: Offline, Target: addr}
	case to == "silent":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// start runs a server until the test ends, and waits for it then.
func start(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("run: %v", err)
				}
			case <-time.After(time.Minute):
				t.Error("run did not end with its context")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// noLeaks fails when goroutines of the package outlive the test's other cleanups. It
// must be called first.
func noLeaks(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a wall-clock scenario")
	}
	t.Cleanup(func() {
		buf := make([]byte, 1<<20)
		for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
			stacks := string(buf[:runtime.Stack(buf, true)])
			mine := 0
			for g := range strings.SplitSeq(stacks, "\n\n") {
				if strings.Contains(g, "agent/proxy.") && !strings.Contains(g, "testing.tRunner") {
					mine++
				}
			}
			if mine == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d goroutines left:\n%s", mine, stacks)
			}
		}
	})
}

func startSOCKS(t testing.TB, s *SOCKS) string {
	l := listen(t)
	start(t, func(ctx context.Context) error { return s.Run(ctx, l) })
	return l.Addr().String()
}

func startHTTP(t testing.TB, h *HTTP) string {
	l := listen(t)
	start(t, func(ctx context.Context) error { return h.Run(ctx, l) })
	return l.Addr().String()
}

func startRelay(t testing.TB, r *Relay) string {
	l := listen(t)
	start(t, func(ctx context.Context) error { return r.Run(ctx, l) })
	return l.Addr().String()
}

// startWeb serves one page and returns its address.
func startWeb(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func hello(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "hello "+r.Host)
}

// accepted returns the next connection of l.
func accepted(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.TCPConn)
}

func wantReset(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v, want a reset", err)
	}
}

// startEcho answers datagrams with themselves.
func startEcho(t testing.TB) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	return pc.LocalAddr().String()
}
