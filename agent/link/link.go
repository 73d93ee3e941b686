package link

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"enclave/agent/path"
	"enclave/wire"
	"enclave/wire/disco"
	"enclave/wire/frame"
)

var (
	// ErrUnknownPeer is returned for a system that is not in the last SetPeers.
	ErrUnknownPeer = errors.New("no such peer")
	// ErrRan is returned by a second Run.
	ErrRan = errors.New("link ran already")
)

var _ conn.Bind = (*Link)(nil)

// Link carries packets between this system and its peers.
type Link struct {
	cfg    Config
	log    *slog.Logger
	base   time.Time // the data path counts time from here
	drops  drops
	table  table
	udp    udp
	shield shield
	macs   *macs
	inbox  backlog       // relayed WireGuard messages, to the device
	unread unread        // of those that the device took
	kick   chan struct{} // wakes loop; capacity 1: one wake is as good as many
	probe  chan struct{} // wakes the STUN rounds; capacity 1, likewise

	// mu guards what follows. It is held to decide, never while sending, dialling or
	// calling back: what to send is collected and done after it is released.
	mu       sync.Mutex
	ctx      context.Context // of Run; nil before
	ran      bool
	peers    map[wire.SystemID]*peer
	timers   timers
	todo     []action
	local    []netip.Addr
	stun     stunState
	relays   relaySet
	said     wire.Reach // as OnReach was last told
	tell     bool       // OnReach may be due
	moved    []*peer    // OnRoute is due
	shut     []*side    // to be closed
	spraying *peer      // has sides, or tries ports; nil: nobody does
	group    sync.WaitGroup

	listener net.Listener // of streams; nil: none. Set once, before the goroutines
	door     door
	calls    chan struct{} // capacity streamCalls: attempts to reach peers by TCP

	mapping Mapping       // of the router; guarded by mu
	remap   chan struct{} // wakes keepMapping; capacity 1
}

// New checks cfg and returns a Link that Run brings to life.
func New(cfg Config) (*Link, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Link{
		cfg:    cfg,
		log:    cfg.Logger,
		base:   time.Now().Add(-time.Nanosecond), // so that no instant counts as never
		inbox:  newBacklog(inLimit),
		kick:   make(chan struct{}, 1),
		probe:  make(chan struct{}, 1),
		remap:  make(chan struct{}, 1),
		calls:  make(chan struct{}, streamCalls),
		shield: shield{alarm: make(chan struct{}, 1)},
		peers:  make(map[wire.SystemID]*peer),
		macs:   newMACs(cfg.WireGuard),
	}
	l.stun.heard = make(map[wire.RelayID]bool)
	l.table.init()
	l.relays.init()
	l.udp.init()
	return l, nil
}

// Run works until ctx ends; it returns when everything it started has ended. Only
// an error of opening the socket ends it sooner.
func (l *Link) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	if l.ran {
		l.mu.Unlock()
		return ErrRan
	}
	l.ran = true
	l.mu.Unlock()
	if err := l.udp.open(l, l.cfg.Port, true); err != nil {
		return fmt.Errorf("run link: listen on UDP: %w", err)
	}
	if err := l.listen(); err != nil {
		l.udp.shut()
		return err
	}
	l.look() // before anything is said: candidates come from the interfaces

	l.mu.Lock()
	l.ctx = ctx
	now := time.Now()
	l.relays.chooseLocked(l, now)
	l.allDueLocked(now)
	l.mu.Unlock()
	for _, work := range []func(context.Context){l.loop, l.watch, l.probeRelays, l.pump, l.guard, l.keepMapping, l.acceptStreams} {
		l.group.Go(func() { work(ctx) })
	}
	<-ctx.Done()
	l.mu.Lock()
	l.ctx = nil // no relay connection starts any more, and no side
	l.mu.Unlock()
	l.closeAllSides()
	l.udp.shut()
	l.group.Wait()
	return ctx.Err()
}

// SetPeers replaces the peers. When it returns, no packet of a peer that is gone is
// sent or accepted any more. A peer whose keys changed is another peer.
func (l *Link) SetPeers(peers []Peer) {
	now := time.Now()
	l.mu.Lock()
	keep := make(map[wire.SystemID]bool, len(peers))
	for i := range peers {
		n := &peers[i]
		if n.ID == l.cfg.Self {
			continue
		}
		keep[n.ID] = true
		if p := l.peers[n.ID]; p != nil && (p.wg != n.WireGuard || p.disco != n.Disco) {
			l.forgetLocked(p)
		}
	}
	for id, p := range l.peers {
		if !keep[id] {
			l.forgetLocked(p)
		}
	}
	fresh := 0
	for i := range peers {
		n := &peers[i]
		p := l.peers[n.ID]
		if p == nil {
			if p = l.addLocked(now, n); p == nil {
				continue
			}
			p.due = now.Add(time.Duration(max(0, fresh-eager)) * introGap)
			fresh++
			heap.Push(&l.timers, p)
		}
		l.updateLocked(now, p, n)
	}
	l.wake()
	todo := l.takeLocked()
	l.mu.Unlock()
	l.do(todo)
}

