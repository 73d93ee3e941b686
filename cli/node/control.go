package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/control"
	"enclave/control/admin"
	"enclave/control/enrol"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire/svid"
)

// ControlConfig says how a control plane runs.
type ControlConfig struct {
	Dir         string          // state directory
	Identities  []seal.Identity // open the state; none: the one beside it, made on first start
	URL         string          // https://host:port by which agents reach it
	Listener    net.Listener    // TCP; TLS is made here
	API         net.Listener    // also serves the API here in plain HTTP, for loopback; may be nil
	Share       *SharedRelay    // a relay on the same port; may be nil
	Heartbeat   time.Duration
	CountryFile string        // a table of range,country lines; may be empty
	MapLife     time.Duration // of a new organisation; 0 is the default
	SVIDLife    time.Duration // of a new organisation; 0 is the default
	Version     string
	Logger      *slog.Logger
	// KeepFirst is given the administrator's token of a first start before it is in force;
	// an error stops the start. May be nil.
	KeepFirst func(*First) error
	// Opened is told of the store when it was opened, at the start and after a lock, so
	// that what shares its keys has them. May be nil.
	Opened  func(*store.Store)
	Backups BackupPlan // of backups that are made by themselves
}

// SharedRelay is a relay that takes connections from the control plane's listener.
type SharedRelay struct {
	ALPN  string
	TLS   func() *tls.Config // nil until the relay has its identity
	Serve func(*tls.Conn)
}

// First is what the first start makes.
type First struct {
	Token        string // of the first administrator; only its hash is kept
	Fingerprint  string // of the organisation's root
	EnrolmentKey string // approves automatically; kept sealed until somebody has enrolled with it
}

// Control is a control plane ready to run.
type Control struct {
	cfg    ControlConfig
	store  *store.Store
	server *control.Server
	first  *First
	key    string // to be shown
	print  string
	host   string
	plan   *plan
}

// OpenControl opens the state, and makes the organisation if there is none.
func OpenControl(ctx context.Context, cfg ControlConfig) (*Control, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("address %.200q: want https://host:port", cfg.URL)
	}
	st, err := store.Open(ctx, cfg.Dir, store.WithIdentities(cfg.Identities...))
	if err != nil {
		return nil, err
	}
	c := &Control{cfg: cfg, store: st, host: u.Hostname()}
	c.cfg.Identities = nil // not needed any more, and secret
	if c.plan, err = newPlan(cfg.Backups, cfg.Dir, cfg.Version, cfg.Logger); err == nil {
		err = c.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return c, nil
}

// reopen opens the state again after it was locked.
func (c *Control) reopen(ctx context.Context, ids []seal.Identity, held *store.Held) (*control.Server, error) {
	st, err := store.Open(ctx, c.cfg.Dir, store.WithIdentities(ids...), store.WithHeld(held))
	if err != nil {
		return nil, err
	}
	s, err := c.serverOf(ctx, st)
	if err != nil {
		again, bad := st.CloseHolding()
		*held = *again
		return nil, errors.Join(err, bad)
	}
	return s, nil
}

// serverOf makes the server of an open store.
func (c *Control) serverOf(ctx context.Context, st *store.Store) (*control.Server, error) {
	cfg := control.Config{Store: st, Logger: c.cfg.Logger, APIListener: c.cfg.API, Heartbeat: c.cfg.Heartbeat, CountryFile: c.cfg.CountryFile,
		Version: c.cfg.Version, Hosts: []string{c.host}, Backups: c.plan.status}
	if s := c.cfg.Share; s != nil {
		cfg.ALPN = map[string]control.Protocol{s.ALPN: {TLS: s.TLS, Serve: s.Serve}}
	}
	s, err := control.New(ctx, cfg)
	if err == nil {
		c.plan.use(st)
		if c.cfg.Opened != nil {
			c.cfg.Opened(st)
		}
	}
	return s, err
}

func (c *Control) prepare(ctx context.Context) error {
	now := c.store.Now()
	if err := c.initialise(ctx, now); err != nil {
		return err
	}
	org, err := c.store.Org(ctx)
	if err != nil {
		return err
	}
	clear(org.CAKey)
	clear(org.TicketKey)
	c.print = svid.Fingerprint(org.CACert)
	tokens, err := c.store.Tokens(ctx)
	if err != nil {
		return err
	}
	if c.key, err = c.store.ShownSecret(ctx, now); err != nil {
		return err
	}
	if len(tokens) == 0 { // the first start, or one after a first that was killed
		if err := c.makeFirst(ctx, store.Change{By: by, At: now}); err != nil {
			return err
		}
	}
	c.server, err = c.serverOf(ctx, c.store)
	return err
}

// by is the actor of what nobody asked for.
const by store.Actor = "setup"

