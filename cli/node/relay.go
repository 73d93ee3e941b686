package node

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/agent"
	"enclave/agent/uplink"
	"enclave/relay"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

// ALPN is the protocol by which relay connections are told apart on a shared port.
const ALPN = frame.ALPN

// ErrDamaged is returned for a relay's state that cannot be read. The file is left as
// it is.
var ErrDamaged = errors.New("the relay's state is damaged")

// RelayConfig says how a relay runs.
type RelayConfig struct {
	Control     string
	Fingerprint string
	Key         func() (string, error) // reads an enrolment key of kind relay; may be nil once enrolled
	OwnKey      bool                   // Key makes another one at each call
	Name        string
	Info        wire.RelayInfo // how agents reach it
	Keeper      agent.Keeper
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	Listener    net.Listener // nil when connections come from a shared port
	STUN        []relay.PacketConn
	Metrics     net.Listener        // serves /metrics to Prometheus in plain HTTP; may be nil
	Drain       time.Duration       // how long clients get to connect elsewhere when it ends; 0 is the relay's default
	Progress    func(RelayProgress) // is told, never concurrently, when it serves and how its end goes; may be nil
	Version     string
	Logger      *slog.Logger
}

// RelayProgress is a step in the life of a relay.
type RelayProgress struct {
	State   RelayStep     `json:"state"`
	Relay   wire.RelayID  `json:"relay"`
	Clients int           `json:"clients"`         // connected now
	Grace   time.Duration `json:"grace,omitempty"` // draining: how long they have at most
}

// RelayStep names it.
type RelayStep string

// The steps.
const (
	RelayServes RelayStep = "serving"
	RelayDrains RelayStep = "draining" // told for each change of the number of clients
	RelayEnded  RelayStep = "ended"    // clients that are left had no other relay and are cut
)

// relayState is what a relay remembers.
type relayState struct {
	Version   int          `json:"version"`  // 1
	Identity  []byte       `json:"identity"` // Ed25519 seed
	Relay     wire.RelayID `json:"relay,omitempty"`
	Org       wire.OrgID   `json:"org,omitempty"`
	SVID      [][]byte     `json:"svid,omitempty"`
	Roots     [][]byte     `json:"roots,omitempty"`
	TicketKey []byte       `json:"ticket_key,omitempty"`

	// Secret is what it enrols with, where OwnKey says so and until it has. Control commits
	// an enrolment before the relay can note it; one that is killed in between asks again,
	// and is answered only with the secret of before.
	Secret string `json:"secret,omitempty"`
}

// Relay is a relay with its identity.
type Relay struct {
	cfg    RelayConfig
	log    *slog.Logger
	st     relayState
	server atomic.Pointer[relay.Server] // nil until it has enrolled
	cert   atomic.Pointer[tls.Certificate]
	trust  svid.Trust
	conns  atomic.Pointer[context.Context] // bounds connections from a shared port
}

// RunRelay runs a relay until ctx ends.
func RunRelay(ctx context.Context, cfg RelayConfig) error {
	r, err := OpenRelay(cfg)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// OpenRelay reads the relay's state, or makes its identity key.
func OpenRelay(cfg RelayConfig) (*Relay, error) {
	r := &Relay{cfg: cfg, log: cfg.Logger}
	raw, err := cfg.Keeper.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.st = relayState{Version: 1, Identity: make([]byte, ed25519.SeedSize)}
		cryptorand.Read(r.st.Identity)
		return r, r.save()
	case err != nil:
		return nil, err
	}
	if err := wire.Unmarshal(raw, &r.st); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if r.st.Version != 1 || len(r.st.Identity) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: version %d, %d bytes of key", ErrDamaged, r.st.Version, len(r.st.Identity))
	}
	if k, ok := cfg.Keeper.(*Keeper); ok {
		return r, k.Settle()
	}
	return r, nil
}

func (r *Relay) save() error {
	raw, err := json.Marshal(r.st)
	if err != nil {
		return err
	}
	return r.cfg.Keeper.Save(raw)
}

