// Package demo is the walk that an evaluator takes first: a whole enclave in one
// process on a simulated internet, and a scenario that opens and cuts real WireGuard
// traffic and prints what it measured.
//
// Nothing is staged. Control keeps its state in SQLite on disk, agents enrol over
// TLS, packets are encrypted and cross NATs, and every number is of this run. A check
// that fails is printed as such and makes the run fail.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/e2e/natlab"
	"enclave/e2e/world"
	"enclave/wire"
	"enclave/wire/api"
)

// Config says how the demo runs.
type Config struct {
	Out     io.Writer
	Colour  bool
	Seed    uint64 // of the simulated internet
	Changes int    // how many policy changes the latency figures are taken from
	Dir     string // control's state
	API     string // also serves the API here, on loopback; may be empty
	Logger  *slog.Logger
	// Keep is called with what is needed to use the API while the demo is kept
	// running; nil ends the demo after its checks.
	Keep func(ctx context.Context, api, token string) error
}

// ErrFailed is returned when a check failed.
var ErrFailed = errors.New("a check failed")

// demo is a run under way.
type demo struct {
	*world.World
	*report
	cfg Config

	// The cast: two developers, one behind an easy NAT and one behind a symmetric
	// one; a contractor behind a carrier's; two pods, a database, a build server.
	ana, ben, cleo, pod1, pod2, db, build *world.Agent
	everyone                              []*world.Agent
	sink                                  sink
	hotel                                 *natlab.Network // where ben is at first
	sandbox                               *natlab.Host    // where scripts run
}

// Run walks the scenario.
func Run(ctx context.Context, cfg Config) error {
	d, ctx, end, err := begin(ctx, cfg)
	if err != nil {
		return err
	}
	defer end()
	for _, step := range []func(context.Context){
		d.strangers, d.opens, d.refuses, d.scripts, d.cuts, d.latency, d.withoutControl,
	} {
		if step(ctx); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	d.close()
	if cfg.Keep != nil {
		if err := cfg.Keep(ctx, d.APIAddr(), d.First.Token); err != nil {
			return err
		}
	}
	if d.failed > 0 {
		return ErrFailed
	}
	return nil
}

// begin makes the internet, the enclave on it and its cast. end stops it all; the context
// ends before, or with the first service that fails.
func begin(parent context.Context, cfg Config) (d *demo, ctx context.Context, end func(), err error) {
	lab := natlab.New(natlab.Config{Seed: cfg.Seed}).Start()
	d = &demo{cfg: cfg, report: &report{w: cfg.Out, colour: cfg.Colour, began: time.Now()}}
	fmt.Fprintf(cfg.Out, "An enclave on a simulated internet, seed %d.\n", cfg.Seed)
	w, err := world.New(parent, world.Config{Lab: lab, Dir: cfg.Dir, Logger: cfg.Logger, API: cfg.API, Beat: time.Second})
	if err != nil {
		lab.Close()
		return nil, nil, nil, err
	}
	d.World = w
	services, ctx := errgroup.WithContext(parent)
	ctx, cancel := context.WithCancel(ctx)
	end = func() {
		cancel()
		_ = services.Wait()
		_ = w.Close()
		_ = lab.Close()
	}
	d.stopped = func() bool { return ctx.Err() != nil }
	if err := d.populate(ctx, services); err != nil {
		end()
		return nil, nil, nil, err
	}
	return d, ctx, end, nil
}

// populate makes the systems and starts what they serve.
func (d *demo) populate(ctx context.Context, services *errgroup.Group) error {
	lab := d.Lab
	home := natlab.Over(natlab.LinkConfig{Latency: 5 * time.Millisecond})
	d.sandbox = lab.Host("sandbox", lab.Internet())
	d.hotel = lab.Router("hotel-ben", lab.Internet(), natlab.Hard()).LAN()
	cluster := lab.Router("cluster", lab.Internet(), natlab.Easy()).LAN()
	for _, s := range []struct {
		agent   **world.Agent
		name    string
		network *natlab.Network
		nat     string
		tags    []wire.Tag
	}{
		{&d.ana, "laptop-ana", lab.Router("home-ana", lab.Internet(), natlab.Easy()).LAN(), "endpoint-independent NAT", []wire.Tag{"developers"}},
		{&d.ben, "laptop-ben", d.hotel, "symmetric NAT", []wire.Tag{"developers"}},
		{&d.cleo, "contractor", lab.Router("home-cleo", lab.Router("carrier", lab.Internet(), natlab.CGNAT()).LAN(), natlab.Easy()).LAN(), "home NAT behind a carrier's", []wire.Tag{"contractors"}},
		{&d.pod1, "pod-1", cluster, "port-restricted NAT", []wire.Tag{"pods"}},
		{&d.pod2, "pod-2", cluster, "port-restricted NAT", []wire.Tag{"pods"}},
		{&d.db, "db", lab.Router("datacentre", lab.Internet(), natlab.Firewall()).LAN(), "stateful firewall", []wire.Tag{"databases"}},
		{&d.build, "build", lab.Internet(), "public address", []wire.Tag{"builders"}},
	} {
		key, err := d.API.CreateKey(ctx, api.KeyCreate{Name: s.name, Approval: "automatic", Tags: s.tags})
		if err != nil {
			return fmt.Errorf("key for %s: %w", s.name, err)
		}
		if *s.agent, err = d.Agent(ctx, s.name, s.network, key.Secret, home); err != nil {
			return err
		}
		d.everyone = append(d.everyone, *s.agent)
		d.note("%-11s %-28s tags %s", s.name, s.nat, s.tags)
	}
	for _, s := range []struct {
		a     *world.Agent
		serve func(a *world.Agent) error
	}{
		{d.pod1, func(a *world.Agent) error { return serveHTTP(ctx, a.Agent, a.Name, 80) }},
		{d.pod1, func(a *world.Agent) error { return serveHTTP(ctx, a.Agent, a.Name, 81) }},
		{d.pod1, func(a *world.Agent) error { return d.sink.serve(ctx, a.Agent, 9) }},
		{d.pod2, func(a *world.Agent) error { return serveHTTP(ctx, a.Agent, a.Name, 80) }},
		{d.build, func(a *world.Agent) error { return serveHTTP(ctx, a.Agent, a.Name, 80) }},
		{d.db, func(a *world.Agent) error { return serveLines(ctx, a.Agent, 5432) }},
		{d.db, func(a *world.Agent) error { return serveUsers(ctx, a.Agent, 8080) }},
	} {
		services.Go(func() error { return s.serve(s.a) })
	}
	return nil
}

// StateDir makes a directory for a demo that nobody gave one.
func StateDir() (string, error) { return os.MkdirTemp("", "enclave-demo-") }