// A big map introduces many at once. The first few are probed together, the others
// introGap apart, or when there is data for them.
const (
	eager    = 32
	introGap = 5 * time.Millisecond
)

func (l *Link) addLocked(now time.Time, n *Peer) *peer {
	fid, ok := frame.IDOf(n.ID)
	if !ok || n.WireGuard.IsZero() || n.Disco.IsZero() {
		l.log.Warn("peer left out: bad ID or keys", "peer", n.ID)
		return nil
	}
	key := n.Disco
	p := &peer{
		link: l, id: n.ID, fid: fid, wg: n.WireGuard, disco: n.Disco,
		pair:    sync.OnceValue(func() *disco.Pair { return disco.NewPair(l.cfg.Disco, key) }),
		path:    path.New(now, disco.NewTxID),
		where:   make(map[wire.RelayID]presence),
		waiting: make(map[disco.TxID]*question),
	}
	p.path.SetLocal(l.local)
	p.path.SetPrediction(l.cfg.Predict)
	if l.cfg.MTU > 0 {
		p.path.SetSize(l.cfg.MTU + messageOverhead)
	}
	l.peers[n.ID] = p
	l.table.add(p)
	return p
}

func (l *Link) updateLocked(now time.Time, p *peer, n *Peer) {
	if !sameReach(p.reach, n.Reach) {
		if p.reach.Relay != n.Reach.Relay {
			p.setUnknown(n.Reach.Relay)
		}
		p.reach = n.Reach
		p.path.SetCandidates(now, n.Reach.Candidates)
		l.dueLocked(p, now)
	}
	p.leaf = n.SVID
	if !bytes.Equal(p.ticket, n.Ticket) {
		p.ticket = bytes.Clone(n.Ticket)
		l.relays.renew(p)
		l.dueLocked(p, now)
	}
}

func (l *Link) forgetLocked(p *peer) {
	p.gone = true
	p.route.Store(nil)
	if p.stream != nil {
		p.stream.stop()
	}
	l.table.remove(p)
	l.forgetSidesLocked(p)
	delete(l.peers, p.id)
	heap.Remove(&l.timers, p.index)
}

// dueLocked asks for a step of p at the latest at t. A peer that has not had its
// first step keeps its place in the queue of introductions.
func (l *Link) dueLocked(p *peer, t time.Time) {
	if p.stepped && t.Before(p.due) {
		p.due = t
		heap.Fix(&l.timers, p.index)
		l.wake()
	}
}

// allDueLocked asks for a step of every peer.
func (l *Link) allDueLocked(now time.Time) {
	for _, p := range l.peers {
		l.dueLocked(p, now)
	}
}

// touchLocked tells path of data, now, and steps.
func (l *Link) touchLocked(p *peer, now time.Time) {
	p.quiet.Store(false)
	p.path.Traffic(now, now)
	l.stepLocked(p, now)
}

// stepLocked asks path what to do about p, publishes the route and collects the rest.
func (l *Link) stepLocked(p *peer, now time.Time) {
	if p.gone {
		return
	}
	if at, ok := p.lastData(); ok {
		p.path.Traffic(now, at)
	}
	p.stepped = true
	active := p.path.Active(now)
	rc := l.relayForLocked(p, now, active)
	if rc != nil {
		p.path.SetRelay(rc.id)
	} else {
		p.path.SetRelay("")
	}
	p.path.SetNATs(l.stun.nat, p.reach.NAT)
	l.sprayLocked(p)
	out := p.path.Step(now)
	l.sprayedLocked(p, out.Route, now)
	way := p.wayLocked(out.Route.Direct)
	if old := p.route.Load(); old == nil || old.direct != out.Route.Direct || old.side != way || old.relay != rc || old.stream != p.stream || old.size != out.Size {
		next := &route{direct: out.Route.Direct, stream: p.stream, relay: rc, size: out.Size, side: way}
		if out.Route.IsNone() {
			next = nil
		}
		p.route.Store(next)
	}
	for _, a := range out.Forgotten {
		l.table.release(a, p)
	}
	if out.Lost {
		l.askAgainLocked(now) // the NAT may have given us another address
	}
	if (out.Changed || out.Resized) && !p.changed {
		p.changed = true
		l.moved = append(l.moved, p)
		l.wake()
	}
	l.callLocked(p, out.Dial)
	due := out.Next
	a := action{p: p, pings: out.Pings, callMe: out.CallMe, by: route{stream: p.stream, relay: rc}}
	if at, ok := p.shake.next(l, now, out.Changed || p.arrived); ok && !out.Route.IsNone() {
		if a.repeat = !at.After(now); !a.repeat && at.Before(due) {
			due = at
		}
	}
	p.arrived = false
	if len(a.pings) > 0 || a.callMe || a.repeat {
		l.todo = append(l.todo, a)
	}
	p.quiet.Store(!active)
	if !p.due.Equal(due) {
		p.due = due
		heap.Fix(&l.timers, p.index)
		if p.index == 0 {
			l.wake()
		}
	}
}