// TLS is what a shared port uses for relay connections; nil until the relay has its
// identity.
func (r *Relay) TLS() *tls.Config {
	if r.server.Load() == nil {
		return nil
	}
	c := svid.ServerConfig(r.trust, r.source, svid.ClientRequired)
	c.NextProtos = []string{ALPN}
	c.DynamicRecordSizingDisabled = true // as on a listener of its own: many packets a record from the start
	return c
}

// ServeConn serves a connection that a shared port has accepted.
func (r *Relay) ServeConn(c *tls.Conn) {
	if s, ctx := r.server.Load(), r.conns.Load(); s != nil && ctx != nil {
		s.ServeConn(*ctx, c)
		return
	}
	c.Close()
}

// Run enrols if need be, then serves until ctx ends. Clients are told before it goes.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.enrol(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	pool, err := svid.Pool(r.st.Roots)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	r.trust = svid.Trust{Org: r.st.Org, Roots: pool}
	if err := r.useSVID(); err != nil {
		return err
	}
	s := relay.New(relay.Config{Trust: func() svid.Trust { return r.trust }, Identity: r.source, TicketKey: r.st.TicketKey, Logger: r.log,
		Limits: relay.Limits{DrainGrace: r.cfg.Drain}})
	grace := cmp.Or(r.cfg.Drain, relay.DefaultLimits().DrainGrace)
	// Connections outlive ctx by the drain: clients move before they are cut.
	drained, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r.conns.Store(&drained)
	r.server.Store(s)

	r.tell(RelayServes, 0, 0)
	g, ctx := errgroup.WithContext(ctx)
	if r.cfg.Listener != nil {
		g.Go(func() error { return s.Serve(drained, r.cfg.Listener) })
	}
	for _, pc := range r.cfg.STUN {
		g.Go(func() error { return s.ServeSTUN(drained, pc) })
	}
	if r.cfg.Metrics != nil {
		g.Go(func() error { return serveMetrics(drained, r.cfg.Metrics, s.Collector()) })
	}
	g.Go(func() error { return r.renewal(ctx) })
	g.Go(func() error { r.announce(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		defer cancel()
		watched := r.watchDrain(s, grace)
		defer watched()
		return s.Shutdown(context.WithoutCancel(ctx)) // bounded by the grace
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (r *Relay) tell(step RelayStep, clients int, grace time.Duration) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(RelayProgress{State: step, Relay: r.st.Relay, Clients: clients, Grace: grace})
	}
}

// drainTick is how often the clients are counted while they move.
const drainTick = 100 * time.Millisecond

// watchDrain tells how many clients are left until the function that it returns is called.
func (r *Relay) watchDrain(s *relay.Server, grace time.Duration) (stop func()) {
	left := s.Stats().Clients
	r.tell(RelayDrains, left, grace)
	over, ended := make(chan struct{}), make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(drainTick)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			// What is cut when the grace is over has not moved.
			if n, rest := s.Stats().Clients, grace-time.Since(begun); n != left && rest > 0 {
				left = n
				r.tell(RelayDrains, left, rest)
			}
		}
	}()
	return func() {
		close(over)
		<-ended
		if time.Since(begun) < grace {
			left = 0 // it ended because nobody was left
		}
		r.tell(RelayEnded, left, 0)
	}
}

func (r *Relay) useSVID() error {
	leaf, err := x509.ParseCertificate(r.st.SVID[0])
	if err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	r.cert.Store(&tls.Certificate{Certificate: r.st.SVID, Leaf: leaf, PrivateKey: ed25519.NewKeyFromSeed(r.st.Identity)})
	return nil
}

func (r *Relay) source() (*tls.Certificate, error) { return r.cert.Load(), nil }

func (r *Relay) endpoint() uplink.Endpoint {
	return uplink.Endpoint{URL: r.cfg.Control, Fingerprint: r.cfg.Fingerprint, Dial: r.cfg.Dial}
}

// retryEvery spaces attempts to reach control; a relay has time.
const retryEvery = 2 * time.Second

