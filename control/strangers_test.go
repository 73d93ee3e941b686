package control

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"enclave/loglimit"
	"enclave/store"
	"enclave/wire"
)

// logged counts what is logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) with(word string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(word))
}

// TestStrangersFillNoLog: what costs a stranger nothing, a request that is refused and a
// connection too many, is a line of the log a bounded number of times.
func TestStrangersFillNoLog(t *testing.T) {
	var log logged
	const places = 8
	w := newWorld(t, func(c *Config, _ *store.Settings) {
		c.MaxPerAddress, c.Logger = places, slog.New(slog.NewTextHandler(&log, nil))
	})
	c := w.client(nil)
	const tries = 3 * loglimit.Burst
	for range tries {
		if _, p := do(t, c, "POST", "https://"+w.addr+wire.PathEnrol, nil, wire.EnrolRequest{}, nil); p == nil {
			t.Fatal("enrolled")
		}
	}
	for range places - 1 { // and the client's own
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range tries {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(c); err != nil {
			t.Log(err) // reset, or closed
		}
		c.Close()
	}
	for _, what := range []string{"agent request refused", "connection refused"} {
		if n := log.with(what); n < loglimit.Burst || n >= tries*2/3 {
			t.Errorf("%d lines %q of %d, want %d and few more", n, what, tries, loglimit.Burst)
		}
	}
}
