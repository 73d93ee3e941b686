package control

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/passage"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/svid"
)

func TestARelaySharesThePort(t *testing.T) {
	seen := make(chan string, 1)
	var theirs atomic.Pointer[tls.Config] // the relay's; nil until it has an identity
	w := newWorld(t, func(c *Config, _ *store.Settings) {
		c.ALPN = map[string]Protocol{"test-relay/1": {
			TLS: theirs.Load,
			Serve: func(conn *tls.Conn) {
				cs := conn.ConnectionState()
				id, _, err := svid.Peer(&cs, time.Now())
				if err != nil {
					seen <- err.Error()
					return
				}
				seen <- id.String()
				io.Copy(conn, conn)
			},
		}}
	})
	key := w.key(automatic())
	m := w.machine()
	m.enrol(key.Secret, "alice")
	dial := func(protos ...string) (*tls.Conn, error) {
		cfg := svid.ClientConfig(w.srv.Trust(), func() (*tls.Certificate, error) { return m.cert, nil }, svid.Control(w.srv.Trust().Org))
		cfg.NextProtos = protos
		d := tls.Dialer{Config: cfg}
		c, err := d.DialContext(t.Context(), "tcp", w.addr)
		if err != nil {
			return nil, err
		}
		return c.(*tls.Conn), nil
	}
	if _, err := dial("test-relay/1"); err == nil {
		t.Error("a protocol that is not ready is served")
	}
	// It asks for no certificate check at all: nothing but its protocol may profit.
	theirs.Store(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.srv.Certificate() },
		ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "test-relay/1"}})
	c, err := dial("h2", "test-relay/1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if proto := c.ConnectionState().NegotiatedProtocol; proto != "test-relay/1" {
		t.Fatalf("HTTP came through the handshake of another protocol: %s", proto)
	}
	if id := <-seen; id != svid.System(w.srv.Trust().Org, m.id).String() {
		t.Errorf("the relay sees %s", id)
	}
	c.Write([]byte("echo"))
	if b := make([]byte, 4); func() error { _, err := io.ReadFull(c, b); return err }() != nil || string(b) != "echo" {
		t.Errorf("read %q", b)
	}
	for _, proto := range []string{"h2", "http/1.1"} {
		c, err := dial(proto)
		if err != nil || c.ConnectionState().NegotiatedProtocol != proto {
			t.Errorf("%s is not served beside it: %v", proto, err)
			continue
		}
		c.Close()
	}
	if _, err := dial("other/1"); err == nil {
		t.Error("an unknown protocol is accepted")
	}
	// Where only the web passes, all of that is spoken inside a WebSocket.
	web := func(proto string) (*tls.Conn, error) {
		cfg := svid.ClientConfig(w.srv.Trust(), func() (*tls.Certificate, error) { return m.cert, nil }, svid.Control(w.srv.Trust().Org))
		cfg.NextProtos = []string{proto}
		tries := 0
		return passage.DialTLS(t.Context(), func(ctx context.Context, network, addr string) (net.Conn, error) {
			if tries++; tries == 1 { // a middlebox that lets no strange TLS pass
				a, b := net.Pipe()
				b.Close()
				return a, nil
			}
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}, w.addr, cfg, new(passage.Way))
	}
	for _, proto := range []string{"h2", "http/1.1", "test-relay/1"} {
		c, err := web(proto)
		if err != nil {
			t.Errorf("%s inside a WebSocket: %v", proto, err)
			continue
		}
		defer c.Close()
		switch proto {
		case "test-relay/1":
			if id := <-seen; id != svid.System(w.srv.Trust().Org, m.id).String() {
				t.Errorf("inside a WebSocket the relay sees %s", id)
			}
		case "http/1.1":
			io.WriteString(c, "GET "+passage.Path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			if b := make([]byte, 12); func() error { _, err := io.ReadFull(c, b); return err }() != nil || string(b) != "HTTP/1.1 403" {
				t.Errorf("a stream inside a stream: %q", b)
			}
		}
	}
}

func TestOnlyTLS13(t *testing.T) {
	w := newWorld(t)
	cfg := svid.ClientConfig(w.srv.Trust(), nil, svid.Control(w.srv.Trust().Org))
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if c, err := tls.Dial("tcp", w.addr, cfg); err == nil {
		c.Close()
		t.Error("TLS 1.2 is spoken")
	}
}

func TestPlainListenerServesTheAPIAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	newWorld(t, func(c *Config, _ *store.Settings) { c.APIListener = l })
	base := "http://" + l.Addr().String()
	resp, err := http.Get(base + admin.Prefix + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct{ Version string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.Version != "test" {
		t.Errorf("version %+v: %v", v, err)
	}
	for _, path := range []string{wire.PathEnrol, wire.PathStream, "/"} {
		if _, p := do(t, http.DefaultClient, "POST", base+path, nil, wire.EnrolRequest{}, nil); p == nil || p.Status != http.StatusNotFound {
			t.Errorf("%s in plain HTTP: %+v", path, p)
		}
	}
}

func TestOneAddressHasItsShareOfConnections(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *store.Settings) { c.MaxPerAddress = 3 })
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	over, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	over.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := over.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the fourth connection: %v, want it closed", err)
	}
	for _, c := range conns {
		c.Close()
	}
}

func TestConfigMistakesComeTogether(t *testing.T) {
	_, err := Config{Heartbeat: -1, ALPN: map[string]Protocol{"h2": {}}}.withDefaults()
	if err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 3 {
		t.Errorf("%v", err)
	}
}

// TestReloadIsOwedUntilItWorks has the store fail between a change and the reading
// that puts it into effect.
func TestReloadIsOwedUntilItWorks(t *testing.T) {
	w := newWorld(t)
	_, _, fa, _ := pairOf(t, w)
	h := w.srv.hub
	a := fa.Map.Self.ID
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.store.SetEnabled(t.Context(), at(time.Now()), a, false); err != nil {
		t.Fatal(err)
	}
	if _, err := h.reload(ended, admin.Touched{Systems: []wire.SystemID{a}}); err == nil {
		t.Fatal("the reading worked after all")
	}
	h.give()
	h.look()
	if fa.delta(); fa.Map.Self.State != wire.Disabled || len(fa.Map.Peers) != 0 {
		t.Errorf("what was owed: %+v", fa.Map)
	}
}
