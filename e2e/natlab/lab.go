package natlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

var (
	// ErrUnknownName is what Resolve and dialling by name answer for a name that
	// nobody has.
	ErrUnknownName = errors.New("no such name in the lab")
	// ErrRunning is what a second Run answers.
	ErrRunning = errors.New("the lab runs already, or has ended")
)

// Config is what New needs to know.
type Config struct {
	// Seed decides every random choice of the lab. Print it; the same seed gives
	// the same losses.
	Seed uint64
	// Bubble gives hosts a small TCP of the lab's own, which blocks on nothing but what
	// a testing/synctest bubble knows, in the place of gVisor's.
	Bubble bool
	// Record keeps the latest packets for WritePCAP, up to this many bytes. Zero
	// keeps none.
	Record int
}

// Lab is one simulated internet. Building a topology panics on a mistake (a name
// used twice, a network without a free address), since no caller could go on.
type Lab struct {
	cfg  Config
	pool sync.Pool     // of *packet
	wake chan struct{} // capacity 1: the loop wants to know that something is due earlier, not how often

	// mu guards the topology and all packet state. It is held for as long as one
	// packet walks from link to link, never while anything blocks and never while
	// gVisor runs: a host's netstack gets its packets from its own goroutine, since
	// it calls back into the switch with its own locks held.
	mu       sync.Mutex
	events   eventHeap
	seq      uint64
	internet *Network
	hosts    map[string]*Host
	routers  map[string]*Router
	names    map[string]*Host
	cut      map[pair]struct{}
	traffic  map[pair]*Traffic
	dropped  [drops]uint64
	taps     []*tap
	recorder *recorder
	alloc    allocator
	iss      *rand.Rand // initial sequence numbers of the lab's own TCP
	closed   bool
	stop     context.CancelFunc // set once the lab runs
	ended    chan struct{}      // closed when it has ended
}

type pair struct{ from, to *Host }

// New makes an empty lab: an Internet and nothing on it.
func New(cfg Config) *Lab {
	l := &Lab{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		hosts:   map[string]*Host{},
		routers: map[string]*Router{},
		names:   map[string]*Host{},
		cut:     map[pair]struct{}{},
		traffic: map[pair]*Traffic{},
		ended:   make(chan struct{}),
		alloc:   newAllocator(),
	}
	l.iss = l.rng("tcp")
	l.internet = newNetwork(l, "internet")
	if cfg.Record > 0 {
		l.recorder = newRecorder(cfg.Record)
		l.taps = append(l.taps, &tap{see: l.recorder.add})
	}
	return l
}

// Seed answers the seed of every random choice here.
func (l *Lab) Seed() uint64 { return l.cfg.Seed }

func (l *Lab) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("natlab seed=%d hosts=%d routers=%d", l.cfg.Seed, len(l.hosts), len(l.routers))
}

// Internet is the routed core that everything else hangs on.
func (l *Lab) Internet() *Network { return l.internet }

// rng makes the random source of one part of the lab. Each part has its own, so
// that what one link carries does not change the fate of packets on another.
func (l *Lab) rng(part string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(part))
	return rand.New(rand.NewPCG(l.cfg.Seed, h.Sum64()))
}

// Resolve answers the addresses of a host by its name, with or without ".lab", or
// by a name that AddName gave it.
func (l *Lab) Resolve(name string) ([]netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.names[name]
	if h == nil {
		return nil, fmt.Errorf("resolve %q: %w", name, ErrUnknownName)
	}
	return slices.Clone(h.port.addrs), nil
}

// AddName lets name resolve to h's addresses as well, whatever they become.
func (l *Lab) AddName(name string, h *Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names[name] = h
}

// Hosts answers all hosts, ordered by name.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.hosts), func(a, b *Host) int { return cmp.Compare(a.label, b.label) })
}

// Routers answers all routers, ordered by name.
func (l *Lab) Routers() []*Router {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.routers), func(a, b *Router) int { return cmp.Compare(a.label, b.label) })
}

// Partition drops all packets between a and b, in both directions and through
// whatever NATs, until Heal. Neither side notices anything but silence.
func (l *Lab) Partition(a, b *Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[pair{a, b}], l.cut[pair{b, a}] = struct{}{}, struct{}{}
}

// Heal ends Partition.
func (l *Lab) Heal(a, b *Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cut, pair{a, b})
	delete(l.cut, pair{b, a})
}

// Start runs the lab in the background until Close. A lab that runs goes on.
func (l *Lab) Start() *Lab {
	if ctx, err := l.begin(context.Background()); err == nil {
		go l.run(ctx)
	}
	return l
}

// Run carries packets until ctx ends or Close, then closes every host. It returns
// when all goroutines of the lab have ended. A lab runs once.
func (l *Lab) Run(ctx context.Context) error {
	ctx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	l.run(ctx)
	return nil
}

// Close ends the lab and returns when all its goroutines have. All sockets of all
// hosts are closed.
func (l *Lab) Close() error {
	l.mu.Lock()
	stop := l.stop
	l.mu.Unlock()
	if stop == nil {
		l.shutdown() // never ran
		return nil
	}
	stop()
	<-l.ended
	return nil
}

func (l *Lab) begin(ctx context.Context) (context.Context, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil || l.closed {
		return nil, ErrRunning
	}
	ctx, l.stop = context.WithCancel(ctx)
	return ctx, nil
}

func (l *Lab) run(ctx context.Context) {
	l.loop(ctx)
	l.stop()
	l.shutdown()
	close(l.ended)
}

// shutdown closes all hosts and empties the heap.
func (l *Lab) shutdown() {
	l.mu.Lock()
	l.closed = true
	l.events = nil
	hosts := slices.Collect(maps.Values(l.hosts))
	l.mu.Unlock()
	for _, h := range hosts {
		h.closeSockets()
	}
}

// get takes a packet from the pool and fills it with a copy of data.
func (l *Lab) get(data []byte) *packet {
	p, _ := l.pool.Get().(*packet)
	if p == nil {
		p = &packet{data: make([]byte, 0, 2048)}
	}
	p.origin = nil
	p.data = append(p.data[:0], data...)
	return p
}

func (l *Lab) put(p *packet) { l.pool.Put(p) }

// discard counts and shows a packet that goes no further.
func (l *Lab) discard(now time.Time, where string, p *packet, why Drop) {
	l.dropped[why]++
	l.show(now, where, p.data, Outbound, why)
	l.put(p)
}
