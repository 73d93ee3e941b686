package relay

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"enclave/passage"
	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

// serve starts the relay on a loopback listener, and ends it with the test.
func (w *world) serve() net.Addr {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.srv.Serve(w.ctx, l) }()
	w.t.Cleanup(func() {
		w.cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr()
}

// call connects a system over loopback and returns after the relay's Hello.
func (w *world) call(addr net.Addr, id wire.SystemID) (*tls.Conn, *frame.Reader) {
	w.t.Helper()
	return w.callWith(addr, w.clientTLS(w.svid(svid.System(w.org, id), time.Hour)))
}

func (w *world) callWith(addr net.Addr, cfg *tls.Config) (*tls.Conn, *frame.Reader) {
	w.t.Helper()
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(w.ctx, "tcp", addr.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if _, err := c.Write(frame.AppendHello(nil, frame.Version)); err != nil {
		w.t.Fatal(err)
	}
	r := frame.NewReader(c)
	w.expect(r, frame.Hello)
	return c.(*tls.Conn), r
}

func (w *world) expect(r *frame.Reader, want frame.Type) []byte {
	w.t.Helper()
	typ, body, err := r.Next()
	if err != nil || typ != want {
		w.t.Fatalf("got %v, %v; want %v", typ, err, want)
	}
	return body
}

// pair connects alice and bob over loopback and opens their pair.
func (w *world) pair(addr net.Addr) (alice, bob *tls.Conn, fromRelay *frame.Reader) {
	w.t.Helper()
	bob, r := w.call(addr, "bob00")
	alice, ra := w.call(addr, "alice")
	b, _ := frame.AppendOpen(nil, w.ticket("alice", "bob00", time.Hour))
	alice.Write(b)
	w.expect(ra, frame.Opened)
	return alice, bob, r
}

func TestServeOverTCPLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t, Limits{DrainGrace: time.Nanosecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.srv.Serve(w.ctx, l) }()
	alice, _, r := w.pair(l.Addr())
	b, _ := frame.AppendSend(nil, frame.ID([]byte("bob00")), []byte("hello"))
	alice.Write(b)
	if body := w.expect(r, frame.Recv); string(body) != "alicehello" {
		t.Errorf("got %q", body)
	}
	silent, err := net.Dial("tcp", l.Addr().String()) // never begins its handshake
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := w.srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if len(w.srv.door.bySource) != 0 {
		t.Errorf("sources left: %v", w.srv.door.bySource)
	}
	// The client learns of the end by TLS's close notice, after Drain and Note; that
	// alice went first it may learn in between.
	heard := map[frame.Type]bool{}
	for {
		typ, _, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("end reads as %v", err)
		}
		heard[typ] = true
	}
	if !heard[frame.Drain] || !heard[frame.Note] {
		t.Errorf("before the end came %v", heard)
	}
	// What Shutdown waited for is gone; the runtime may still be freeing stacks.
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	buf := make([]byte, 1<<16)
	if stacks := string(buf[:runtime.Stack(buf, true)]); strings.Contains(stacks, "relay.(*") {
		t.Errorf("goroutines left:\n%s", stacks)
	}
}

