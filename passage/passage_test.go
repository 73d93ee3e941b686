package passage

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func cert(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server takes our protocol in plain TLS and in the shape of the web, and echoes.
type server struct {
	net.Listener
	cert       tls.Certificate
	plain, web atomic.Int32
}

const proto = "test/1"

func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: l, cert: cert(t, "server")}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return s
}

func (s *server) serve(raw net.Conn) {
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{s.cert}, NextProtos: []string{proto, WebALPN}})
	if c.Handshake() != nil {
		return
	}
	if c.ConnectionState().NegotiatedProtocol == WebALPN {
		inner, err := Accept(c)
		if err != nil {
			return
		}
		defer inner.Close()
		s.web.Add(1)
		c = tls.Server(inner, &tls.Config{Certificates: []tls.Certificate{s.cert}, NextProtos: []string{proto}})
		if c.Handshake() != nil {
			return
		}
	} else {
		s.plain.Add(1)
	}
	io.Copy(c, c)
}

func (s *server) config() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.cert.Leaf)
	return &tls.Config{RootCAs: pool, ServerName: "server", NextProtos: []string{proto}, MinVersion: tls.VersionTLS13}
}

// echo dials and sends a megabyte back and forth.
func (s *server) echo(t *testing.T, dial Dial, way *Way) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := DialTLS(ctx, dial, s.Addr().String(), s.config(), way)
	if err != nil {
		return err
	}
	defer c.Close()
	want := make([]byte, 1<<20)
	rand.Read(want)
	go c.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("other bytes came back")
	}
	return nil
}

func direct(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// middlebox opens every TLS with a certificate of its own and lets HTTP/1.1 pass, as
// those of companies do.
func middlebox(t *testing.T, to string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mine := cert(t, "middlebox")
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				in := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{mine}, NextProtos: []string{"http/1.1"}, MaxVersion: tls.VersionTLS12})
				if in.Handshake() != nil {
					return
				}
				out, err := tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
				if err != nil {
					return
				}
				defer out.Close()
				go func() { io.Copy(out, in); out.Close() }()
				io.Copy(in, out)
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l
}

func TestPlainFirst(t *testing.T) {
	s := newServer(t)
	var way Way
	if err := s.echo(t, direct, &way); err != nil || way.Web() || s.plain.Load() != 1 || s.web.Load() != 0 {
		t.Errorf("%v; plain %d, web %d", err, s.plain.Load(), s.web.Load())
	}
}

// TestThroughAMiddlebox: who opens the outer TLS sees a WebSocket, and inside it a TLS
// that it cannot open; what worked is tried first from then on.
func TestThroughAMiddlebox(t *testing.T) {
	s := newServer(t)
	box := middlebox(t, s.Addr().String())
	dials := 0
	through := func(ctx context.Context, network, _ string) (net.Conn, error) {
		dials++
		return direct(ctx, network, box.Addr().String())
	}
	var way Way
	for i := range 2 {
		if err := s.echo(t, through, &way); err != nil {
			t.Fatal(err)
		}
		if want := 2 + i; dials != want || !way.Web() {
			t.Errorf("%d connections after %d calls, want %d", dials, i+1, want)
		}
	}
	way.Forget()
	if err := s.echo(t, direct, &way); err != nil || way.Web() {
		t.Errorf("back on a free network: %v", err)
	}
}

// TestAnImpostorIsRefused: the shape of the web makes nobody believed.
func TestAnImpostorIsRefused(t *testing.T) {
	real, impostor := newServer(t), newServer(t)
	to := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return direct(ctx, network, impostor.Addr().String())
	}
	var way Way
	var unknown x509.UnknownAuthorityError
	if err := real.echo(t, to, &way); !errors.As(err, &unknown) || strings.Count(err.Error(), "failed to verify") != 1 {
		t.Errorf("an impostor: %v", err)
	}
	if impostor.web.Load() != 1 {
		t.Errorf("%d attempts", impostor.web.Load())
	}
}

