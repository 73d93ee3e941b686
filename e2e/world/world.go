// Package world builds a whole enclave on the simulated internet: control, relays
// and agents, each the real thing, on hosts behind NATs.
//
// The demo and the end-to-end tests stand on it. Parts can be stopped and started
// like processes: control comes back from its store on disk, an agent from its kept
// state. Nothing here decides anything; what a scenario asks is in its own words.
package world

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/e2e/natlab"
)

// Config says how the world is made.
type Config struct {
	Lab    *natlab.Lab // running
	Dir    string      // of control's state
	Logger *slog.Logger
	API    string        // also serves the API here in plain HTTP, on loopback; may be empty
	Beat   time.Duration // heartbeat; 0 is wire.HeartbeatEvery
}

// World is an enclave under way.
type World struct {
	cfg   Config
	Lab   *natlab.Lab
	First node.First // what the first start of control made
	API   *client.Client

	control     *Process
	controlHost *natlab.Host
	relay       *Relay // the first
	admin       *natlab.Host

	mu     sync.Mutex // guards agents and relays
	agents []*Agent
	relays []*Relay
}

// Process is a part that runs until it is stopped.
type Process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

func start(ctx context.Context, run func(context.Context) error) *Process {
	ctx, cancel := context.WithCancel(ctx)
	p := &Process{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = run(ctx)
	}()
	return p
}

// Stop ends the process and returns what it ended with.
func (p *Process) Stop() error {
	p.cancel()
	<-p.done
	return p.err
}

// The names and ports of the infrastructure on the simulated internet.
const (
	controlURL = "https://control.lab:443"
	relayPort  = 443
)

// New makes the infrastructure and starts it: control, a relay with two addresses on
// its own host, and an administrator's machine.
func New(ctx context.Context, cfg Config) (*World, error) {
	w := &World{cfg: cfg, Lab: cfg.Lab}
	near := natlab.Over(natlab.LinkConfig{Latency: 2 * time.Millisecond})
	w.controlHost = w.Lab.Host("control", w.Lab.Internet(), near)
	w.admin = w.Lab.Host("admin", w.Lab.Internet(), near)
	if err := w.StartControl(ctx); err != nil {
		return nil, err
	}
	relay, err := w.AddRelay(ctx, "relay", near)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.relay = relay
	return w, nil
}

// StartControl starts control from what is on disk.
func (w *World) StartControl(ctx context.Context) error {
	l, err := w.controlHost.ListenTCP(443)
	if err != nil {
		return err
	}
	var api net.Listener
	if w.cfg.API != "" {
		if api, err = net.Listen("tcp", w.cfg.API); err != nil {
			return errors.Join(err, l.Close())
		}
		w.cfg.API = api.Addr().String() // the same port when control comes back
	}
	c, err := node.OpenControl(ctx, node.ControlConfig{
		Dir: filepath.Join(w.cfg.Dir, "control"), URL: controlURL, Listener: l, API: api,
		Logger: w.cfg.Logger.With("host", "control"), Heartbeat: w.cfg.Beat,
	})
	if err != nil {
		if api != nil {
			err = errors.Join(err, api.Close())
		}
		return errors.Join(err, l.Close())
	}
	if first := c.First(); first != nil {
		w.First = *first
		w.API, err = client.New(client.Config{URL: controlURL, Token: first.Token, Fingerprint: first.Fingerprint, Dial: w.admin.DialContext})
		if err != nil {
			return err
		}
	}
	w.control = start(context.WithoutCancel(ctx), c.Run)
	return nil
}

// APIAddr is where the API answers in plain HTTP, if Config asked for that.
func (w *World) APIAddr() string { return w.cfg.API }

// StopControl stops control and closes its store.
func (w *World) StopControl() error { return w.control.Stop() }

// StartRelay starts the first relay again.
func (w *World) StartRelay(ctx context.Context) error { return w.relay.Start(ctx) }

// StopRelay stops the first relay.
func (w *World) StopRelay() error { return w.relay.Stop() }

// KillRelay ends the relay as a power cut does: nothing leaves its host any more.
// StartRelay, once the process has ended too, is a new one on the same host.
func (w *World) KillRelay() error {
	w.relay.Host.Disconnect()
	defer w.relay.Host.Reconnect()
	return w.StopRelay()
}

// PartitionControl cuts control off from the relay and every system, whatever NATs are
// between them; not from the administrator.
func (w *World) PartitionControl() { w.fromControl(w.Lab.Partition) }