// initialise makes the organisation if there is none.
func (c *Control) initialise(ctx context.Context, now time.Time) error {
	if _, err := c.store.Org(ctx); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	settings := store.DefaultSettings()
	if c.cfg.MapLife != 0 {
		settings.MapLife = c.cfg.MapLife
	}
	if c.cfg.SVIDLife != 0 {
		settings.SVIDLife = c.cfg.SVIDLife
	}
	_, err := control.Init(ctx, c.store, store.Change{By: by, At: now}, "enclave", settings)
	return err
}

// makeFirst makes the first key and the first administrator's token, the token last: a
// store without one has not had its first start. Both are in force before anybody sees
// them, so that what was seen counts whenever the process is killed; the key is kept
// sealed and shown again by every start until somebody has enrolled with it, so that none
// is lost that nobody has seen (docs/decisions/0217).
func (c *Control) makeFirst(ctx context.Context, change store.Change) error {
	if c.key == "" {
		c.key = string(enrol.NewSecret())
		if _, err := c.store.CreateKey(ctx, change, store.KeyParams{Name: "first key", Automatic: true, Secret: enrol.Secret(c.key).Hash(), Shown: c.key}); err != nil {
			return err
		}
	}
	token := admin.NewToken()
	c.first = &First{Token: string(token), Fingerprint: c.print, EnrolmentKey: c.key}
	if c.cfg.KeepFirst != nil {
		if err := c.cfg.KeepFirst(c.first); err != nil {
			return err
		}
	}
	_, err := c.store.CreateToken(ctx, change, store.TokenParams{Name: "first administrator", Scopes: []string{string(admin.All)}, Secret: token.Hash()})
	return err
}

// NewAdministrator makes a token for everything, for a state that was restored without
// one. keep is given it before it is in force.
func NewAdministrator(ctx context.Context, dir string, ids []seal.Identity, now time.Time, keep func(token string) error) (err error) {
	st, err := store.Open(ctx, dir, store.WithIdentities(ids...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	token := admin.NewToken()
	if err := keep(string(token)); err != nil {
		return err
	}
	_, err = st.CreateToken(ctx, store.Change{By: operator, At: now}, store.TokenParams{Name: "administrator after a restore", Scopes: []string{string(admin.All)}, Secret: token.Hash()})
	return err
}

// First is what this start made, until Run; nil unless it was the first.
func (c *Control) First() *First { return c.first }

// EnrolmentKey is the first key, until Run, if nobody has enrolled with it yet.
func (c *Control) EnrolmentKey() string { return c.key }

// Fingerprint is that of the organisation's root.
func (c *Control) Fingerprint() string { return c.print }

// Sealed tells how the state is sealed.
func (c *Control) Sealed() store.Sealed { return c.store.Sealed() }

// RelayKey makes a key by which one relay enrols: `up` runs its own relay with it.
func (c *Control) RelayKey(ctx context.Context) (string, error) {
	secret, one := enrol.NewSecret(), 1
	_, err := c.store.CreateKey(ctx, store.Change{By: by, At: c.store.Now()}, store.KeyParams{
		Name: "relay of this machine", Kind: store.RelayKey, Uses: &one, Secret: secret.Hash()})
	return string(secret), err
}

// Run serves until ctx ends, then closes the store.
func (c *Control) Run(ctx context.Context) error {
	front := control.NewFront(c.server, c.reopen)
	c.server, c.first, c.key = nil, nil, "" // a state that is locked must leave nothing behind
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return front.Run(ctx, c.cfg.Listener) })
	g.Go(func() error { return c.plan.run(ctx) })
	return g.Wait()
}

// Close gives the store back without having run.
func (c *Control) Close() error { return c.store.Close() }

// UpConfig says how control and relay run together.
type UpConfig struct {
	Control ControlConfig
	Relay   RelayConfig // Listener, Control, Fingerprint and Key are filled in here
}

// Up is a control plane and a relay on one port.
type Up struct {
	*Control
	relay *Relay
	cfg   RelayConfig
}

// OpenUp opens both.
func OpenUp(ctx context.Context, cfg UpConfig) (*Up, error) {
	u := &Up{cfg: cfg.Relay}
	u.cfg.Control = cfg.Control.URL
	share := &SharedRelay{ALPN: ALPN,
		TLS:   func() *tls.Config { return u.relay.TLS() },
		Serve: func(c *tls.Conn) { u.relay.ServeConn(c) },
	}
	cfg.Control.Share = share
	if k, ok := cfg.Relay.Keeper.(*Keeper); ok {
		k.Identities = nil
		cfg.Control.Opened = func(st *store.Store) { k.Use(st.File(k.File)) }
	}
	c, err := OpenControl(ctx, cfg.Control)
	if err != nil {
		return nil, err
	}
	u.Control = c
	u.cfg.Fingerprint = c.Fingerprint()
	u.cfg.Key, u.cfg.OwnKey = func() (string, error) { return c.RelayKey(ctx) }, true
	if u.relay, err = OpenRelay(u.cfg); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return u, nil
}

// Run serves both until ctx ends.
func (u *Up) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.Control.Run(ctx) })
	g.Go(func() error { return u.relay.Run(ctx) })
	return g.Wait()
}
