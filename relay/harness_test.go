package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
	"enclave/wire/ticket"
)

// world is an organisation with a CA, a ticket key and one relay.
type world struct {
	t         testing.TB
	org       wire.OrgID
	roots     *x509.CertPool
	ca        *x509.Certificate
	caKey     ed25519.PrivateKey
	ticketKey ed25519.PrivateKey
	srv       *Server
	ctx       context.Context
	cancel    context.CancelFunc
}

func newWorld(t testing.TB, limits Limits) *world {
	t.Helper()
	w := &world{t: t, org: wire.NewOrgID(time.Now())}
	w.ctx, w.cancel = context.WithCancel(t.Context())
	var pub ed25519.PublicKey
	pub, w.caKey, _ = ed25519.GenerateKey(rand.Reader)
	w.ca = w.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(1000 * time.Hour),
	}, nil, pub)
	w.roots = x509.NewCertPool()
	w.roots.AddCert(w.ca)
	_, w.ticketKey, _ = ed25519.GenerateKey(rand.Reader)
	relayCert := w.svid(svid.Relay(w.org, "relay"), 1000*time.Hour)
	cfg := Config{
		Trust:     w.trust,
		Identity:  func() (*tls.Certificate, error) { return relayCert, nil },
		TicketKey: w.ticketKey.Public().(ed25519.PublicKey),
		Limits:    limits,
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	w.srv = New(cfg)
	return w
}

func (w *world) trust() svid.Trust { return svid.Trust{Org: w.org, Roots: w.roots} }

func (w *world) sign(c, parent *x509.Certificate, pub ed25519.PublicKey) *x509.Certificate {
	w.t.Helper()
	if parent == nil {
		parent = c
	}
	c.SerialNumber = big.NewInt(1)
	c.NotBefore = time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, w.caKey)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) svid(id svid.ID, life time.Duration) *tls.Certificate {
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	leaf := w.sign(&x509.Certificate{
		URIs: []*url.URL{id.URL()}, KeyUsage: x509.KeyUsageDigitalSignature, NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, w.ca, pub)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: priv, Leaf: leaf}
}

// clientTLS is what an agent uses; nil certificate for none.
func (w *world) clientTLS(cert *tls.Certificate) *tls.Config {
	var src svid.Source
	if cert != nil {
		src = func() (*tls.Certificate, error) { return cert, nil }
	}
	c := svid.ClientConfig(w.trust(), src, svid.Relay(w.org, ""))
	c.NextProtos = []string{frame.ALPN}
	c.DynamicRecordSizingDisabled = true
	return c
}

func (w *world) ticket(a, b wire.SystemID, life time.Duration) []byte {
	return ticket.Sign(w.ticketKey, w.org, a, b, time.Now().Add(life))
}

// dial returns a connection to the relay over a pipe, before its handshake.
func (w *world) dial(cfg *tls.Config) *tls.Conn {
	mine, theirs := net.Pipe()
	go w.srv.ServeConn(w.ctx, tls.Server(theirs, w.srv.tlsConfig()))
	w.t.Cleanup(func() { mine.Close() })
	return tls.Client(mine, cfg)
}

// got is one frame as an agent received it, at its time.
type got struct {
	frame.Type
	body string
	at   time.Time
}

// agent is a client of the relay that collects what it hears.
type agent struct {
	t    testing.TB
	id   frame.ID
	conn *tls.Conn

	mu    sync.Mutex
	heard []got
	ended bool
	deaf  bool // answers no ping
}

// connect brings up an agent that said Hello; read says whether it reads at all.
func (w *world) connect(id wire.SystemID, read bool) *agent {
	w.t.Helper()
	return w.connectWith(w.svid(svid.System(w.org, id), 1000*time.Hour), id, read)
}

func (w *world) connectWith(cert *tls.Certificate, id wire.SystemID, read bool) *agent {
	w.t.Helper()
	fid, ok := frame.IDOf(id)
	if !ok {
		w.t.Fatalf("bad ID %q", id)
	}
	a := &agent{t: w.t, id: fid, conn: w.dial(w.clientTLS(cert))}
	if err := a.conn.HandshakeContext(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	a.write(frame.AppendHello(nil, frame.Version))
	if read {
		go a.listen()
	}
	synctest.Wait()
	return a
}

func (a *agent) listen() {
	r := frame.NewReader(a.conn)
	for {
		typ, body, err := r.Next()
		a.mu.Lock()
		if err != nil {
			a.ended = true
			a.mu.Unlock()
			return
		}
		a.heard = append(a.heard, got{typ, string(body), time.Now()})
		deaf := a.deaf
		a.mu.Unlock()
		if typ == frame.Ping && !deaf {
			data, _ := frame.ParsePing(body)
			a.conn.Write(frame.AppendPong(nil, data))
		}
	}
}

func (a *agent) write(b []byte) {
	a.t.Helper()
	if _, err := a.conn.Write(b); err != nil {
		a.t.Fatalf("%s: write: %v", a.id, err)
	}
}

func (a *agent) send(to *agent, payload string) {
	a.t.Helper()
	b, err := frame.AppendSend(nil, to.id, []byte(payload))
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(b)
}

func (a *agent) open(raw []byte) {
	a.t.Helper()
	b, err := frame.AppendOpen(nil, raw)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(b)
}

// take waits until all is quiet and returns what came since the last take, without
// Hello and pings.
func (a *agent) take() []got {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []got
	for _, g := range a.heard {
		if g.Type != frame.Hello && g.Type != frame.Ping {
			out = append(out, g)
		}
	}
	a.heard = nil
	return out
}

func (a *agent) isEnded() bool {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended
}

// hears checks the frames that came since the last time, each as one encoded frame.
func (a *agent) hears(want ...[]byte) {
	a.t.Helper()
	all := a.take()
	if len(all) != len(want) {
		a.t.Fatalf("%s heard %v, want %d frames", a.id, all, len(want))
	}
	for i, g := range all {
		if w := string(want[i][frame.HeaderLen:]); g.Type != frame.Type(want[i][0]) || g.body != w {
			a.t.Errorf("%s heard %v %q, want %v %q", a.id, g.Type, g.body, frame.Type(want[i][0]), w)
		}
	}
}

func recv(from *agent, payload string) []byte {
	b, _ := frame.AppendRecv(nil, from.id, []byte(payload))
	return b
}

func opened(peer *agent, here bool) []byte { return frame.AppendOpened(nil, peer.id, here) }

func refused(peer frame.ID, code frame.Code) []byte { return frame.AppendRefused(nil, peer, code) }

func (w *world) counted(name string, want uint64) {
	w.t.Helper()
	n, ok := w.srv.Stats().Counts[name]
	if !ok || n != want {
		w.t.Errorf("%s = %d, want %d", name, n, want)
	}
}

// bubble runs f in a synctest bubble with a world, and ends the relay after it: a
// goroutine that is left keeps the bubble from ending and fails the test.
func bubble(t *testing.T, limits Limits, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limits)
		f(t, w)
		w.cancel()
		if err := w.srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
