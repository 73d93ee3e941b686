// Package pool gives every run a worker process and holds it to its limits.
//
// A worker is this same program, started again behind the walls of package jail; it
// admits and runs the script (package engine) and speaks in frames over two pipes
// (docs/format/sandbox-frame.md). Workers are made ahead of time. At STRICT and SECURE
// a worker runs one script and ends; at the other levels it may serve its own tenant
// again, in a fresh realm. What a run asks of its host goes to the caller's Broker.
//
// The parent believes nothing a worker says: it counts calls and output itself, takes
// bounded JSON and known codes only, and kills on the deadline plus a grace. It never
// parses a script. Fairness between tenants is in queue.go; a run that computes for
// long gives way to those that do not.
package pool

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/jail"
)

// Config says how many workers there are.
type Config struct {
	// Size is how many runs there may be at once; default 16 a core. A run that only
	// waits for a tool costs memory and nothing else.
	Size int
	// Share is how many of them one tenant may hold; default half of Size.
	Share int
	// Queue is how many runs may wait for a place; default 1000.
	Queue int
	// Warm is how many workers are kept ready; default 2 a core.
	Warm int
	// Idle is how long a worker that may serve its tenant again waits for that; default
	// 30 s. Runs is how many scripts it runs at most; default 1000.
	Idle time.Duration
	Runs int
	// Memory is how much all workers may hold together, where the machine has a memory
	// cgroup for that; default what Size of them may, and at most three quarters of the
	// machine's.
	Memory int64
	// AllowWeak runs STRICT and SECURE where the walls are not enough (jail.Enough).
	AllowWeak bool
	Log       *slog.Logger
}

// totalMemory is the limit of all workers together.
func totalMemory(c Config) int64 {
	if c.Memory > 0 {
		return c.Memory
	}
	total := int64(c.Size) * (sandbox.LimitsOf(sandbox.Standard).MemoryBytes + allowance)
	if have := jail.MachineMemory(); have > 0 {
		total = min(total, have/4*3)
	}
	return total
}

