// Package agent is one node of the overlay, embeddable: it enrols, follows its map,
// and builds WireGuard, the filter and the paths from what the map says.
//
// Data flow. A packet of a local program enters through Dial or Listen, passes
// netstack, the filter (agent/filter), WireGuard (agent/tunnel) and leaves on the
// route that agent/path chose (agent/link); the same the other way, with the
// receiver's filter between decryption and netstack. What the filter lets through is
// only what the map grants, and the map is believed only where its peers verify.
//
// One loop owns the state (loop.go). Everything else reads an immutable view. An
// agent refuses to go back to an older revision, to configure a peer that does not
// verify, and to outlive its map: with control gone it closes on time by itself.
package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/agent/link"
	"enclave/agent/uplink"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

var (
	// ErrRevoked ends an agent whose identity was revoked. Its state is of no use
	// any more; it must enrol again from a fresh state directory.
	ErrRevoked = errors.New("this system was revoked")
	// ErrReplaced ends an agent whose identity connected from another process.
	ErrReplaced = errors.New("another process runs with this system's identity")
	// ErrNeedKey is returned for a first start without an enrolment key.
	ErrNeedKey = errors.New("this system is not enrolled yet and no enrolment key was given")
	// ErrClock is returned when the clock is too far off for certificates and hours.
	ErrClock = errors.New("this machine's clock is off")
)

// Config is what an agent needs. Fields without a word on it are required.
type Config struct {
	Name        string                 // one DNS label
	Control     string                 // https://host:port
	Fingerprint string                 // of the organisation's root
	Key         func() (string, error) // reads the enrolment key; called only when one is needed; optional
	Keeper      Keeper
	Network     link.Network  // link.System() on a real machine
	Version     string        // of the program, for people
	Hostname    string        // for people
	MTU         int           // of the overlay; 0 is 1280, the smallest that IPv6 allows
	Port        uint16        // UDP port; 0 picks one
	Loopback    bool          // offer loopback addresses to peers on this machine
	Beat        time.Duration // expected heartbeat; 0 is wire.HeartbeatEvery
	Logger      *slog.Logger
}

// Agent is one node. Make it with New and start it with Run.
type Agent struct {
	cfg  Config
	log  *slog.Logger
	keys wire.Keys

	// st is owned by the loop once Run has started; cert and view are what the
	// others read.
	st     *state
	cert   atomic.Pointer[tls.Certificate]
	view   atomic.Pointer[view]
	parts  atomic.Pointer[parts]
	events events
	met    sync.Map // SystemIDs of peers that have answered a probe since they were introduced
	save   mailbox
}

// New reads or makes the agent's state. It opens no socket.
func New(cfg Config) (*Agent, error) {
	if _, err := wire.ParseName(cfg.Name); err != nil {
		return nil, err
	}
	if err := (uplink.Endpoint{URL: cfg.Control, Fingerprint: cfg.Fingerprint}).Check(); err != nil {
		return nil, err
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1280
	}
	if cfg.Beat == 0 {
		cfg.Beat = wire.HeartbeatEvery
	}
	st, err := loadState(cfg.Keeper)
	if err != nil {
		return nil, err
	}
	if st.Fingerprint != "" && st.Fingerprint != cfg.Fingerprint {
		return nil, fmt.Errorf("this state belongs to the control plane with fingerprint %s: %w", st.Fingerprint, svid.ErrFingerprint)
	}
	keys, err := st.keys()
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: cfg.Logger, keys: keys, st: st}
	a.events.init()
	a.save.ready = make(chan struct{}, 1)
	a.view.Store(&view{state: api.AgentStarting})
	if len(st.SVID) > 0 {
		if err := a.useSVID(st.SVID); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Run works until ctx ends or the identity does. It returns only when everything it
// started has ended; a nil error means that ctx was the reason.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.enrol(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	p, err := a.open()
	if err != nil {
		return err
	}
	defer p.close()

	g, ctx := errgroup.WithContext(ctx)
	messages := make(chan *wire.Message) // unbuffered: a message is acknowledged once applied
	g.Go(func() error { return p.link.Run(ctx) })
	g.Go(func() error { return a.loop(ctx, p, messages) })
	g.Go(func() error { return a.follow(ctx, messages) })
	g.Go(func() error { return a.saver(ctx) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (a *Agent) endpoint() uplink.Endpoint {
	return uplink.Endpoint{URL: a.cfg.Control, Fingerprint: a.cfg.Fingerprint, Dial: a.cfg.Network.DialContext}
}

func (a *Agent) host() wire.Host {
	return wire.Host{Hostname: a.cfg.Hostname, Platform: runtime.GOOS + "/" + runtime.GOARCH, Version: a.cfg.Version}
}

// trust is the organisation this agent belongs to.
func (a *Agent) trust() (svid.Trust, error) {
	pool, err := svid.Pool(a.st.Roots)
	return svid.Trust{Org: a.st.Org, Roots: pool}, err
}

// useSVID makes chain the certificate that new connections show.
func (a *Agent) useSVID(chain [][]byte) error {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("%w: its certificate: %v", ErrDamaged, err)
	}
	a.cert.Store(&tls.Certificate{Certificate: chain, Leaf: leaf, PrivateKey: ed25519.NewKeyFromSeed(a.st.Identity)})
	return nil
}

// source shows the current SVID.
func (a *Agent) source() (*tls.Certificate, error) {
	if c := a.cert.Load(); c != nil {
		return c, nil
	}
	return nil, ErrNeedKey
}