// HealControl ends PartitionControl.
func (w *World) HealControl() { w.fromControl(w.Lab.Heal) }

func (w *World) fromControl(do func(a, b *natlab.Host)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.relays {
		do(w.controlHost, r.Host)
	}
	for _, a := range w.agents {
		do(w.controlHost, a.Host)
	}
}

// Close stops everything and returns the first thing that had gone wrong.
func (w *World) Close() error {
	w.mu.Lock()
	agents, relays := w.agents, w.relays
	w.mu.Unlock()
	var errs []error
	for _, a := range agents {
		errs = append(errs, a.Stop())
	}
	for _, r := range relays {
		errs = append(errs, r.Stop())
	}
	if w.control != nil {
		errs = append(errs, w.control.Stop())
	}
	if w.API != nil {
		w.API.Close()
	}
	return errors.Join(errs...)
}

// Agent is an agent on its host.
type Agent struct {
	*agent.Agent
	Name string
	Host *natlab.Host

	world   *World
	key     string
	state   agent.MemoryKeeper
	process *Process

	ListenTCP string // of the next Start; empty takes no streams
}

// Agent puts a system on network and starts it; key is the secret of an enrolment
// key.
func (w *World) Agent(ctx context.Context, name string, network *natlab.Network, key string, options ...natlab.HostOption) (*Agent, error) {
	a := &Agent{Name: name, Host: w.Lab.Host(name, network, options...), world: w, key: key}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.agents = append(w.agents, a)
	w.mu.Unlock()
	return a, nil
}

// Start runs the agent from its kept state.
func (a *Agent) Start(ctx context.Context) error {
	ag, err := agent.New(agent.Config{
		Name: a.Name, Control: controlURL, Fingerprint: a.world.First.Fingerprint,
		Key: func() (string, error) { return a.key, nil }, Keeper: &a.state, Network: Ground{a.world.Lab, a.Host},
		ListenTCP: a.ListenTCP,
		Version:   "world", Hostname: a.Name, Beat: a.world.cfg.Beat, Logger: a.world.cfg.Logger.With("host", a.Name),
	})
	if err != nil {
		return err
	}
	a.Agent = ag
	a.process = start(context.WithoutCancel(ctx), ag.Run)
	return nil
}

// Runs gives sandbox runs systems of their own, on a host of the simulated internet.
func (w *World) Runs(host *natlab.Host, key string) *node.Runs {
	return &node.Runs{Control: controlURL, Fingerprint: w.First.Fingerprint, Key: func() (string, error) { return key, nil },
		Network: Ground{w.Lab, host}, Beat: w.cfg.Beat, Version: "world", Logger: w.cfg.Logger.With("host", "sandbox")}
}

// Stop ends the agent; its state stays for the next Start.
func (a *Agent) Stop() error { return a.process.Stop() }

// Ground is a host of the lab as an agent stands on it.
type Ground struct {
	Lab  *natlab.Lab
	Host *natlab.Host
}

// ListenUDP opens a socket on all addresses of the host.
func (g Ground) ListenUDP(port uint16) (link.PacketConn, error) { return g.Host.ListenUDP(port) }

// Echo pings an address of the lab.
func (g Ground) Echo(ctx context.Context, to netip.Addr, _ uint16, _ []byte) error {
	_, err := g.Host.Ping(ctx, to)
	return err
}

// ListenTCP takes TCP connections at a port of the host.
func (g Ground) ListenTCP(addr string) (net.Listener, error) {
	_, s, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return nil, err
	}
	return g.Host.ListenTCP(uint16(port))
}

// DialContext opens a TCP connection.
func (g Ground) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return g.Host.DialContext(ctx, network, addr)
}

// LookupHost resolves a name of the lab.
func (g Ground) LookupHost(_ context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return g.Lab.Resolve(host)
}

// Lookup is LookupHost with how long its answer holds.
func (g Ground) Lookup(_ context.Context, name string) ([]netip.Addr, time.Duration, error) {
	g.Host.Awake()
	addrs, err := g.Lab.Resolve(name)
	if errors.Is(err, natlab.ErrUnknownName) {
		return nil, 0, nil
	}
	return addrs, time.Minute, err
}

// Addrs returns the addresses of the host, once it is awake.
func (g Ground) Addrs() ([]netip.Addr, error) {
	g.Host.Awake()
	return g.Host.Addrs(), nil
}

var _ link.Network = Ground{}

// Seed returns a seed for a lab that nobody asked to replay.
func Seed() uint64 {
	var b [4]byte
	rand.Read(b[:])
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}