func (c Config) withDefaults() Config {
	cores := runtime.NumCPU()
	over := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	over(&c.Size, 16*cores)
	over(&c.Share, max(1, c.Size/2))
	over(&c.Queue, 1000)
	over(&c.Warm, 2*cores)
	over(&c.Runs, 1000)
	if c.Idle <= 0 {
		c.Idle = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Pool implements sandbox.Runner.
type Pool struct {
	cfg     Config
	program string // that runs now: workers are started from it
	closing chan struct{}
	close   func()
	wanted  chan struct{} // a token for each worker that is to be made
	group   *jail.Group   // of all workers; nil where the machine gives none
	nurse   nursery
	fresh   chan *process // workers that have run nothing
	plenty  chan struct{} // a token where more than half of them are there: spare
	debtors chan struct{} // full while one of those that want a spare one is about to take it
	work    sync.WaitGroup

	// mu guards what follows. It is never held across a send, a start or a wait.
	mu     sync.Mutex
	queue  queue
	idle   []*process // workers that wait for their tenant, oldest first
	bare   bool       // this machine gives no namespaces
	failed error      // why the last start failed, if it did
	// yielded counts the runs of a tenant that have given way and not ended.
	yielded map[string]int
	debts   map[string]time.Time // until when tenants wait for spare workers: debtor
}

// New starts the pool. It must be closed.
func New(cfg Config) (*Pool, error) {
	cfg = cfg.withDefaults()
	program, err := jail.Executable()
	if err != nil {
		return nil, errors.New("start pool: this program cannot find itself")
	}
	jail.Hurry()
	p := &Pool{cfg: cfg, program: program, closing: make(chan struct{}), wanted: make(chan struct{}, cfg.Warm), fresh: make(chan *process, cfg.Warm), yielded: map[string]int{},
		plenty: make(chan struct{}, 1), debtors: make(chan struct{}, 1), debts: map[string]time.Time{}}
	p.close = sync.OnceFunc(func() { close(p.closing) })
	p.queue = queue{size: cfg.Size, share: cfg.Share, held: map[string]int{}}
	if p.group, err = jail.NewGroup(totalMemory(cfg)); err != nil {
		p.group = nil
		cfg.Log.Debug("sandbox workers are bounded one by one only", "error", err)
	}
	for range cfg.Warm {
		p.wanted <- struct{}{}
	}
	var filling sync.WaitGroup
	for range min(cfg.Warm, max(2, runtime.NumCPU())) {
		filling.Add(1)
		p.work.Go(func() {
			jail.OnThread(func() {
				p.refill()
				filling.Done()
				filling.Wait() // with the thread that made it the nursery ends, perhaps before it told another of a worker
			})
		})
	}
	p.work.Go(p.sweep)
	return p, nil
}

// Close kills all workers and returns when they and all runs are gone.
func (p *Pool) Close() {
	p.close()
	p.work.Wait()
	p.nurse.drop(p.nurse.one)
	for {
		select {
		case w := <-p.fresh:
			w.end()
		default:
			p.mu.Lock()
			idle := p.idle
			p.idle = nil
			p.mu.Unlock()
			for _, w := range idle {
				w.end()
			}
			p.group.Close()
			return
		}
	}
}

// refill makes workers as they are wanted, until the pool closes. It is called from
// jail.OnThread: the kernel ends workers with the thread that made them.
func (p *Pool) refill() {
	n := refiller{group: p.group}
	if err := n.group.Enter(); err != nil {
		n.group = nil
		p.cfg.Log.Warn("sandbox workers are bounded one by one only", "error", err)
	}
	wait := 10 * time.Millisecond
	for {
		select {
		case <-p.closing:
			return
		case <-p.wanted:
		}
		w, err := p.startOne(&n)
		p.mu.Lock()
		p.failed = err
		p.mu.Unlock()
		if err != nil {
			p.cfg.Log.Error("sandbox worker does not start", "error", err)
			p.wanted <- struct{}{}
			select {
			case <-p.closing:
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, 5*time.Second)
			continue
		}
		wait = 10 * time.Millisecond
		p.fresh <- w // as many places as tokens
		p.tellSpare()
	}
}

// refiller is what each has for itself.
type refiller struct {
	made  int         // so that a pool for a few runs never has a nursery
	group *jail.Group // nil where there is none, or none lets a worker begin in it
}

// nursery is that of a pool: all refillers use one, since it may keep the program in memory.
type nursery struct {
	mu     sync.Mutex
	one    *jail.Nursery
	making bool
}

// get returns the nursery, which it makes unless somebody is about to: then, or if it
// cannot be made, there is none. It lives as long as the thread that made it.
func (n *nursery) get(exe string, g *jail.Group, large bool) *jail.Nursery {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.one == nil && !n.making {
		n.making = true
		n.mu.Unlock()
		one, err := jail.NewNursery(exe, nameNurse, g, large)
		n.mu.Lock()
		n.making = false
		if err == nil {
			n.one = one
		}
	}
	return n.one
}

// drop ends one that does not answer, if nobody has yet.
func (n *nursery) drop(one *jail.Nursery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if one != nil && n.one == one {
		one.Close()
		n.one = nil
	}
}

// roomy is how much memory all workers may hold, and the server may, where the program's own,
// in large pages, is a small part of that.
const roomy = 1 << 30

// hasRoom reports whether that much is there, of what have bytes the machine or a limit of
// the server's leaves; 0 is not known.
func hasRoom(c Config, have int64) bool {
	return totalMemory(c) >= roomy && (have == 0 || have >= roomy)
}

// startOne starts a worker in namespaces, or bare where this machine gives none.
func (p *Pool) startOne(n *refiller) (*process, error) {
	p.mu.Lock()
	bare := p.bare
	p.mu.Unlock()
	if bare {
		return start(alone(p.program, false, n.group))
	}
	if n.made++; n.made > p.cfg.Warm {
		if nurse := p.nurse.get(p.program, n.group, hasRoom(p.cfg, jail.MachineMemory())); nurse != nil {
			w, err := start(nurse.Start)
			if err == nil {
				return w, nil
			}
			if !errors.Is(err, jail.ErrBusy) {
				p.nurse.drop(nurse)
			}
		}
		n.made = 0 // it is tried again later
	}
	w, err := start(alone(p.program, true, n.group))
	if err != nil && n.group != nil {
		if w, err = start(alone(p.program, true, nil)); err == nil {
			n.group = nil
			p.cfg.Log.Warn("sandbox workers cannot begin in their memory cgroup: they are bounded one by one only")
		}
	}
	if err == nil || !jail.NoNamespaces(err) {
		return w, err
	}
	p.mu.Lock()
	p.bare = true
	p.mu.Unlock()
	p.cfg.Log.Warn("sandbox workers run without namespaces", "error", err)
	return start(alone(p.program, false, n.group))
}

// take returns a worker for the spec: one that served the same tenant if the level and
// its bounds allow, else a fresh one. While many others are ready, the next one is not
// made beside this run but owed until it has ended.
func (p *Pool) take(ctx context.Context, s sandbox.Spec) (w *process, owed bool, bad *sandbox.Error) {
	if !sandbox.OneRunAProcess(s.Level) && s.Tenant != "" {
		if w := p.takeIdle(s); w != nil {
			return w, false, nil
		}
	}
	if p.debtor(s.Tenant) {
		done, ok := p.spare(ctx)
		if !ok {
			return nil, false, p.noWorker(ctx)
		}
		defer done()
	}
	select {
	case w := <-p.fresh:
		if owed = p.many(); !owed {
			p.wanted <- struct{}{}
		}
		p.tellSpare()
		if ok, need := w.walls.Enough(); !ok && sandbox.OneRunAProcess(s.Level) && !p.cfg.AllowWeak {
			p.retire(w)
			if owed {
				p.wanted <- struct{}{}
			}
			return nil, false, sandbox.Errorf(sandbox.CodeWalls, "this machine cannot run %s: missing %s (see \"enclave sandbox doctor\")", s.Level, need)
		}
		return w, owed, nil
	case <-p.closing:
	case <-ctx.Done():
	}
	return nil, false, p.noWorker(ctx)
}

// noWorker says why none was taken.
func (p *Pool) noWorker(ctx context.Context) *sandbox.Error {
	p.mu.Lock()
	failed := p.failed
	p.mu.Unlock()
	switch {
	case ctx.Err() == nil:
		return sandbox.Errorf(sandbox.CodeCancelled, "the sandbox is closing")
	case failed != nil:
		return sandbox.Errorf(sandbox.CodeWorker, "no worker starts on this machine (see \"enclave sandbox doctor\")")
	}
	return sandbox.Errorf(sandbox.CodeBusy, "no worker came free before the deadline")
}

func (p *Pool) takeIdle(s sandbox.Spec) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if w := p.idle[i]; w.tenant == s.Tenant && w.memory == s.Limits.MemoryBytes {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			select {
			case <-w.gone: // it ended while it waited
				p.work.Go(w.end)
				continue
			default:
				return w
			}
		}
	}
	return nil
}

