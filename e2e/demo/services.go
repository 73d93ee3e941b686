package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"enclave/agent"
)

// The services of the demo are ordinary programs over the overlay's sockets: an HTTP
// server, a line protocol over TCP and a UDP sink. Nothing in them knows that the
// network is simulated.

// chunk is one piece of the endless download. Small pieces at a steady pace make the
// time of the last byte sharp.
var chunk = strings.Repeat("x", 1000) + "\n"

const chunkEvery = 2 * time.Millisecond

// serveHTTP offers a page at / and an endless download at /download.
func serveHTTP(ctx context.Context, a *agent.Agent, name string, port uint16) error {
	l, err := a.Listen(ctx, port)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "hello from %s\n", name) })
	mux.HandleFunc("GET /download", func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(chunkEvery)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveLines is the database: PUT key value, GET key, one answer a line.
func serveLines(ctx context.Context, a *agent.Agent, port uint16) error {
	l, err := a.Listen(ctx, port)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var mu sync.Mutex // guards rows
	rows := make(map[string]string)
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		conns.Go(func() {
			defer context.AfterFunc(ctx, func() { c.Close() })()
			defer c.Close()
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				f := strings.Fields(lines.Text())
				mu.Lock()
				answer := "ERR want PUT key value or GET key"
				switch {
				case len(f) == 3 && f[0] == "PUT":
					rows[f[1]] = f[2]
					answer = "OK"
				case len(f) == 2 && f[0] == "GET":
					answer = "VALUE " + rows[f[1]]
				}
				mu.Unlock()
				if _, err := fmt.Fprintln(c, answer); err != nil {
					return
				}
			}
		})
	}
}

// sink counts datagrams and remembers when the last one came.
type sink struct {
	mu   sync.Mutex // guards the two below
	last time.Time
	n    int
}

func (s *sink) seen() (time.Time, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.n
}

func (s *sink) serve(ctx context.Context, a *agent.Agent, port uint16) error {
	c, err := a.ListenUDP(ctx, port)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	buf := make([]byte, 2048)
	for {
		if _, _, err := c.ReadFrom(buf); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.mu.Lock()
		s.last, s.n = time.Now(), s.n+1
		s.mu.Unlock()
	}
}
