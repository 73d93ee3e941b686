package link

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/stream"
	"enclave/wire/svid"
)

// testOrg issues SVIDs; bubbles begin at one instant, so they are made once.
type testOrg struct {
	id    wire.OrgID
	ca    *x509.Certificate
	key   ed25519.PrivateKey
	certs sync.Map // svid.ID -> *tls.Certificate
}

var newTestOrg = sync.OnceValue(func() *testOrg {
	o := &testOrg{id: wire.NewOrgID(time.Now())}
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	o.key = key
	o.ca = o.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, pub)
	return o
})

func (o *testOrg) sign(c, parent *x509.Certificate, pub ed25519.PublicKey) *x509.Certificate {
	if parent == nil {
		parent = c
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(7), time.Unix(0, 0), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, o.key)
	if err != nil {
		panic(err)
	}
	out, _ := x509.ParseCertificate(der)
	return out
}

func (o *testOrg) trust() svid.Trust {
	roots := x509.NewCertPool()
	roots.AddCert(o.ca)
	return svid.Trust{Org: o.id, Roots: roots}
}

// cert is an SVID; another copy of one name has another key.
func (o *testOrg) cert(id svid.ID, copy string) *tls.Certificate {
	name := id.String() + copy
	if c, ok := o.certs.Load(name); ok {
		return c.(*tls.Certificate)
	}
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	u, _ := url.Parse(id.String())
	leaf := o.sign(&x509.Certificate{URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, o.ca, pub)
	c := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	got, _ := o.certs.LoadOrStore(name, c)
	return got.(*tls.Certificate)
}

func (o *testOrg) system(id wire.SystemID) *tls.Certificate { return o.cert(svid.System(o.id, id), "") }

// streams is the configuration of a system's streams.
func (o *testOrg) streams(id wire.SystemID, listen string) Streams {
	mine := func() (*tls.Certificate, error) { return o.system(id), nil }
	return Streams{
		Listen: listen,
		Server: func() *tls.Config { return svid.ServerConfig(o.trust(), mine, svid.ClientRequired) },
		Client: func(peer wire.SystemID) *tls.Config {
			return svid.ClientConfig(o.trust(), mine, svid.System(o.id, peer))
		},
	}
}

// byStream reports whether both sides reach each other by TCP.
func (w *world) byStream() bool {
	return w.alice.status().Route.Stream.IsValid() && w.bob.status().Route.Stream.IsValid()
}

// listening is a world in which bob takes streams. Bob's host is seen at its own address:
// nothing translates before it.
func listening(t *testing.T, natA string, f func(w *world)) {
	runWith(t, natA, "", 1, func(g *ground) { g.listen = ":443" }, f)
}

func TestStraightByTCPWhereUDPIsBlocked(t *testing.T) {
	listening(t, "blocked", func(w *world) {
		w.until(time.Second, "a first message by the relay", func() bool { return w.alice.say("first") })
		took := w.until(5*time.Second, "a stream", w.byStream)
		t.Logf("a stream %v after the first message", took)
		for _, r := range w.relays {
			r.crash()
		}
		if lost := w.talk(5 * time.Second); lost > 0 {
			t.Errorf("%d messages lost with no relay", lost)
		}
		res, err := w.alice.Ping(w.t.Context(), "bob00")
		if err != nil || !res.Route.Stream.IsValid() || !res.Route.IsDirect() {
			t.Errorf("ping %+v, %v", res, err)
		}
		if s := w.bob.status(); s.Why == "" || s.Route.String() != "tcp "+s.Route.Stream.String() {
			t.Errorf("status %+v", s)
		}
		if n := w.bob.NetInfo(); n.Listen == "" {
			t.Errorf("netinfo %+v", n)
		}
	})
}

// TestUDPTakesOver: what works by UDP goes by UDP, a stream carries meanwhile, and nothing
// is lost on the way from one to the other.
func TestUDPTakesOver(t *testing.T) {
	listening(t, "easy", func(w *world) {
		drop := true
		w.lab.mu.Lock()
		w.lab.drop = func(from, to netip.AddrPort) bool {
			return drop && to.Port() != 3478 && from.Port() != 3478 && to.Port() != 3479 && from.Port() != 3479
		}
		w.lab.mu.Unlock()
		w.talk(2 * time.Second)
		w.until(10*time.Second, "a stream", w.byStream)
		w.lab.mu.Lock()
		drop = false
		w.lab.mu.Unlock()
		if lost := w.talk(30 * time.Second); lost > 0 {
			t.Errorf("%d messages lost when UDP came back", lost)
		}
		if s := w.alice.status(); !s.Route.Direct.IsValid() || s.Route.Stream.IsValid() || s.Why != "" {
			t.Errorf("with UDP: %+v", s)
		}
		// The stream still stands beside it: UDP that dies again costs no relay.
		w.lab.mu.Lock()
		drop = true
		w.lab.mu.Unlock()
		w.talk(6 * time.Second)
		if !w.byStream() {
			t.Errorf("UDP died: %+v", w.alice.status())
		}
	})
}

func TestAStreamEndsWithThePolicy(t *testing.T) {
	listening(t, "blocked", func(w *world) {
		w.talk(time.Second)
		w.until(5*time.Second, "a stream", w.byStream)
		w.frozen.Store(true)
		w.bob.SetPeers(nil)
		time.Sleep(time.Second)
		if s := w.alice.status(); s.Route.Stream.IsValid() {
			t.Errorf("alice still has %+v", s)
		}
		if w.alice.say("to one who forgot") {
			t.Error("heard after the end")
		}
		time.Sleep(time.Minute)
		if n := w.bob.Drops().Callers; n == 0 || n > 20 {
			t.Errorf("%d calls turned away in a minute", n)
		}
	})
}

func TestAnIdleStreamIsClosed(t *testing.T) {
	listening(t, "blocked", func(w *world) {
		w.talk(time.Second)
		w.until(5*time.Second, "a stream", w.byStream)
		time.Sleep(streamIdle + 5*time.Second)
		if w.alice.status().Route.Stream.IsValid() || w.bob.status().Route.Stream.IsValid() {
			t.Errorf("after %v: %+v", streamIdle, w.alice.status())
		}
		if !w.alice.say("again") {
			t.Error("not heard after a pause")
		}
		w.until(3*time.Second, "a stream again", w.byStream)
	})
}

// TestBothListen: both call, and one stream remains on both sides.
func TestBothListen(t *testing.T) {
	runWith(t, "", "", 1, func(g *ground) { g.listen = ":443" }, func(w *world) {
		w.lab.mu.Lock()
		w.lab.drop = func(_, _ netip.AddrPort) bool { return true }
		w.lab.mu.Unlock()
		w.talk(2 * time.Second)
		w.until(20*time.Second, "a stream", w.byStream)
		time.Sleep(5 * time.Second)
		if lost := w.talk(10 * time.Second); lost > 0 {
			t.Errorf("%d messages lost", lost)
		}
		a, b := w.alice.peerOf("bob00"), w.bob.peerOf("alice")
		if a.stream == nil || b.stream == nil || a.stream.ours == b.stream.ours {
			t.Errorf("alice holds %+v, bob %+v: not two ends of one", a.stream, b.stream)
		}
	})
}

// TestOneStreamToTwoAddresses: a peer that can be called at several addresses is called at
// all of them together, and lets in one call. The others would each have taken the place
// of the one before at its side, and this side would have kept what the peer has left.
func TestOneStreamToTwoAddresses(t *testing.T) {
	runWith(t, "blocked", "", 1, func(g *ground) {
		g.lag = 10 * time.Millisecond
		if g.nat == nil {
			g.listen, g.also = ":443", []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.3")}
			for _, a := range g.also {
				g.hosts[a] = g
			}
		}
	}, func(w *world) {
		w.talk(time.Second)
		w.until(5*time.Second, "a stream", w.byStream)
		was := w.alice.peerOf("bob00").stream
		if lost := w.talk(10 * time.Second); lost > 0 {
			t.Errorf("%d messages lost", lost)
		}
		if is := w.alice.peerOf("bob00").stream; is != was {
			t.Errorf("the stream did not last: %p, then %p", was, is)
		}
	})
}

// TestACallThatHangsLetsTheNextAsk: an address whose path swallows what is large, like a
// certificate, keeps its turn only for a while.
func TestACallThatHangsLetsTheNextAsk(t *testing.T) {
	one, two := netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.3")
	runWith(t, "blocked", "", 1, func(g *ground) {
		g.lag = 10 * time.Millisecond
		if g.nat == nil {
			g.listen, g.also = ":443", []netip.Addr{one, two}
			g.hosts[one], g.hosts[two] = g, g
		} else {
			g.hello = map[netip.Addr]bool{netip.MustParseAddr("203.0.113.1"): true, one: true}
		}
	}, func(w *world) {
		w.talk(time.Second)
		w.until(streamIn, "a stream", w.byStream)
		if at := w.alice.peerOf("bob00").stream.far.Addr(); at != two {
			t.Errorf("a stream to %v", at)
		}
	})
}

func (n *node) peerOf(id wire.SystemID) *peer {
	n.Link.mu.Lock()
	defer n.Link.mu.Unlock()
	return n.peers[id]
}

// TestASlowPeerHoldsNobody: a peer that reads nothing costs its sender no more than a moment.
func TestASlowPeerHoldsNobody(t *testing.T) {
	l, c, p, _ := still(t)
	s := newStreamConn(p, nil, c.from, true)
	p.route.Store(&route{stream: s})
	begun := time.Now()
	for range 2000 {
		l.Send([][]byte{c.packet}, p)
	}
	if took := time.Since(begun); took > 2*time.Second || l.drops.queueFull.Load() == 0 {
		t.Errorf("2000 packets to who takes nothing took %v, %d dropped", took, l.drops.queueFull.Load())
	}
	if s.out.waiting == nil || len(s.out.waiting.b) > outLimit {
		t.Errorf("%d bytes wait", len(s.out.waiting.b))
	}
}

// TestHostileCallers knocks at a listener in every way that is not a peer's.
func TestHostileCallers(t *testing.T) {
	o := newTestOrg()
	listening(t, "blocked", func(w *world) {
		time.Sleep(time.Second)
		bob, at := w.bob, netip.AddrPortFrom(w.bob.ground.addr, 443)
		evil := w.lab.host("192.0.2.66", "", "")
		stranger := disco.NewPrivateKey()
		alices := disco.NewPair(w.alice.cfg.Disco, w.bob.keys.Disco)
		ping := func() disco.Ping { return disco.Ping{Tx: disco.NewTxID(), WireGuard: w.alice.keys.WireGuard} }
		once := alices.Seal(nil, ping())
		shown := false // a certificate
		config := func(cert *tls.Certificate, protocols []string) *tls.Config {
			c := &tls.Config{NextProtos: protocols, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true,
				VerifyConnection: func(tls.ConnectionState) error { shown = true; return nil }}
			if cert != nil {
				c.Certificates = []tls.Certificate{*cert}
			}
			return c
		}
		mine := o.system("alice")
		for _, k := range []struct {
			name string
			cfg  *tls.Config
			sees bool // the listener's certificate
			in   bool
		}{
			{"a browser", config(nil, []string{"h2", "http/1.1"}), false, false},
			{"no knock", config(mine, []string{stream.ALPN}), false, false},
			{"the knock of a stranger", config(mine, stream.Protocols(disco.NewPair(stranger, w.bob.keys.Disco).Seal(nil, ping()))), false, false},
			{"noise for a knock", config(mine, stream.Protocols(append([]byte(once[:6:6]), make([]byte, 117)...))), false, false},
			{"another key of WireGuard", config(mine, stream.Protocols(alices.Seal(nil, disco.Ping{Tx: disco.NewTxID()}))), false, false},
			{"the peer itself", config(mine, stream.Protocols(once)), true, true},
			{"the same knock again", config(mine, stream.Protocols(once)), false, false},
			{"no certificate", config(nil, stream.Protocols(alices.Seal(nil, ping()))), true, false},
			{"another system's certificate", config(o.system("carol"), stream.Protocols(alices.Seal(nil, ping()))), true, false},
			{"another identity of that name", config(o.cert(svid.System(o.id, "alice"), "stolen name"), stream.Protocols(alices.Seal(nil, ping()))), true, false},
			{"a relay's certificate", config(o.cert(svid.Relay(o.id, "alice"), ""), stream.Protocols(alices.Seal(nil, ping()))), true, false},
			{"no certificate of ours", config(&tls.Certificate{Certificate: testCert("alice").Certificate, PrivateKey: testCert("alice").PrivateKey}, stream.Protocols(alices.Seal(nil, ping()))), true, false},
		} {
			shown = false
			raw, err := evil.DialContext(w.t.Context(), "tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			c := tls.Client(raw, k.cfg)
			_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = stream.NewReader(c).Next()
			if shown != k.sees || (err == nil) != k.in {
				t.Errorf("%s: certificate shown %v, want %v; let in %v (%v), want %v", k.name, shown, k.sees, err == nil, err, k.in)
			}
			if k.in { // and says what no peer would
				c.Write([]byte{0xff, 0xff, 1, 2, 3})
				if _, err := io.Copy(io.Discard, c); err == nil {
					t.Log("closed after a datagram too long")
				}
				synctest.Wait() // the listener closes first and forgets then
				if s := bob.status().Route.Stream; s.IsValid() {
					t.Errorf("a frame of 65535 bytes left the stream standing: %v", s)
				}
			}
			raw.Close()
			time.Sleep(time.Second) // the rate of one network
		}
		if n := bob.Drops().Callers; n != 11 {
			t.Errorf("%d callers turned away, want 11", n)
		}
		// Those who say nothing are let go, and meanwhile take no place from another network.
		time.Sleep(10 * time.Second)
		var slow []net.Conn
		for range 2 * doorSame {
			c, err := evil.DialContext(w.t.Context(), "tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, c)
		}
		time.Sleep(100 * time.Millisecond)
		if n := bob.door.count(); n != doorSame {
			t.Errorf("%d wait at the door, want %d", n, doorSame)
		}
		w.talk(time.Second)
		w.until(4*time.Second, "a stream past those who wait", w.byStream)
		time.Sleep(2 * streamIn)
		if n := bob.door.count(); n != 0 {
			t.Errorf("%d still wait", n)
		}
		for _, c := range slow {
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who says nothing is answered: %v", err)
			}
			c.Close()
		}
	})
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting.Len()
}

func TestDoor(t *testing.T) {
	var d door
	now := time.Now()
	one := netip.MustParsePrefix("192.0.2.0/24")
	var in []*caller
	for range 3 * doorSlots {
		if c := d.enter(one, nil, now); c != nil {
			in = append(in, c)
		}
	}
	if len(in) != doorSame {
		t.Errorf("%d of one network, want %d", len(in), doorSame)
	}
	for _, c := range in {
		d.leave(c)
		d.leave(c)
	}
	passed := 0
	for range 100 { // and out again at once
		if c := d.enter(one, nil, now); c != nil {
			passed++
			d.leave(c)
		}
	}
	if passed != doorBurst-doorSame {
		t.Errorf("%d more, want %d", passed, doorBurst-doorSame)
	}
}

// TestStrangersMakeRoom: as many networks as a flood can have, each of whose callers says
// nothing, keep nobody out and are remembered in bounded room.
func TestStrangersMakeRoom(t *testing.T) {
	var d door
	now := time.Now()
	var cut []int
	for i := range 2 * doorTable {
		p := sourceOf(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}))
		if d.enter(p, func() { cut = append(cut, i) }, now) == nil {
			t.Fatalf("caller %d finds no room", i)
		}
	}
	if d.count() != doorSlots || len(d.sources) > doorTable {
		t.Errorf("%d wait, %d networks remembered", d.count(), len(d.sources))
	}
	for i, n := range cut {
		if i != n {
			t.Fatalf("%d was turned out before %d", n, i)
		}
	}
	late := d.enter(netip.MustParsePrefix("198.51.100.0/24"), func() { t.Error("who came last was turned out") }, now)
	if late == nil || len(cut) != 2*doorTable-doorSlots+1 {
		t.Errorf("%v, %d turned out", late, len(cut))
	}
	d.leave(late)
	for d.room() {
	}
	if d.count() != 0 || d.room() {
		t.Error("somebody is left")
	}
}
