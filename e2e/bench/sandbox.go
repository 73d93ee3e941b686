package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"

	"enclave/sandbox"
	"enclave/sandbox/engine"
	"enclave/sandbox/pool"
)

const (
	trivialScript = `return 1 + 1`
	toolsScript   = `let n = 0; for (let i = 0; i < 10; i++) n += (await callTool('echo', {i})).i; return n`
	loopScript    = `let s = 0; for (let i = 0; i < 1e6; i++) { s += i } return s`
	objectsScript = `const a = []; for (let i = 0; i < 1000; i++) a.push({id: i, name: 'user ' + i, email: 'u' + i + '@example.org', active: i % 2 === 0, score: i * 1.5, tags: ['a', 'b']});`
	jsonScript    = objectsScript + ` let n = 0; for (let i = 0; i < 20; i++) n += JSON.parse(JSON.stringify(a)).length; return n`
	noJSONScript  = objectsScript + ` let n = 0; for (let i = 0; i < 20; i++) n += a.length; return n`
	endlessScript = `let i = 0; while (i >= 0) { i = (i + 1) % 1000 } return i`
	unlimited     = 1 << 50
)

// answering is a broker whose one tool returns its arguments at once.
type answering struct{}

func (answering) Output(sandbox.Line) {}
func (answering) CallTool(_ context.Context, c sandbox.Call) (json.RawMessage, *sandbox.Error) {
	return c.Args, nil
}

// scripts measures one pool; the first error ends it.
type scripts struct {
	pool   *pool.Pool
	failed atomic.Pointer[sandbox.Error]
}

func (s *scripts) run(ctx context.Context, spec sandbox.Spec) time.Duration {
	spec.Gate = sandbox.GateOff
	res := s.pool.Run(ctx, spec, answering{})
	if !res.OK && ctx.Err() == nil {
		s.failed.CompareAndSwap(nil, res.Error)
	}
	return res.Stats.Duration
}

// sustained is runs a second by as many callers as keep all cores busy.
func (s *scripts) sustained(ctx context.Context, each time.Duration, spec sandbox.Spec) float64 {
	var n atomic.Int64
	var callers sync.WaitGroup
	begun := time.Now()
	for i := range 2 * runtime.NumCPU() {
		callers.Go(func() {
			mine := spec
			if mine.Tenant != "" {
				mine.Tenant = fmt.Sprint(mine.Tenant, i)
			}
			for time.Since(begun) < each && ctx.Err() == nil && s.failed.Load() == nil {
				s.run(ctx, mine)
				n.Add(1)
			}
		})
	}
	callers.Wait()
	return float64(n.Load()) / time.Since(begun).Seconds()
}

// fewest is how many runs a p99 of one round needs at least to be more than its worst.
const fewest = 150

// spaced is the durations of runs that come one by one, with time between them for the
// pool to make new workers.
func (s *scripts) spaced(ctx context.Context, each, gap time.Duration, spec sandbox.Spec) []float64 {
	var all []float64
	for begun := time.Now(); time.Since(begun) < each || len(all) < fewest; {
		all = append(all, float64(s.run(ctx, spec))/1e6)
		select {
		case <-ctx.Done():
			return all
		case <-time.After(gap):
		}
	}
	slices.Sort(all)
	return all
}

