package link

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"tailscale.com/net/stun"

	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

// world is a lab with relays and two links, alice and bob00.
type world struct {
	t          *testing.T
	lab        *lab
	relays     map[wire.RelayID]*testRelay
	list       []wire.Relay
	alice, bob *node
	stop       context.CancelFunc
	frozen     atomic.Bool // control is gone: nobody is told anything
}

// node is a link with a device that only counts.
type node struct {
	*Link
	w      *world
	ground *ground
	priv   disco.PrivateKey // of WireGuard
	mu     sync.Mutex
	keys   Peer
	got    map[string]int // payloads
	reach  wire.Reach
	routes []Route
	fns    sync.WaitGroup
	done   chan error
}

// run makes a world in a bubble and hands it to f when everything has settled.
func run(t *testing.T, natA, natB string, relays int, f func(w *world)) {
	t.Helper()
	runWith(t, natA, natB, relays, func(*ground) {}, f)
}

// runWith has edit change the hosts; a kind of "" is a host without a NAT.
func runWith(t *testing.T, natA, natB string, relays int, edit func(*ground), f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := &world{t: t, lab: newLab(), relays: map[wire.RelayID]*testRelay{}, stop: stop}
		for i := range relays {
			w.addRelay(wire.RelayID("r"+string(rune('1'+i))), i)
		}
		gA, gB := w.lab.host("198.51.100.1", "", ""), w.lab.host("203.0.113.1", "", "")
		if natA != "" {
			gA = w.lab.host("192.168.1.10", "198.51.100.1", natA)
		}
		if natB != "" {
			gB = w.lab.host("192.168.2.20", "203.0.113.1", natB)
		}
		edit(gA)
		edit(gB)
		w.alice, w.bob = w.node(gA, "alice"), w.node(gB, "bob00")
		w.introduce(true)
		for _, n := range []*node{w.alice, w.bob} {
			n.start(ctx)
		}
		defer func() {
			stop()
			for _, n := range []*node{w.alice, w.bob} {
				if err := <-n.done; !errors.Is(err, context.Canceled) {
					t.Errorf("run: %v", err)
				}
				n.Close()
				n.fns.Wait()
			}
			for _, r := range w.relays {
				r.kill()
			}
			w.lab.hangUp()
			time.Sleep(time.Minute) // TLS's goodbyes and packets under way
		}()
		f(w)
	})
}