// proxyServer is an HTTP proxy that knows CONNECT.
func proxyServer(t *testing.T, user string) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	used := new(atomic.Int32)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user)); user != "" && r.Header.Get("Proxy-Authorization") != want {
			w.Header().Set("Proxy-Authenticate", `Basic realm="lab"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		used.Add(1)
		defer out.Close()
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		fmt.Fprint(in, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { io.Copy(out, in); out.Close() }()
		io.Copy(in, out)
	}))
	t.Cleanup(p.Close)
	return p, used
}

func named(s string) Proxy {
	return func(*url.URL) (*url.URL, error) { return url.Parse(s) }
}

func TestThroughAProxy(t *testing.T) {
	s := newServer(t)
	p, used := proxyServer(t, "ann:s3cret")
	at := strings.TrimPrefix(p.URL, "http://")
	if err := s.echo(t, Through(direct, named("http://ann:s3cret@"+at)), new(Way)); err != nil || used.Load() != 1 {
		t.Errorf("%v; the proxy connected %d times", err, used.Load())
	}
	for _, c := range []struct{ proxy, want string }{
		{"http://" + at, "asks for a user and a password"},
		{"http://ann:wrong@" + at, "asks for a user and a password"},
		{"socks5://" + at, "no kind of HTTP proxy"},
	} {
		err := s.echo(t, Through(direct, named(c.proxy)), new(Way))
		if !errors.Is(err, ErrProxy) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: %v", c.proxy, err)
		}
	}
	dead := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == "proxy.dead:3128" {
			return nil, errors.New("no route")
		}
		return direct(ctx, network, addr)
	}
	if err := s.echo(t, Through(dead, named("http://proxy.dead:3128")), new(Way)); err != nil {
		t.Errorf("straight when there is no proxy: %v", err)
	}
	none := func(*url.URL) (*url.URL, error) { return nil, nil }
	if err := s.echo(t, Through(direct, none), new(Way)); err != nil {
		t.Errorf("NO_PROXY: %v", err)
	}
}

// TestProxyIsBounded: a proxy that never ends its head, or never says a word, costs a
// limit and not a session.
func TestProxyIsBounded(t *testing.T) {
	for name, say := range map[string]func(net.Conn){
		"endless": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 4096) + "\r\n")); err != nil {
					return
				}
			}
		},
		"mute": func(c net.Conn) { io.Copy(io.Discard, c) },
	} {
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.ReadFull(b, make([]byte, 10))
			go io.Copy(io.Discard, b)
			say(b)
		}()
		dial := func(context.Context, string, string) (net.Conn, error) { return a, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if c, err := connect(ctx, dial, &url.URL{Scheme: "http", Host: "p:1"}, "x:443"); err == nil {
			t.Errorf("%s: %v", name, c)
		}
		cancel()
		b.Close()
		<-done
	}
}

func TestWhatIsNoStream(t *testing.T) {
	good := "GET " + Path + " HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: " + protocol + "\r\n"
	for name, c := range map[string]struct{ req, want string }{
		"ours":         {good, "101"},
		"a browser's":  {good + "Origin: https://evil.example\r\n", "403"},
		"another path": {strings.Replace(good, Path, "/", 1), "404"},
		"a post":       {strings.Replace(good, "GET", "POST", 1), "405"},
		"old HTTP":     {strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), "405"},
		"old version":  {strings.Replace(good, ": 13", ": 8", 1), "426"},
		"no key":       {strings.Replace(good, "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 1), "426"},
		"no protocol":  {strings.Replace(good, protocol, "chat", 1), "426"},
		"no upgrade":   {strings.Replace(good, "Upgrade: WebSocket\r\n", "", 1), "426"},
		"endless":      {good + "X: " + strings.Repeat("y", 2*maxHead) + "\r\n", ""},
		"noise":        {"\x16\x03\x01\r\n", ""},
	} {
		a, b := net.Pipe()
		go func() { io.WriteString(a, c.req+"\r\n") }()
		answer := make(chan string, 1)
		go func() {
			got := make([]byte, 4096)
			n, _ := a.Read(got)
			answer <- string(got[:n])
		}()
		s, err := Accept(b)
		if (err == nil) != (c.want == "101") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			defer s.Close()
		}
		b.Close()
		if got := <-answer; c.want != "" && !strings.HasPrefix(got, "HTTP/1.1 "+c.want) || c.want == "" && got != "" {
			t.Errorf("%s: answered %q", name, got)
		}
		a.Close()
	}
	if got := acceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455 section 1.3
		t.Error(got)
	}
}

// pair is both ends of a stream.
func pair(t *testing.T) (client, server *stream) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return newStream(a, true), newStream(b, false)
}

func TestStream(t *testing.T) {
	client, server := pair(t)
	for _, ends := range [][2]*stream{{client, server}, {server, client}} {
		for _, size := range []int{1, 125, 126, 65535, 65536, 200_000} {
			want := make([]byte, size)
			rand.Read(want)
			go ends[0].Write(want)
			got := make([]byte, size)
			if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
	}
	go client.Close()
	if n, err := server.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("after goodbye: %d, %v", n, err)
	}
}

func TestPingIsAnswered(t *testing.T) {
	client, server := pair(t)
	go func() {
		client.send(opPing, []byte("still there?"))
		client.Write([]byte("data"))
	}()
	head := make(chan []byte, 1)
	go func() {
		b := make([]byte, 14)
		io.ReadFull(client.Conn, b)
		head <- b
	}()
	got := make([]byte, 4)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	if pong := <-head; pong[0] != final|opPong || string(pong[2:]) != "still there?" {
		t.Errorf("answered %q", pong)
	}
}

// bytesConn is a connection on which all has come already.
type bytesConn struct {
	net.Conn
	io.Reader
	io.Writer // nil discards
}

func (c bytesConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }
func (c bytesConn) Write(b []byte) (int, error) {
	if c.Writer == nil {
		return len(b), nil
	}
	return c.Writer.Write(b)
}

func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }

func FuzzStream(f *testing.F) {
	f.Add([]byte{0x82, 3, 'a', 'b', 'c', 0x88, 0}, true)
	f.Add([]byte{0x82, 0x83, 1, 2, 3, 4, 'a', 'b', 'c', 0x89, 0x80, 0, 0, 0, 0}, false)
	f.Add([]byte{0x02, 126, 0, 2, 'a', 'b', 0x80, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'c'}, true)
	f.Fuzz(func(t *testing.T, b []byte, client bool) {
		got, _ := io.ReadAll(newStream(bytesConn{Reader: bytes.NewReader(b)}, client))
		if len(got) > len(b) {
			t.Fatalf("%d bytes out of %x", len(got), b)
		}
		var sent bytes.Buffer
		newStream(bytesConn{Reader: &sent, Writer: &sent}, !client).Write(b)
		if got, err := io.ReadAll(newStream(bytesConn{Reader: &sent}, client)); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x came as %x, %v", b, got, err)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add([]byte("GET " + Path + " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: enclave-1\r\n\r\nrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Accept(bytesConn{Reader: bytes.NewReader(b)}); err == nil {
			io.Copy(io.Discard, s)
		}
	})
}

func TestWhatBothWaysSayIsSaidOnce(t *testing.T) {
	a, b := errors.New("no"), errors.New("never")
	for want, err := range map[string]error{
		"no":                              said(a, nil),
		"as a WebSocket: never":           said(nil, b),
		"no; as a WebSocket: never":       said(a, b),
		"another fingerprint than wanted": said(errors.New("another fingerprint than wanted"), errors.New("another fingerprint than wanted")),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if both := said(a, b); !errors.Is(both, a) || !errors.Is(both, b) {
		t.Error("a cause is lost")
	}
}
