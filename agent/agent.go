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
// verify, and to outlive its map: with control gone it closes on time by itself. What
// it knows is in docs/format/agent-state.md; why the map is kept as it was told, in
// docs/decisions/0090.
package agent

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/agent/link"
	"enclave/agent/path"
	"enclave/agent/tunnel"
	"enclave/agent/uplink"
	"enclave/passage"
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
	// ErrRan is returned by a second Run.
	ErrRan = errors.New("this agent ran already")
)

// Config is what an agent needs. Fields without a word on it are required, Control and
// Fingerprint until it has enrolled.
type Config struct {
	Name        string                 // one DNS label
	Control     string                 // https://host:port
	Fingerprint string                 // of the organisation's root
	Key         func() (string, error) // reads the enrolment key; called only when one is needed; optional
	Keeper      Keeper
	Network     link.Network    // link.System() on a real machine
	Version     string          // of the program, for people
	Hostname    string          // for people
	Run         *wire.RunInfo   // set: this is a run of a sandbox, not a machine
	MTU         int             // of the overlay; 0 is 1280, the smallest that IPv6 allows
	Port        uint16          // UDP port; 0 picks one
	ListenTCP   string          // where peers may come by TCP when UDP does not pass, like ":443"; empty is nowhere
	Mapper      link.Mapper     // asks the router for an open port; nil does not
	Proxy       passage.Proxy   // the HTTP proxy for control and relays; nil is none
	Predict     int             // ports to guess of a peer behind a NAT that maps by destination; 0 is none
	Spray       int             // ports to try, or sockets to open, where that NAT's ports are random; 0 is none
	Loopback    bool            // offer loopback addresses to peers on this machine; implied by a control plane there
	Beat        time.Duration   // expected heartbeat; 0 is wire.HeartbeatEvery
	Netstack    tunnel.Netstack // the user-space TCP/IP stack; empty is tunnel.Enclave
	Logger      *slog.Logger    // nil discards
}

// largestMTU is more than any network carries in one piece.
const largestMTU = 9000

