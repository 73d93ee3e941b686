package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestBehindAnInterceptingProxy: a company's network. No UDP, TCP by an HTTP proxy that
// asks for a password, and that proxy opens every TLS with a root of its own and lets
// HTTP/1.1 pass. Agents enrol, follow their maps and reach each other all the same, and
// the proxy sees WebSockets.
func TestBehindAnInterceptingProxy(t *testing.T) {
	if !alone(t) {
		return
	}
	const addr = "10.9.9.1" // proxies are never asked about loopback
	here(t).withoutUDP()
	here(t).ip("addr add " + addr + "/32 dev lo")
	at, upgrades, refused := interceptingProxy(t, addr, "ann:sesame-open")
	l := emptyLab(t)
	l.serve(l.start("up", "up", "--json", "--state", l.path("up"), "--listen", addr+":0", "--stun", "127.0.0.1:0"))
	plain := l.env
	env := func(proxy string) { l.env = append(plain[:len(plain):len(plain)], "HTTPS_PROXY="+proxy) }

	env("http://ann:wrong@" + at)
	key := l.secret("first.key", l.up.EnrolmentKey)
	stuck := l.enrolling("stuck", key)
	until(t, 20*time.Second, "the proxy refuses a wrong password", func() bool { return refused.Load() > 0 })
	stuck.kill()
	if strings.Contains(stuck.stderr(), "wrong") {
		t.Errorf("a password in the log: %s", stuck.stderr())
	}

	env("http://ann:sesame-open@" + at)
	socks := freePort(t)
	l.enrolling("web", key, "--expose", "8080="+greeter(t, "hello"))
	l.enrolling("laptop", key, "--socks", socks)
	l.env = plain
	l.connected(2)
	l.introduce("tcp/8080")
	l.ok("waitfor", "web", "--state", l.path("laptop"), "--timeout", "1m")
	if !reaches(socks, "http://web.enclave:8080/", "hello") {
		t.Error("the service does not answer through the proxy")
	}
	if out := l.ok("ping", "web", "--state", l.path("laptop"), "--count", "1"); !strings.Contains(out, "via relay ") {
		t.Errorf("ping says %q", out)
	}
	if out := l.ok("agent", "status", "--state", l.path("laptop")); strings.Count(out, "(by proxy "+at+", as a WebSocket)") != 2 || strings.Contains(out, "sesame") {
		t.Errorf("status says %q", out)
	}
	if n := upgrades.Load(); n < 4 { // control and relay, for each of the two
		t.Errorf("%d WebSockets came by the proxy", n)
	}
}

// interceptingProxy is an HTTP proxy that opens the TLS of what it connects.
func interceptingProxy(t *testing.T, host, user string) (at string, upgrades, refused *atomic.Int32) {
	t.Helper()
	upgrades, refused = new(atomic.Int32), new(atomic.Int32)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"middlebox"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	mine := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"http/1.1"}}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user))
	serve := func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		if req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != want {
			refused.Add(1)
			io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		in := tls.Server(c, mine)
		if in.Handshake() != nil {
			return
		}
		out, err := tls.Dial("tcp", req.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			return
		}
		defer out.Close()
		r := bufio.NewReader(in)
		first, err := http.ReadRequest(r) // what is no HTTP does not pass
		if err != nil {
			return
		}
		if first.Header.Get("Upgrade") != "" {
			upgrades.Add(1)
		}
		if first.Write(out) != nil {
			return
		}
		go func() { io.Copy(out, r); out.Close() }()
		io.Copy(in, out)
	}
	go each(l, serve)
	return l.Addr().String(), upgrades, refused
}