// TestSharesAPortWithHTTP is how control serves relay clients on its own listener.
func TestSharesAPortWithHTTP(t *testing.T) {
	w := newWorld(t, Limits{DrainGrace: time.Nanosecond})
	id := w.svid(svid.Control(w.org), time.Hour)
	cfg := svid.ServerConfig(w.trust(), func() (*tls.Certificate, error) { return id, nil }, svid.ClientOptional)
	cfg.NextProtos = []string{frame.ALPN, "http/1.1"}
	h := &http.Server{
		TLSConfig: cfg,
		Handler:   http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "http") }),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			frame.ALPN: func(_ *http.Server, c *tls.Conn, _ http.Handler) { w.srv.ServeConn(w.ctx, c) },
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.ServeTLS(l, "", "") }()

	agentTLS := svid.ClientConfig(w.trust(), func() (*tls.Certificate, error) { return w.svid(svid.System(w.org, "alice"), time.Hour), nil }, svid.Control(w.org))
	agentTLS.NextProtos = []string{frame.ALPN}
	c, err := tls.Dial("tcp", l.Addr().String(), agentTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(frame.AppendHello(nil, frame.Version))
	w.expect(frame.NewReader(c), frame.Hello)

	// This listener also lets people in without a certificate. Not the relay.
	agentTLS.GetClientCertificate = nil
	nobody, err := tls.Dial("tcp", l.Addr().String(), agentTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	nobody.Write(frame.AppendHello(nil, frame.Version))
	if _, _, err := frame.NewReader(nobody).Next(); err == nil {
		t.Error("a client without a certificate was served")
	}

	agentTLS.NextProtos = []string{"http/1.1"}
	hc := http.Client{Transport: &http.Transport{TLSClientConfig: agentTLS, DisableKeepAlives: true}}
	resp, err := hc.Get("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	w.srv.Shutdown(context.Background())
	h.Close()
	if err := <-done; err != http.ErrServerClosed {
		t.Error(err)
	}
	w.counted("refused_connections/identity", 1)
	w.counted("ended_connections/shutdown", 1)
}

func TestCollector(t *testing.T) {
	s := New(Config{})
	s.count(dropQueueFull, 3)
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(s.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen, dropped := 0, 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			seen++
			if f.GetName() == "enclave_relay_dropped_frames_total" && m.GetLabel()[0].GetValue() == "queue_full" {
				dropped = m.GetCounter().GetValue()
			}
		}
	}
	if want := int(numEvents) - 1 + 3; seen != want || dropped != 3 {
		t.Errorf("%d metrics, want %d; dropped %v", seen, want, dropped)
	}
	for e := event(1); e < numEvents; e++ {
		if events[e].metric == "" {
			t.Errorf("event %d has no name", e)
		}
	}
}

// TestInsideAWebSocket: where only the web passes, a client comes inside a WebSocket, shows
// the same certificate in there, and is carried to one that came straight. Without a
// certificate nobody gets in that way either.
func TestInsideAWebSocket(t *testing.T) {
	w := newWorld(t, Limits{})
	addr := w.serve()
	web := func(cfg *tls.Config) (*tls.Conn, error) {
		tries := 0
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if tries++; tries == 1 { // a middlebox that lets no strange TLS pass
				a, b := net.Pipe()
				b.Close()
				return a, nil
			}
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}
		return passage.DialTLS(w.ctx, dial, addr.String(), cfg, new(passage.Way))
	}
	bob, fromBob := w.call(addr, "bob00")
	alice, err := web(w.clientTLS(w.svid(svid.System(w.org, "alice"), time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	r := frame.NewReader(alice)
	b, _ := frame.AppendOpen(frame.AppendHello(nil, frame.Version), w.ticket("alice", "bob00", time.Hour))
	alice.Write(b)
	w.expect(r, frame.Hello)
	w.expect(r, frame.Opened)
	bobID, _ := frame.IDOf("bob00")
	b, _ = frame.AppendSend(nil, bobID, []byte("through the web"))
	alice.Write(b)
	if body := w.expect(fromBob, frame.Recv); !strings.HasSuffix(string(body), "through the web") {
		t.Errorf("bob got %q", body)
	}
	w.counted("web_connections", 1)
	bob.Close()

	nobody := w.clientTLS(w.svid(svid.System(w.org, "alice"), time.Hour))
	nobody.GetClientCertificate, nobody.Certificates = nil, nil
	if c, err := web(nobody); err == nil {
		c.Write(frame.AppendHello(nil, frame.Version))
		if _, _, err := frame.NewReader(c).Next(); err == nil {
			t.Error("a client without a certificate was greeted")
		}
		c.Close()
	}
}