// check fills in what was left out and returns every mistake.
func (c *Config) check() error {
	_, name := wire.ParseName(c.Name)
	errs := []error{name, uplink.Endpoint{URL: c.Control, Fingerprint: c.Fingerprint}.Check(), c.Netstack.Check()}
	if c.Network == nil {
		errs = append(errs, errors.New("agent config: Network is missing"))
	}
	if c.MTU == 0 {
		c.MTU = 1280
	}
	if c.Spray < 0 || c.Spray > path.MaxSpray {
		errs = append(errs, fmt.Errorf("ports to spray %d: want 0 to %d", c.Spray, path.MaxSpray))
	}
	if c.Predict < 0 || c.Predict > path.MaxPredict {
		errs = append(errs, fmt.Errorf("ports to guess %d: want 0 to %d", c.Predict, path.MaxPredict))
	}
	if c.MTU < 1280 || c.MTU > largestMTU {
		errs = append(errs, fmt.Errorf("MTU %d: want 1280 to %d", c.MTU, largestMTU))
	}
	if c.Beat == 0 {
		c.Beat = wire.HeartbeatEvery
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// Agent is one node. Make it with New and start it with Run.
type Agent struct {
	cfg  Config
	log  *slog.Logger
	wall func() time.Time // the wall clock; a test sets it
	keys wire.Keys
	ran  atomic.Bool
	way  passage.Way // the shape in which control is reached

	// st is owned by the loop while Run works. Whom it belongs to (keys, system,
	// organisation, roots) does not change after enrolment, and anybody may read it.
	st     *state
	words  chan word // to the loop; unbuffered, each is answered
	save   mailbox
	events events

	unknown unknown // names that stand for nobody here

	// What the others read.
	witnessed atomic.Int64 // records of the checkpoint that is remembered
	cert      atomic.Pointer[tls.Certificate]
	view      atomic.Pointer[view]
	parts     atomic.Pointer[parts]         // nil before and after Run
	client    atomic.Pointer[uplink.Client] // nil while control is away
	unproved  atomic.Pointer[error]         // why the SVID is not renewed yet; nil when it need not be
}

// New reads or makes the agent's state. It opens no socket. Control and Fingerprint
// may be left out where the state has them, which it has once enrolled.
func New(cfg Config) (*Agent, error) {
	if cfg.Keeper == nil {
		return nil, errors.New("agent config: Keeper is missing")
	}
	st, fresh, err := loadState(cfg.Keeper)
	if err != nil {
		return nil, err
	}
	cfg.Control, cfg.Fingerprint = cmp.Or(cfg.Control, st.Control), cmp.Or(cfg.Fingerprint, st.Fingerprint)
	cfg.Loopback = cfg.Loopback || onLoopback(cfg.Control)
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if st.Fingerprint != "" && st.Fingerprint != cfg.Fingerprint {
		return nil, fmt.Errorf("this state belongs to the control plane with fingerprint %s: %w", st.Fingerprint, svid.ErrFingerprint)
	}
	// Keys are on disk before anything is bought with them: an agent that dies between
	// enrolling and saving the answer asks again with the same identity and uses
	// nothing up.
	if fresh {
		if err := st.save(cfg.Keeper); err != nil {
			return nil, err
		}
	}
	a := &Agent{cfg: cfg, log: cfg.Logger, wall: time.Now, st: st, words: make(chan word)}
	if a.keys, err = st.keys(); err != nil {
		return nil, err
	}
	a.events.init()
	a.save.ready = make(chan struct{}, 1)
	a.view.Store(&view{directory: new(directory), state: api.AgentStarting})
	if st.System != "" {
		if err := a.useSVID(st.SVID); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// onLoopback reports whether the control plane is on this machine, and so the peers
// may be.
func onLoopback(control string) bool {
	u, err := url.Parse(control)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}

// Run works until ctx ends or the identity does. It returns only when everything it
// started has ended; a nil error means that ctx was the reason. An agent runs once.
func (a *Agent) Run(ctx context.Context) error {
	if !a.ran.CompareAndSwap(false, true) {
		return ErrRan
	}
	again := a.st.System != ""
	err := a.enrol(ctx)
	if err == nil {
		err = a.run(ctx, again)
	}
	end := &view{directory: new(directory), state: api.AgentClosed, self: a.view.Load().self}
	if errors.Is(err, ErrRevoked) {
		end.state = api.AgentRevoked
		a.st.Map = nil // who the peers were is nothing to keep
		err = errors.Join(err, a.st.save(a.cfg.Keeper))
	}
	a.view.Store(end)
	a.events.announce()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

// run works on an enrolled agent; again says that it was one before this start.
func (a *Agent) run(ctx context.Context, again bool) error {
	p, err := a.open()
	if err != nil {
		return err
	}
	// The link outlives the rest: what the overlay says to its peers when it closes
	// must still leave.
	under, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	linked := make(chan error, 1)
	go func() { linked <- p.link.Run(under) }()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case err := <-linked:
			linked <- nil
			return err
		case <-ctx.Done():
			return nil
		}
	})
	if again {
		g.Go(func() error { a.greet(ctx, p); return nil })
	}
	a.work(ctx, g, p)
	err = g.Wait()
	a.parts.Store(nil)
	p.closeOverlay()
	stop()
	<-linked
	a.flush()
	return err
}

// work starts what runs on top of a data plane.
func (a *Agent) work(ctx context.Context, g *errgroup.Group, p plane) {
	g.Go(func() error { return a.loop(ctx, p) })
	g.Go(func() error { return a.follow(ctx) })
	g.Go(func() error { return a.saver(ctx) })
	if p, ok := p.(*parts); ok {
		g.Go(func() error { return p.watchGateways(ctx) })
	}
}

func (a *Agent) endpoint() uplink.Endpoint {
	return uplink.Endpoint{URL: a.cfg.Control, Fingerprint: a.cfg.Fingerprint, Dial: passage.Through(a.cfg.Network.DialContext, a.cfg.Proxy), Way: &a.way}
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
	leaf, err := ownLeaf(chain, a.keys.Identity, a.st.System)
	if err != nil {
		return err
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