// action is what a step asked for. It is done after mu is released.
type action struct {
	p      *peer
	pings  []path.Ping
	callMe bool
	by     route // of the call: never direct
	repeat bool  // the handshake's initiation
}

func (l *Link) takeLocked() []action {
	todo := l.todo
	l.todo = nil
	return todo
}

func (l *Link) do(todo []action) {
	for _, a := range todo {
		for _, g := range a.pings {
			l.sendPing(a.p, g)
		}
		if a.callMe {
			l.sendDisco(a.p, l.callMe(a.p), &a.by)
		}
		if a.repeat {
			l.sendHandshake(a.p, a.p.shake.again(l))
		}
	}
}

// sendPing sends a probe by the socket that it is for.
func (l *Link) sendPing(p *peer, g path.Ping) {
	r := route{direct: g.To}
	if g.Side > 0 {
		if r.side = l.sideOf(p, g.Side); r.side == nil {
			return
		}
	} else {
		l.mu.Lock()
		r.side = p.wayLocked(g.To)
		l.mu.Unlock()
	}
	l.sendDisco(p, disco.Ping{Tx: g.Tx, WireGuard: l.cfg.WireGuard, Size: g.Size}, &r)
}

// wake makes loop look at the timers and at what is to be told.
func (l *Link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// loop steps peers when they are due and calls back.
func (l *Link) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
		case <-timer.C:
		}
		now := time.Now()
		l.mu.Lock()
		for n := 0; len(l.timers) > 0 && !l.timers[0].due.After(now) && n < stepBatch; n++ {
			l.stepLocked(l.timers[0], now)
		}
		wait := l.relays.reapLocked(l, now)
		if len(l.timers) > 0 {
			wait = min(wait, time.Until(l.timers[0].due))
		}
		todo := l.takeLocked()
		tell := l.tellLocked(now)
		shut := l.shut
		l.shut = nil
		l.mu.Unlock()
		for _, s := range shut {
			s.sock.Close()
		}
		l.do(todo)
		tell()
		timer.Reset(max(0, wait))
	}
}

// stepBatch bounds the steps under one hold of mu.
const stepBatch = 64

// tellLocked collects what changed and returns the calls to make about it.
func (l *Link) tellLocked(now time.Time) func() {
	var routes []PeerStatus
	for _, p := range l.moved {
		if p.changed = false; l.cfg.OnRoute != nil && !p.gone {
			routes = append(routes, p.statusLocked(now))
		}
	}
	l.moved = nil
	var reach *wire.Reach
	if l.tell {
		if r := l.reachLocked(); !sameReach(r, l.said) {
			l.said, reach = r, &r
			for _, p := range l.peers {
				p.path.Renamed(now)
				l.dueLocked(p, now)
			}
		}
	}
	l.tell = false
	return func() {
		for _, s := range routes {
			l.cfg.OnRoute(s)
		}
		if reach != nil && l.cfg.OnReach != nil {
			l.cfg.OnReach(*reach)
		}
	}
}

// timers is a heap of peers by when they are due.
type timers []*peer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}
func (t *timers) Push(x any) {
	p := x.(*peer)
	p.index = len(*t)
	*t = append(*t, p)
}
func (t *timers) Pop() any {
	old := *t
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return p
}

// drops counts; see Drops.
type drops struct {
	unknownSource, noSession, unknownKey, badDisco, replay, badSTUN, noise atomic.Uint64
	noRoute, queueFull, writeFailed, unknownSender, callers                atomic.Uint64
}
