package paths

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/e2e/natlab"
	"enclave/relay"
	"enclave/wire"
	"enclave/wire/svid"
	"enclave/wire/ticket"
)

// world is one simulated internet with relays and systems. Control is a function call
// that takes some time: what one system reports, those that know it are told.
type world struct {
	t       *testing.T
	lab     *natlab.Lab
	ctx     context.Context
	relays  []*station
	list    []wire.Relay
	systems []*system

	mu      sync.Mutex // guards frozen, and reach and known of the systems
	frozen  bool       // control is gone
	stopped bool
}

// controlTakes is from a report to the moment at which the others hear of it.
const controlTakes = 30 * time.Millisecond

// baseSeed is what PATHS_SEED says, else another one for each run.
var baseSeed = sync.OnceValue(func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("PATHS_SEED"), 10, 64); err == nil {
		return n
	}
	var b [3]byte
	rand.Read(b[:])
	return uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
})

// scenario runs f in a bubble on a fresh internet with some relays, and leaves a capture
// when it fails.
func scenario(t *testing.T, seed uint64, relays int, f func(w *world)) {
	t.Helper()
	id := newOrganisation()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		lab := natlab.New(natlab.Config{Seed: seed, Bubble: true, Record: 4 << 20}).Start()
		w := &world{t: t, lab: lab, ctx: ctx}
		for i := range relays {
			w.addRelay(id, fmt.Sprintf("r%d", i+1))
		}
		defer func() {
			if t.Failed() {
				w.capture(seed)
			}
			w.stop(cancel)
		}()
		f(w)
	})
}

// capture writes what the lab saw and says how to see it again.
func (w *world) capture(seed uint64) {
	name := filepath.Join(w.t.ArtifactDir(), fmt.Sprintf("seed-%d.pcapng", seed))
	if f, err := os.Create(name); err == nil {
		err = w.lab.WritePCAP(f)
		w.t.Logf("capture: %s (%v)", name, err)
		f.Close()
	}
	w.t.Logf("replay: PATHS_SEED=%d go test ./e2e/paths -run '^%s$' -artifacts -outputdir DIR", baseSeed(), w.t.Name())
	for _, s := range w.systems {
		w.t.Logf("%s: %+v %+v %+v", s.name, s.link.Status(), s.link.NetInfo(), s.link.Drops())
	}
	w.t.Logf("lost in the lab: %v", w.lab.Drops())
}

func (w *world) stop(cancel context.CancelFunc) {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	for _, s := range w.systems {
		s.dev.Close()
	}
	cancel()
	for _, s := range w.systems {
		<-s.done
	}
	for _, r := range w.relays {
		r.kill()
	}
	w.lab.Close()
	time.Sleep(2 * time.Minute) // goodbyes that wait for a time-out
	w.lab.StopRecording()
	for _, s := range w.systems {
		s.release()
	}
}

// organisation is a CA, the key of tickets, and what was issued.
type organisation struct {
	id      wire.OrgID
	roots   *x509.CertPool
	ca      *x509.Certificate
	caKey   ed25519.PrivateKey
	tickets ed25519.PrivateKey
	issued  sync.Map // svid.ID -> *tls.Certificate
}

// newOrganisation is made once, since bubbles all begin at the same instant.
var newOrganisation = sync.OnceValue(func() *organisation {
	o := &organisation{id: wire.NewOrgID(time.Now()), roots: x509.NewCertPool()}
	var pub ed25519.PublicKey
	pub, o.caKey, _ = ed25519.GenerateKey(rand.Reader)
	o.ca = o.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, pub)
	o.roots.AddCert(o.ca)
	_, o.tickets, _ = ed25519.GenerateKey(rand.Reader)
	return o
})

func (o *organisation) sign(c, parent *x509.Certificate, pub ed25519.PublicKey) *x509.Certificate {
	if parent == nil {
		parent = c
	}
	c.SerialNumber = big.NewInt(1)
	c.NotBefore, c.NotAfter = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, o.caKey)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		panic(err)
	}
	return c
}

func (o *organisation) svid(id svid.ID) svid.Source {
	return func() (*tls.Certificate, error) {
		if c, ok := o.issued.Load(id.URL().String()); ok {
			return c.(*tls.Certificate), nil
		}
		pub, priv, _ := ed25519.GenerateKey(rand.Reader)
		leaf := o.sign(&x509.Certificate{
			URIs: []*url.URL{id.URL()}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, o.ca, pub)
		c := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: priv, Leaf: leaf}
		o.issued.Store(id.URL().String(), c)
		return c, nil
	}
}

func (o *organisation) trust() svid.Trust { return svid.Trust{Org: o.id, Roots: o.roots} }

func (o *organisation) ticket(a, b wire.SystemID) []byte {
	return ticket.Sign(o.tickets, o.id, a, b, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
}

// station is a relay on its host.
type station struct {
	w    *world
	org  *organisation
	host *natlab.Host
	info wire.Relay

	srv    *relay.Server // nil: dead
	cancel context.CancelFunc
}

// addRelay puts a relay on the internet: two IPv4 addresses, one of IPv6.
func (w *world) addRelay(o *organisation, name string) *station {
	link := natlab.Over(natlab.LinkConfig{Latency: 5 * time.Millisecond})
	r := &station{w: w, org: o, host: w.lab.Host(name, w.lab.Internet(), natlab.Addresses(2), natlab.DualStack(), link)}
	r.info = wire.Relay{ID: wire.RelayID(name), Addr: name + ".lab:443"}
	for _, at := range r.stun() {
		r.info.STUN = append(r.info.STUN, at.String())
	}
	r.start()
	w.relays, w.list = append(w.relays, r), append(w.list, r.info)
	return r
}

// stun is where mapping behaviour shows: two addresses and two ports, and IPv6.
func (r *station) stun() []netip.AddrPort {
	a := r.host.Addrs()
	return []netip.AddrPort{netip.AddrPortFrom(a[0], 3478), netip.AddrPortFrom(a[0], 3479), netip.AddrPortFrom(a[1], 3478), netip.AddrPortFrom(a[2], 3478)}
}

func (r *station) start() {
	cfg := relay.Config{
		Trust: r.org.trust, Identity: r.org.svid(svid.Relay(r.org.id, r.info.ID)),
		TicketKey: r.org.tickets.Public().(ed25519.PublicKey), Logger: quiet(r.w.t, string(r.info.ID)),
	}
	if err := cfg.Validate(); err != nil {
		r.w.t.Fatal(err)
	}
	srv := relay.New(cfg)
	ctx, cancel := context.WithCancel(r.w.ctx)
	r.srv, r.cancel = srv, cancel
	l, err := r.host.ListenTCP(443)
	if err != nil {
		r.w.t.Fatal(err)
	}
	go srv.Serve(ctx, l)
	for _, at := range r.stun() {
		pc, err := r.host.ListenUDPAddrPort(at)
		if err != nil {
			r.w.t.Fatal(err)
		}
		go srv.ServeSTUN(ctx, pc)
	}
}

// kill ends the relay without a word to its clients but the end of TCP.
func (r *station) kill() {
	if r.srv == nil {
		return
	}
	r.cancel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.srv.Shutdown(ctx)
	r.srv = nil
	time.Sleep(time.Millisecond) // its port is free when its goroutines have ended
}

// quiet logs to the test's output when PATHS_LOG is set.
func quiet(t *testing.T, who string) *slog.Logger {
	if os.Getenv("PATHS_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", who)
}
