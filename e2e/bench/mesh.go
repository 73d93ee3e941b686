package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
)

// grantCounts are how many grants a pair has, in turn, and otherFlows how many live flows
// there are beside the measured one where there are grants.
var grantCounts = [...]int{0, 1_000, 10_000}

const otherFlows = 1_000

func grantsName(n int) string { return fmt.Sprintf("%d grants", n) }

const (
	echoes    = 2000
	floodRate = 100_000
)

// Mesh measures pairs of nodes of this machine over loopback beside the cipher's limit,
// plain loopback TCP and wireguard-go as it comes, in one process and in two. All kinds
// take turns within each round, so that a slow minute of the machine hits them alike.
func Mesh(ctx context.Context, cfg Config) (Result, error) {
	m := &mesh{cfg: cfg, rounds: make(map[string][]float64)}
	res := Result{Bench: "mesh", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	dir, err := os.MkdirTemp("", "enclave-bench-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	defer m.close()
	if err := m.open(ctx, dir); err != nil {
		return res, err
	}
	for i := range cfg.Rounds {
		cfg.progress("mesh", i)
		for _, step := range m.steps(i) {
			if err := step(ctx); err != nil {
				return res, err
			}
			if err := ctx.Err(); err != nil {
				return res, err
			}
		}
	}
	if cfg.Flood > 0 {
		if err := m.take(ctx, m.last(), &job{Do: doFlood, Rate: floodRate, Each: cfg.Flood}, "flood sent", "flood lost", "flood rate"); err != nil {
			return res, err
		}
	}
	res.Figures = m.figures()
	return res, nil
}

// mesh is a run: the pairs by name and what was measured.
type mesh struct {
	cfg    Config
	plain  net.Listener
	pairs  map[string]*pair
	stops  []func()
	rounds map[string][]float64
}

func (m *mesh) open(ctx context.Context, dir string) (err error) {
	if m.plain, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	go serve(m.plain)
	m.pairs = map[string]*pair{"loopback": {a: &local{func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", m.plain.Addr().String())
	}}, b: new(here)}}
	for _, n := range grantCounts {
		flows := otherFlows
		if n == 0 {
			flows = 0
		}
		p, stop, err := barePair(ctx, n, flows)
		if err != nil {
			return fmt.Errorf("%d grants: %w", n, err)
		}
		m.stops = append(m.stops, stop)
		m.pairs[grantsName(n)] = p
	}
	for _, kind := range []string{"ours", "stock"} {
		if err := m.meet(ctx, filepath.Join(dir, kind), kind, kind == "stock", new(here), new(here)); err != nil {
			return err
		}
		if m.cfg.Child == nil {
			continue
		}
		a, err := spawn(ctx, m.cfg.Child)
		if err != nil {
			return err
		}
		b, err := spawn(ctx, m.cfg.Child)
		if err != nil {
			return err
		}
		if err := m.meet(ctx, filepath.Join(dir, kind+" two"), kind+" two", kind == "stock", a, b); err != nil {
			return err
		}
	}
	return nil
}

func (m *mesh) meet(ctx context.Context, dir, name string, stock bool, a, b host) error {
	p, stop, err := meet(ctx, dir, stock, a, b)
	m.stops = append(m.stops, stop)
	m.pairs[name] = p
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (m *mesh) close() {
	for _, stop := range m.stops {
		stop()
	}
	if m.plain != nil {
		m.plain.Close()
	}
}

// last is the pair of agents that is closest to how they are run.
func (m *mesh) last() string {
	if m.cfg.Child != nil {
		return "ours two"
	}
	return "ours"
}

// take does a job at a pair and notes its figures under the names.
func (m *mesh) take(ctx context.Context, pair string, j *job, names ...string) error {
	vs, err := m.pairs[pair].measure(ctx, j)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", pair, j.Do, err)
	}
	for i, name := range names {
		m.add(name, vs[i])
	}
	return nil
}

func (m *mesh) add(name string, v float64) { m.rounds[name] = append(m.rounds[name], v) }

// streamCounts are how many streams are compared. They are measured one after the other, in
// another order in each round.
var streamCounts = [...]int{1, 4, 16}

// streamsName is the figure of so many streams; with byTime that by processor time.
func streamsName(pair string, n int, byTime bool) string {
	if byTime {
		return fmt.Sprintf("%s %d by time", pair, n)
	}
	return fmt.Sprintf("%s %d", pair, n)
}

// steps are the measurements of a round.
func (m *mesh) steps(round int) (steps []func(context.Context) error) {
	each := m.cfg.Each
	step := func(f func(ctx context.Context) error) { steps = append(steps, f) }
	at := func(pair string, j job, names ...string) {
		if m.pairs[pair] != nil {
			step(func(ctx context.Context) error { return m.take(ctx, pair, &j, names...) })
		}
	}
	pour := func(pair string, streams int, names ...string) {
		at(pair, job{Do: doGoodput, Streams: streams, Each: each}, names...)
	}
	step(func(context.Context) error {
		v, err := ciphers(runtime.NumCPU(), each)
		m.add("cipher", v)
		return err
	})
	many := func(pair string) {
		for i := range streamCounts {
			n := streamCounts[(i+round)%len(streamCounts)]
			names := []string{streamsName(pair, n, false), streamsName(pair, n, true)}
			if n == 1 {
				names = append(names, pair+" allocs")
			}
			pour(pair, n, names...)
		}
	}
	many("loopback")
	many("ours")
	pour("stock", 1, "stock 1")
	pour("ours two", 1, "ours two 1")
	pour("stock two", 1, "stock two 1")
	for _, n := range grantCounts {
		pour(grantsName(n), 1, grantsName(n))
	}
	for _, do := range []string{doTCPEcho, doUDPEcho} {
		for _, pair := range []string{"ours", "stock", "ours two", "stock two"} {
			at(pair, job{Do: do, N: echoes}, pair+" "+do+" p50", pair+" "+do+" p99")
		}
	}
	if p := m.pairs["ours two"]; p != nil {
		step(func(ctx context.Context) error {
			var most float64
			for _, h := range []host{p.a, p.b} {
				a, err := h.do(ctx, &job{Do: doMemory})
				if err != nil {
					return err
				}
				most += a.Values[1]
			}
			m.add("memory", most)
			return nil
		})
	}
	return steps
}