func percentile(sorted []float64, p int) float64 {
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// inside is the seconds of one script in the engine, in this process, without a worker.
func inside(ctx context.Context, src string) (float64, error) {
	e, err := engine.New()
	if err == nil {
		err = e.Prepare()
	}
	if err != nil {
		return 0, err
	}
	spec, _ := sandbox.Spec{Source: src, Level: sandbox.Permissive, Limits: sandbox.Limits{Iterations: unlimited}, Gate: sandbox.GateOff}.Resolved()
	begun := time.Now()
	if res := e.Run(ctx, spec, nil, nil); !res.OK {
		return 0, res.Error
	}
	return time.Since(begun).Seconds(), nil
}

// alone is the same script in the interpreter as it comes.
func alone(src string) (float64, error) {
	begun := time.Now()
	_, err := goja.New().RunString("(async () => {" + src + "\n})()")
	return time.Since(begun).Seconds(), err
}

// inTurns is the least of five times of a script in the engine and in the interpreter as
// it comes, less that of what is not to be measured in it. Each begins with a clean heap.
func inTurns(ctx context.Context, src, without string) (ours, plain float64, err error) {
	least := func(src string) (ours, plain float64, err error) {
		for i := range 5 {
			runtime.GC()
			a, err := inside(ctx, src)
			if err != nil {
				return 0, 0, err
			}
			runtime.GC()
			b, err := alone(src)
			if err != nil {
				return 0, 0, err
			}
			if i == 0 {
				ours, plain = a, b
			}
			ours, plain = min(ours, a), min(plain, b)
		}
		return ours, plain, nil
	}
	ours, plain, err = least(src)
	if err != nil || without == "" {
		return ours, plain, err
	}
	a, b, err := least(without)
	return max(ours-a, 1e-9), max(plain-b, 1e-9), err
}

// Sandbox measures runs of scripts behind all walls that this machine gives, and the
// engine beside the interpreter as it comes.
func Sandbox(ctx context.Context, cfg Config) (Result, error) {
	res := Result{Bench: "sandbox", Rounds: cfg.Rounds, Each: cfg.Each, CPUs: runtime.NumCPU()}
	rounds := make(map[string][]float64)
	add := func(name string, v float64) { rounds[name] = append(rounds[name], v) }
	for i := range cfg.Rounds {
		cfg.progress("sandbox", i)
		if err := sandboxRound(ctx, cfg, add); err != nil {
			return res, err
		}
	}
	fig := func(name, unit, key string) Figure {
		f := figure(name, unit, rounds[key])
		res.Figures = append(res.Figures, f)
		return f
	}
	of := func(name, unit, key string, g Figure) {
		res.Figures = append(res.Figures, figure(name, unit, rounds[key]).of(g))
	}
	fig("cold start to the first result", "ms", "cold")
	fig("a worker made, walls up", "ms", "start")
	fig("a worker's memory, resident", "MB", "memory")
	idle := fig("trivial run, warm, a process a run, p50", "ms", "p50")
	idle99 := fig("trivial run, warm, a process a run, p99", "ms", "p99")
	of("the same, four hostile runs a core beside it, p50", "ms", "hostile p50", idle)
	of("the same, four hostile runs a core beside it, p99", "ms", "hostile p99", idle99)
	fig("sustained, a process a run", "runs/s", "strict")
	fig("sustained, process reused", "runs/s", "reuse")
	fig("sustained, process reused, ten tool calls", "runs/s", "tools")
	fig("deadline of 200 ms overshot by", "ms", "overshoot")
	plain := fig("loop of 1,000,000, interpreter as it comes", "s", "plain loop")
	of("loop of 1,000,000, counted", "s", "loop", plain)
	plain = fig("JSON of 1,000 objects there and back, interpreter as it comes", "s", "plain json")
	of("JSON of 1,000 objects there and back, own codec", "s", "json", plain)
	return res, nil
}

func sandboxRound(ctx context.Context, cfg Config, add func(string, float64)) error {
	begun := time.Now()
	p, err := pool.New(pool.Config{})
	if err != nil {
		return err
	}
	defer p.Close()
	s := &scripts{pool: p}
	strict := sandbox.Spec{Source: trivialScript, Level: sandbox.Strict, Tenant: "honest"}
	s.run(ctx, strict)
	add("cold", float64(time.Since(begun))/1e6)
	probe, err := pool.Probe()
	if err != nil {
		return err
	}
	add("start", float64(probe.Start)/1e6)
	add("memory", float64(probe.Memory)/1e6)

	const gap = 15 * time.Millisecond
	quiet := s.spaced(ctx, cfg.Each, gap, strict)
	add("p50", percentile(quiet, 50))
	add("p99", percentile(quiet, 99))
	add("strict", s.sustained(ctx, cfg.Each, strict))
	reuse := sandbox.Spec{Source: trivialScript, Level: sandbox.Standard, Tenant: "honest"}
	add("reuse", s.sustained(ctx, cfg.Each, reuse))
	reuse.Source, reuse.Tools = toolsScript, []sandbox.Tool{{Name: "echo"}}
	add("tools", s.sustained(ctx, cfg.Each, reuse))
	if e := s.failed.Load(); e != nil {
		return fmt.Errorf("measure the sandbox: %w", e)
	}

	hostile := sandbox.Spec{Source: endlessScript, Level: sandbox.Strict, Tenant: "hostile", Gate: sandbox.GateOff,
		Limits: sandbox.Limits{Timeout: 200 * time.Millisecond, Iterations: unlimited}}
	over := p.Run(ctx, hostile, answering{})
	add("overshoot", float64(over.Stats.Duration-hostile.Limits.Timeout)/1e6)
	hostile.Limits.Timeout = 0
	crowd, leave := context.WithCancel(ctx)
	var others sync.WaitGroup
	for range 4 * runtime.NumCPU() {
		others.Go(func() {
			for crowd.Err() == nil {
				p.Run(crowd, hostile, answering{})
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-time.After(300 * time.Millisecond): // until all of them run and give way
	}
	busy := s.spaced(ctx, cfg.Each, gap, strict)
	leave()
	others.Wait()
	add("hostile p50", percentile(busy, 50))
	add("hostile p99", percentile(busy, 99))
	if e := s.failed.Load(); e != nil {
		return fmt.Errorf("measure the sandbox: %w", e)
	}

	p.Close() // what follows needs no workers, and is not to share the cores with any
	for _, m := range []struct {
		key, src, without string
	}{{"loop", loopScript, ""}, {"json", jsonScript, noJSONScript}} {
		ours, plain, err := inTurns(ctx, m.src, m.without)
		if err != nil {
			return err
		}
		add(m.key, ours)
		add("plain "+m.key, plain)
	}
	return ctx.Err()
}
