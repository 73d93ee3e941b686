package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"enclave/loglimit"
	"enclave/wire"
)

// Network is the ground behind the gateway; link.Network has it.
type Network interface {
	// DialContext opens a TCP connection or a UDP socket; addr is address:port.
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	// Addrs returns the addresses of this host, loopback and link-local left out.
	Addrs() ([]netip.Addr, error)
}

// Pinger is what a Network may also be.
type Pinger interface {
	// Echo sends an ICMP echo request with this sequence number and payload and returns
	// once it is answered.
	Echo(ctx context.Context, to netip.Addr, seq uint16, payload []byte) error
}

// Sender takes whole IP packets that go back to who asked.
type Sender interface{ Send(pkt []byte) }

// Limits bound what senders may cost.
type Limits struct {
	TCP   int           // connections at once
	UDP   int           // UDP flows at once
	Echo  int           // echo requests on their way
	Dial  time.Duration // for a TCP connection to open
	Quiet time.Duration // after which a silent UDP flow ends
}

// DefaultLimits suit a small machine: a TCP flow takes 50 to 80 KiB of it.
func DefaultLimits() Limits {
	return Limits{TCP: 4096, UDP: 2048, Echo: 128, Dial: 10 * time.Second, Quiet: 5 * time.Minute}
}

// Config is what a gateway is made of.
type Config struct {
	Network Network
	Back    Sender
	Overlay []netip.Prefix      // ranges of the overlay
	Known   func() []netip.Addr // further addresses under which this host is reached; may be nil
	// Named says which name a stand-in is for a flow, and where that may lead; nil is none.
	Named  func(proto wire.Proto, src, dst netip.AddrPort) (Named, bool)
	Limits Limits       // zero is DefaultLimits
	Log    *slog.Logger // nil discards
}

// Gateway is the gateway of one agent. Its methods may be called from any goroutine.
type Gateway struct {
	cfg    Config
	log    *slog.Logger
	routes atomic.Pointer[Routes]
	host   atomic.Pointer[hostAddrs]
	echoes chan struct{} // a token each
	counts counts
	pins   pins

	mu    sync.Mutex // guards what follows; never held across a dial or a copy
	ctx   context.Context
	end   context.CancelFunc
	tcp   int
	taken map[sender]int
	flows map[flowKey]*carried // nil once closed
	news  chan struct{}        // closed by Review; nil while nobody waits
	wg    sync.WaitGroup
}

type flowKey struct {
	proto    wire.Proto
	src, dst netip.AddrPort
}

// sender is one address of a system that flows come from.
type sender struct {
	proto wire.Proto
	addr  netip.Addr
}

// share is the part of a limit that one address of a sender may take: a system has two, so
// half of the room is always left to others.
const share = 4

// carried is a flow on its way; its address tells it from a later one with the same key.
type carried struct{ cancel context.CancelFunc }

type hostAddrs struct {
	at   time.Time
	list []netip.Addr
}

// Stats is what a gateway has done.
type Stats struct {
	TCP, UDP int    // flows now
	Opened   uint64 // flows ever
	Refused  uint64 // by the gateway itself, for where they were going
	Failed   uint64 // that the network behind did not answer
	Echoes   uint64 // answered
}

type counts struct {
	opened, refused, failed, echoes atomic.Uint64
	udp                             atomic.Int64
}

// New returns a gateway without routes: it carries what senders are granted unchanged.
func New(cfg Config) *Gateway {
	if cfg.Limits == (Limits{}) {
		cfg.Limits = DefaultLimits()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{cfg: cfg, log: loglimit.New(cfg.Log), echoes: make(chan struct{}, cfg.Limits.Echo), taken: make(map[sender]int), flows: make(map[flowKey]*carried)}
	g.ctx, g.end = context.WithCancel(context.Background())
	g.routes.Store(new(Routes))
	return g
}

// SetRoutes says what this system carries and how it is shown. Control keeps grants
// within them; a flow outside is refused here too.
func (g *Gateway) SetRoutes(r Routes) { g.routes.Store(&r) }

// Close ends every flow with a reset and waits for all of them.
func (g *Gateway) Close() error {
	g.mu.Lock()
	g.flows = nil
	g.mu.Unlock()
	g.end()
	g.wg.Wait()
	return nil
}

// Stats returns the counters.
func (g *Gateway) Stats() Stats {
	g.mu.Lock()
	tcp := g.tcp
	g.mu.Unlock()
	return Stats{TCP: tcp, UDP: int(g.counts.udp.Load()), Opened: g.counts.opened.Load(),
		Refused: g.counts.refused.Load(), Failed: g.counts.failed.Load(), Echoes: g.counts.echoes.Load()}
}

// Cut ends a flow that the filter has cut: a dial under way, a socket that waits.
func (g *Gateway) Cut(f wire.Flow) {
	g.mu.Lock()
	c := g.flows[flowKey{f.Proto, f.Src, f.Dst}]
	g.mu.Unlock()
	if c != nil {
		c.cancel()
	}
}

var (
	errFull  = errors.New("this gateway carries as many flows as it may")
	errShare = errors.New("this gateway carries as many flows of this sender as it may")
)

// begin takes a flow in; end must be called for it. The context ends with a cut.
func (g *Gateway) begin(k flowKey) (ctx context.Context, end func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	limit, n := g.cfg.Limits.TCP, g.tcp
	if k.proto == wire.UDP {
		limit, n = g.cfg.Limits.UDP, int(g.counts.udp.Load())
	}
	switch {
	case g.flows == nil:
		return nil, nil, net.ErrClosed
	case n >= limit:
		return nil, nil, errFull
	}
	from := sender{k.proto, k.src.Addr()}
	if g.taken[from] >= max(limit/share, 1) {
		return nil, nil, errShare
	}
	g.taken[from]++
	ctx, cancel := context.WithCancel(g.ctx)
	if old := g.flows[k]; old != nil {
		old.cancel() // the same numbers again: the one before has ended for its opener
	}
	mine := &carried{cancel}
	g.flows[k] = mine
	g.wg.Add(1)
	g.tally(k.proto, 1)
	g.counts.opened.Add(1)
	return ctx, func() {
		cancel()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.flows[k] == mine {
			delete(g.flows, k)
		}
		g.tally(k.proto, -1)
		if g.taken[from]--; g.taken[from] == 0 {
			delete(g.taken, from)
		}
		g.wg.Done()
	}, nil
}

func (g *Gateway) tally(p wire.Proto, n int) {
	if p == wire.UDP {
		g.counts.udp.Add(int64(n))
		return
	}
	g.tcp += n
}

// target translates dst and judges where that is.
func (g *Gateway) target(dst netip.Addr) (netip.Addr, error) {
	real, ok := g.routes.Load().Translate(dst)
	if !ok {
		return real, fmt.Errorf("%s is in no route of this gateway", dst)
	}
	return real, g.judge(real)
}

// hostAge is how long the host's addresses are believed. A new one is the host's own
// at once, and out of reach this much later.
const hostAge = time.Second

// own returns the addresses of this host.
func (g *Gateway) own() ([]netip.Addr, error) {
	now := time.Now()
	if h := g.host.Load(); h != nil && now.Sub(h.at) < hostAge {
		return h.list, nil
	}
	list, err := g.cfg.Network.Addrs()
	if err != nil {
		return nil, fmt.Errorf("which addresses are this host's is not known: %w", err)
	}
	if g.cfg.Known != nil {
		list = append(list[:len(list):len(list)], g.cfg.Known()...)
	}
	g.host.Store(&hostAddrs{now, list})
	return list, nil
}