func (w *world) node(g *ground, id wire.SystemID) *node {
	n := &node{priv: disco.NewPrivateKey(), w: w, ground: g, got: map[string]int{}, done: make(chan error, 1)}
	key := disco.NewPrivateKey()
	n.keys = Peer{ID: id, WireGuard: wire.WireGuardKey(n.priv.Public()), Disco: key.Public(), Ticket: []byte("alicebob00"), SVID: newTestOrg().system(id).Leaf.Raw}
	var log *slog.Logger
	if os.Getenv("LINK_TEST_LOG") != "" {
		slog.SetLogLoggerLevel(slog.LevelDebug)
		log = slog.Default().With("at", id)
	}
	l, err := New(Config{
		Streams: newTestOrg().streams(id, g.listen),
		Spray:   g.spray,
		Network: g, Self: id, WireGuard: n.keys.WireGuard, Disco: key, Logger: log,
		TLS: func(r wire.RelayID) *tls.Config {
			pool := x509.NewCertPool()
			pool.AddCert(w.relays[r].cert.Leaf)
			return &tls.Config{RootCAs: pool, ServerName: string(r), Certificates: []tls.Certificate{testCert(string(id))}}
		},
		OnReach: func(r wire.Reach) {
			n.mu.Lock()
			n.reach = r
			n.mu.Unlock()
			if !w.frozen.Load() {
				w.introduce(false)
			}
		},
		OnRoute: func(s PeerStatus) {
			n.mu.Lock()
			n.routes = append(n.routes, s.Route)
			n.mu.Unlock()
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n.Link = l
	return n
}

// introduce is the control plane: what one reports, the other is told.
func (w *world) introduce(relays bool) {
	for _, pair := range [][2]*node{{w.alice, w.bob}, {w.bob, w.alice}} {
		pair[1].mu.Lock()
		p := pair[1].keys
		p.Reach = pair[1].reach
		pair[1].mu.Unlock()
		pair[0].SetPeers([]Peer{p})
		if relays {
			pair[0].SetRelays(w.list)
		}
	}
}

func (n *node) start(ctx context.Context) {
	fns, _, err := n.Open(0)
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, fn := range fns {
		n.fns.Go(func() { n.receive(fn) })
	}
	go func() { n.done <- n.Run(ctx) }()
}

func (n *node) receive(fn conn.ReceiveFunc) {
	bufs, sizes, eps := make([][]byte, batch), make([]int, batch), make([]conn.Endpoint, batch)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	for {
		k, err := fn(bufs, sizes, eps)
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			n.w.t.Errorf("receive: %v", err)
			return
		}
		n.mu.Lock()
		for i := range k {
			n.got[string(bufs[i][4:sizes[i]])]++
		}
		n.mu.Unlock()
	}
}

// message is what a WireGuard data message looks like from outside.
func message(text string) []byte {
	return append([]byte{4, 0, 0, 0}, (text + strings.Repeat(".", 60))...)
}

func (n *node) other() *node {
	if n == n.w.alice {
		return n.w.bob
	}
	return n.w.alice
}

// say sends text to the other one and reports whether it arrived within a second.
func (n *node) say(text string) bool {
	n.w.t.Helper()
	b := message(text)
	ep, err := n.ParseEndpoint(n.other().keys.WireGuard.String())
	if err != nil {
		return false
	}
	if err := n.Send([][]byte{b}, ep); err != nil {
		n.w.t.Fatal(err)
	}
	time.Sleep(time.Second)
	return n.other().heard(b) > 0
}

func (n *node) heard(b []byte) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.got[string(b[4:])]
}

func (n *node) status() PeerStatus {
	n.w.t.Helper()
	s := n.Status()
	if len(s) != 1 {
		n.w.t.Fatalf("%d peers", len(s))
	}
	return s[0]
}

// talk keeps both sides busy for d.
func (w *world) talk(d time.Duration) (lost int) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, n := range []*node{w.alice, w.bob} {
			ep, err := n.ParseEndpoint(n.other().keys.WireGuard.String())
			if err != nil {
				w.t.Fatal(err)
			}
			b := message(time.Now().Format(time.StampMicro))
			n.Send([][]byte{b}, ep)
			time.Sleep(200 * time.Millisecond)
			if n.other().heard(b) == 0 {
				lost++
			}
		}
	}
	return lost
}

func (w *world) direct() bool {
	return w.alice.status().Route.IsDirect() && w.bob.status().Route.IsDirect()
}

