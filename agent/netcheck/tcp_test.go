package netcheck

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/agent/link"
	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

var testTime = time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)

// authority signs what a relay, or whoever poses as one, shows.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
	org  wire.OrgID
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	a := &authority{key: key, org: wire.NewOrgID(time.Now())}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	return a
}

func (a *authority) trust() *svid.Trust {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &svid.Trust{Org: a.org, Roots: roots}
}

// listen serves TLS with a certificate for id, or for nobody.
func (a *authority) listen(t *testing.T, id *svid.ID, protos ...string) string {
	t.Helper()
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if id != nil {
		tmpl.URIs = []*url.URL{id.URL()}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{NextProtos: protos, ClientAuth: tls.RequireAnyClientCert,
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		_ = s.Handshake()
	})
}

// serve hands connections to f until the test ends.
func serve(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return l.Addr().String()
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestWhatAnswersTLS(t *testing.T) {
	ours, box := newAuthority(t, "root"), newAuthority(t, "Inspection CA")
	id := svid.Relay(ours.org, "r1")
	relay := ours.listen(t, &id, frame.ALPN)
	fake := box.listen(t, &id, frame.ALPN)
	plain := serve(t, func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n") })
	for _, tt := range []struct {
		name, addr string
		trust      *svid.Trust
		want       TLSState
	}{
		{"the relay", relay, ours.trust(), TLSVerified},
		{"the relay, root not known", relay, nil, TLSUnverified},
		{"a forged relay", fake, ours.trust(), TLSIntercepted},
		{"an inspecting firewall", box.listen(t, nil, frame.ALPN), nil, TLSIntercepted},
		{"the protocol taken out", ours.listen(t, &id), ours.trust(), TLSRewritten},
		{"no TLS at all", plain, nil, TLSBroken},
		{"nobody", closed(t), nil, TLSBlocked},
		{"no address", "", nil, TLSSkipped},
	} {
		cfg := Config{Network: link.System(), Trust: tt.trust, Now: time.Now}
		got := cfg.askTLS(t.Context(), Target{ID: "r1", Kind: svid.KindRelay, Addr: tt.addr})
		if got.State != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
		if got.State == TLSIntercepted && !strings.Contains(got.Issuer, "Inspection CA") {
			t.Errorf("%s: issuer %q", tt.name, got.Issuer)
		}
	}
}

// TestProxyOnly: the straight way is shut, and the proxy of the environment connects.
func TestProxyOnly(t *testing.T) {
	ours := newAuthority(t, "root")
	id := svid.Relay(ours.org, "r1")
	relay := ours.listen(t, &id, frame.ALPN)
	var asked sync.Map
	proxy := serve(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || req.Method != http.MethodConnect {
			return
		}
		asked.Store(req.Host, req.Header.Get("Proxy-Authorization"))
		if req.Host != "relay.example:443" {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\n\r\n")
			return
		}
		to, err := net.Dial("tcp", relay)
		if err != nil {
			return
		}
		defer to.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		both := make(chan struct{}, 2)
		for _, pair := range [][2]net.Conn{{to, c}, {c, to}} {
			go func() { io.Copy(pair[0], pair[1]); both <- struct{}{} }()
		}
		<-both
	})
	cfg := Config{Network: shut{link.System(), proxy}, Trust: ours.trust(), Now: time.Now, ProxySet: "http://" + proxy,
		Proxy: func(*url.URL) (*url.URL, error) { return url.Parse("http://user:secret@" + proxy) }}
	for addr, want := range map[string]TLSState{"relay.example:443": TLSVerified, "relay.example:22": TLSBlocked} {
		cfg.Relays = []Target{{ID: "r1", Kind: svid.KindRelay, Addr: addr}}
		r, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Relays[0].TLS; got.State != want || strings.Contains(got.Via+got.Error, "secret") {
			t.Errorf("%s: %+v, want %s", addr, got, want)
		}
		if works := want == TLSVerified; r.Proxy.Works != works || (r.Proxy.Error == "") != works {
			t.Errorf("%s: proxy %+v", addr, r.Proxy)
		}
	}
	if auth, _ := asked.Load("relay.example:443"); auth != "Basic dXNlcjpzZWNyZXQ=" {
		t.Errorf("the proxy was told %q", auth)
	}
}

// shut is a network whose only way out is one address.
type shut struct {
	link.Network
	only string
}

func (s shut) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr != s.only {
		return nil, &net.OpError{Op: "dial", Net: network, Err: context.DeadlineExceeded}
	}
	return s.Network.DialContext(ctx, network, addr)
}

func TestPortals(t *testing.T) {
	answer := func(f http.HandlerFunc) string {
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, tt := range []struct {
		name, url string
		want      PortalState
	}{
		{"as expected", answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }), PortalNone},
		{"redirect", answer(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://login.hotel.example/", http.StatusFound)
		}), PortalFound},
		{"sign in", answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(511) }), PortalFound},
		{"a page", answer(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "welcome") }), PortalFound},
		{"nobody", "http://" + closed(t), PortalUnclear},
		{"no URL", ":", PortalSkipped},
	} {
		cfg := Config{Network: link.System(), PortalURL: tt.url}
		if got := cfg.askPortal(t.Context()); got.State != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
	}
	asked, _ := url.Parse("http://relay.example/")
	for _, tt := range []struct {
		status   int
		location string
		want     PortalState
	}{
		{301, "https://relay.example/", PortalUnclear},
		{302, "https://portal.example/", PortalFound},
		{200, "", PortalUnclear},
		{511, "", PortalFound},
	} {
		resp := &http.Response{StatusCode: tt.status, Header: http.Header{}, Request: &http.Request{URL: asked}}
		if tt.location != "" {
			resp.Header.Set("Location", tt.location)
		}
		if got, _ := judgePortal(asked, resp, false); got != tt.want {
			t.Errorf("%d to %q: %s, want %s", tt.status, tt.location, got, tt.want)
		}
	}
}