func (r *Relay) enrol(ctx context.Context) error {
	if r.st.Relay != "" {
		return nil
	}
	if r.cfg.Key == nil {
		return agent.ErrNeedKey
	}
	kept := r.st.Secret != ""
	secret, err := r.secret()
	if err != nil {
		return err
	}
	req := wire.EnrolRequest{Version: wire.Version, Secret: secret, Name: r.cfg.Name, Keys: r.keys(), Relay: &r.cfg.Info}
	for {
		req.Now = time.Now().UTC()
		resp, err := uplink.Enrol(ctx, r.endpoint(), req)
		if err == nil {
			r.st.Relay, r.st.Org, r.st.SVID, r.st.Roots, r.st.TicketKey = resp.Relay, resp.Org, resp.SVID, resp.Roots, resp.TicketKey
			r.st.Secret = ""
			r.log.Info("relay enrolled", "relay", resp.Relay)
			return r.save()
		}
		var p *api.Problem
		if errors.As(err, &p) && p.Status < 500 && p.Status != 429 {
			if kept { // its key was removed before it was used
				r.st.Secret, kept = "", false
				if req.Secret, err = r.secret(); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("relay: enrol: %w", err)
		}
		if !errors.Is(err, uplink.ErrUnreachable) && p == nil {
			return fmt.Errorf("relay: enrol: %w", err)
		}
		r.log.Debug("relay waits for the control plane", "error", err)
		select {
		case <-time.After(retryEvery/4 + rand.N(retryEvery)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// secret is what it enrols with.
func (r *Relay) secret() (string, error) {
	if r.st.Secret != "" {
		return r.st.Secret, nil
	}
	secret, err := r.cfg.Key()
	if err == nil && r.cfg.OwnKey {
		r.st.Secret = secret
		err = r.save()
	}
	return secret, err
}

// announceMost is the longest pause between attempts to tell control.
const announceMost = time.Minute

// announce tells control where the relay is reached, which may be elsewhere than when it
// enrolled, until it was heard.
func (r *Relay) announce(ctx context.Context) {
	c := uplink.New(r.endpoint(), r.trust, r.source)
	defer c.Close()
	for wait := retryEvery; ; wait = min(2*wait, announceMost) {
		err := c.Move(ctx, r.cfg.Info)
		var p *api.Problem
		switch {
		case err == nil:
			return
		case errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Status == http.StatusUnprocessableEntity):
			r.log.Warn("control does not take where this relay is reached", "addr", r.cfg.Info.Addr, "error", err)
			return // an older control plane, or one that has removed this relay
		}
		r.log.Debug("the relay has not told where it is reached", "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return
		}
	}
}

// keys is the key statement of a relay. It has no WireGuard and no disco key to use;
// the statement has room for both, so it vouches for two whose private halves nobody
// keeps.
func (r *Relay) keys() wire.Keys {
	return svid.SignKeys(ed25519.NewKeyFromSeed(r.st.Identity), wire.WireGuardKey(nobodysKey()), wire.DiscoKey(nobodysKey()))
}

func nobodysKey() [32]byte {
	priv, err := ecdh.X25519().GenerateKey(cryptorand.Reader)
	if err != nil {
		panic(err) // only a broken random source, which crypto/rand does not return from
	}
	return [32]byte(priv.PublicKey().Bytes())
}

// renewal renews the SVID at half its life.
func (r *Relay) renewal(ctx context.Context) error {
	c := uplink.New(r.endpoint(), r.trust, r.source)
	defer c.Close()
	for {
		leaf := r.cert.Load().Leaf
		half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
		select {
		case <-time.After(max(time.Until(half), 0) + rand.N(retryEvery)):
		case <-ctx.Done():
			return ctx.Err()
		}
		resp, err := c.Renew(ctx, wire.RenewRequest{Now: time.Now().UTC()})
		if err == nil {
			_, _, err = svid.Verify(resp.SVID, r.trust.Roots, r.trust.Org, time.Now())
		}
		if err != nil {
			r.log.Warn("the relay's certificate is not renewed yet", "until", leaf.NotAfter, "error", err)
			continue
		}
		r.st.SVID = resp.SVID
		if err := errors.Join(r.useSVID(), r.save()); err != nil {
			return err
		}
	}
}