// retire ends a worker in the background.
func (p *Pool) retire(w *process) {
	w.kill()
	p.work.Go(w.end)
}

// keep lets a worker wait for its tenant, or ends it.
func (p *Pool) keep(w *process) {
	select {
	case <-p.closing:
		p.retire(w)
		return
	default:
	}
	if w.runs >= p.cfg.Runs {
		p.retire(w)
		return
	}
	w.idle = time.Now()
	var old *process
	p.mu.Lock()
	p.idle = append(p.idle, w)
	if len(p.idle) > p.cfg.Warm {
		old, p.idle = p.idle[0], p.idle[1:]
	}
	p.mu.Unlock()
	if old != nil {
		p.retire(old)
	}
}

// sweep ends workers that waited too long.
func (p *Pool) sweep() {
	t := time.NewTicker(p.cfg.Idle/4 + 1)
	defer t.Stop()
	for {
		select {
		case <-p.closing:
			return
		case now := <-t.C:
			p.mu.Lock()
			n := 0
			for n < len(p.idle) && now.Sub(p.idle[n].idle) > p.cfg.Idle {
				n++
			}
			old := p.idle[:n:n]
			p.idle = p.idle[n:]
			maps.DeleteFunc(p.debts, func(_ string, until time.Time) bool { return now.After(until) })
			p.mu.Unlock()
			for _, w := range old {
				p.retire(w)
			}
		}
	}
}

// Workers is how many processes wait, ready or for their tenant.
func (p *Pool) Workers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.fresh) + len(p.idle)
}