// until waits for f, at most d.
func (w *world) until(d time.Duration, what string, f func() bool) time.Duration {
	w.t.Helper()
	begun := time.Now()
	for !f() {
		if time.Since(begun) > d {
			w.t.Fatalf("%s: not within %v; alice %+v, bob %+v", what, d, w.alice.status(), w.bob.status())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(begun)
}

var testCerts sync.Map // name -> tls.Certificate

func testCert(name string) tls.Certificate {
	if c, ok := testCerts.Load(name); ok {
		return c.(tls.Certificate)
	}
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		panic(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv, Leaf: leaf}
	testCerts.Store(name, c)
	return c
}

// testRelay speaks the relay's side of wire/frame, and STUN. It takes a ticket that
// spells the pair's IDs and forwards between them.
type testRelay struct {
	w     *world
	id    wire.RelayID
	cert  tls.Certificate
	host  *ground
	mu    sync.Mutex
	conns map[frame.ID]*relayClient
	opens int
	mute  bool // takes everything, answers nothing
	socks []PacketConn
}

type relayClient struct {
	c  net.Conn
	mu sync.Mutex
	ok map[frame.ID]bool
}

func (w *world) addRelay(id wire.RelayID, n int) {
	addrs := []string{"192.0.2." + string(rune('1'+2*n)), "192.0.2." + string(rune('2'+2*n))}
	r := &testRelay{w: w, id: id, cert: testCert(string(id)), conns: map[frame.ID]*relayClient{}}
	info := wire.Relay{ID: id, Addr: addrs[0] + ":443"}
	for _, a := range addrs {
		g := w.lab.host(a, "", "")
		if r.host == nil {
			r.host = g
		}
		for _, port := range []uint16{3478, 3479} {
			c, _ := g.ListenUDP(port)
			r.socks = append(r.socks, c)
			go r.serveSTUN(c)
			info.STUN = append(info.STUN, netip.AddrPortFrom(g.addr, port).String())
		}
	}
	r.up()
	w.relays[id] = r
	w.list = append(w.list, info)
}

func (r *testRelay) serveSTUN(c PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if tx, err := stun.ParseBindingRequest(b[:n]); err == nil {
			c.WriteToUDPAddrPort(stun.Response(tx, from), from)
		}
	}
}

func (r *testRelay) up() {
	r.w.lab.mu.Lock()
	defer r.w.lab.mu.Unlock()
	r.host.tcp[443] = r.serve
}

// kill ends the relay: connections and listeners, STUN as well.
func (r *testRelay) kill() {
	r.crash()
	for _, s := range r.socks {
		s.Close()
	}
}

// drain tells the clients to leave.
func (r *testRelay) drain(grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.write(frame.AppendDrain(nil, grace))
	}
}

func (r *testRelay) clients() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// crash ends what speaks TLS.
func (r *testRelay) crash() {
	r.w.lab.mu.Lock()
	delete(r.host.tcp, 443)
	r.w.lab.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		go c.c.Close()
	}
}

func (r *testRelay) serve(raw net.Conn) {
	defer raw.Close()
	c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{r.cert}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{frame.ALPN}})
	if c.Handshake() != nil {
		return
	}
	me, ok := frame.IDOf(wire.SystemID(c.ConnectionState().PeerCertificates[0].Subject.CommonName))
	if !ok {
		return
	}
	cl := &relayClient{c: c, ok: map[frame.ID]bool{}}
	rd := frame.NewReader(c)
	if t, _, err := rd.Next(); t != frame.Hello || err != nil {
		return
	}
	cl.write(frame.AppendHello(nil, frame.Version))
	r.mu.Lock()
	r.conns[me] = cl
	for _, o := range r.conns {
		if o.ok[me] {
			o.write(frame.AppendOpened(nil, me, true))
		}
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		if r.conns[me] == cl {
			delete(r.conns, me)
		}
		for _, o := range r.conns {
			o.write(frame.AppendPeerGone(nil, me))
		}
		r.mu.Unlock()
	}()
	for {
		t, body, err := rd.Next()
		if err != nil {
			return
		}
		r.mu.Lock()
		if !r.mute {
			r.handle(me, cl, t, body)
		}
		r.mu.Unlock()
	}
}

func (r *testRelay) handle(me frame.ID, cl *relayClient, t frame.Type, body []byte) {
	switch t {
	case frame.Open:
		r.opens++
		peer := frame.ID(body[:5])
		if peer == me {
			peer = frame.ID(body[5:])
		}
		cl.ok[peer] = true
		o := r.conns[peer]
		cl.write(frame.AppendOpened(nil, peer, o != nil))
	case frame.Send:
		to, payload, err := frame.ParsePacket(body)
		o := r.conns[to]
		switch {
		case err != nil:
		case o == nil:
			cl.write(frame.AppendPeerGone(nil, to))
		case !cl.ok[to] && !o.ok[me]:
			cl.write(frame.AppendRefused(nil, to, frame.NoTicket))
		default:
			b, _ := frame.AppendRecv(nil, me, payload)
			o.write(b)
		}
	case frame.Ping:
		cl.write(frame.AppendPong(nil, [8]byte(body)))
	}
}

func (c *relayClient) write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.c.Write(b)
}
