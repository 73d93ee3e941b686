package link

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"enclave/wire"
)

// A flood from strangers costs a read, a look and a place in the socket's queue for each
// datagram, and so takes from the peers who share all three. While one lasts the kernel
// is given a filter that knows the peers' addresses and drops the others where they
// arrive: docs/decisions/0095.
const (
	// strayStep is how many strays make one wake-up of the guard; strayMany of them within
	// strayWithin are a flood. A peer that roams or a scan stays far below.
	strayStep   = 256
	strayMany   = 2048
	strayWithin = time.Second

	// shieldFor is how long the filter stays. Then all come through again for as long as
	// the flood takes to be noticed, some milliseconds.
	shieldFor = 5 * time.Second

	// shieldEvery is how often the filter is brought to the addresses of now: the longest
	// time for which a new path of a peer is a stranger's.
	shieldEvery = 100 * time.Millisecond

	// probeShare is how many of strangers' probes come through once they are a flood, one in
	// so many. Until then all do: a peer that roams while it sends looks like a flood but
	// for its probes, and they make it known.
	probeShare = 16

	// initShare is the same for first messages of handshakes from known addresses. The
	// kernel cannot tell them; a peer repeats its own often enough in the minute that a
	// session has left when it is renewed.
	initShare = 8
)

// shield counts datagrams of nobody.
type shield struct {
	strays atomic.Uint64
	probes atomic.Uint64 // those of them that look like probes
	inits  atomic.Uint64 // and those that look like a handshake's first message from a peer
	alarm  chan struct{} // capacity 1: one wake is as good as many
	raised atomic.Uint64 // times
}

// stray counts a datagram that belongs to no peer and no question of ours.
func (s *shield) stray() {
	if s.strays.Add(1)%strayStep != 0 {
		return
	}
	select {
	case s.alarm <- struct{}{}:
	default:
	}
}

// guard raises the shield when there is a flood.
func (l *Link) guard(ctx context.Context) {
	var since time.Time
	var before uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.shield.alarm:
		}
		now, strays := time.Now(), l.shield.strays.Load()
		if now.Sub(since) > strayWithin {
			since, before = now, strays-strayStep
		}
		if strays-before >= strayMany {
			l.raise(ctx)
			since = time.Time{}
		}
	}
}

// raise has the kernel drop strangers for shieldFor.
func (l *Link) raise(ctx context.Context) {
	s := l.udp.sock.Load()
	if s == nil || s.batch == nil {
		return // not a socket of a kernel that can
	}
	defer s.batch.lower()
	if l.shield.raised.Add(1) == 1 {
		l.log.Info("flood on the UDP socket: the kernel drops strangers while it lasts")
	}
	tick := time.NewTicker(shieldEvery)
	defer tick.Stop()
	end := time.NewTimer(shieldFor)
	defer end.Stop()
	var last sieve
	probes, inits := l.shield.probes.Load(), l.shield.inits.Load()
	for up := false; ; up = true {
		now, ok := l.known()
		if !ok {
			return
		}
		now.probeShare, now.initShare = max(last.probeShare, 1), max(last.initShare, 1)
		if l.shield.probes.Load()-probes >= strayMany {
			now.probeShare = probeShare
		}
		if l.shield.inits.Load()-inits >= strayMany {
			now.initShare = initShare
		}
		if !up || !now.equal(&last) {
			if err := s.batch.raise(&now); err != nil {
				l.log.Debug("the kernel takes no filter", "err", err)
				return
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// The room of the filter. Each address of IPv4 costs a packet five instructions at most, one
// of IPv6 twice as many, an index or a key two; old kernels allow 20 KiB of them.
const (
	maxKnown   = 300
	maxServers = 16
	maxIndices = 256
	maxProbers = 64
)

// sieve is what the kernel's filter is made of. Each list is sorted.
type sieve struct {
	peers   []netip.AddrPort // who may send messages
	servers []netip.AddrPort // who may answer STUN
	indices []uint32         // that messages may name; none: any
	probers []uint32         // see proberOf: whose probes come through wherever they are from

	probeShare, initShare int // one in so many of what may be anybody's comes through
}

func (s *sieve) equal(o *sieve) bool {
	return s.probeShare == o.probeShare && s.initShare == o.initShare && slices.Equal(s.peers, o.peers) &&
		slices.Equal(s.servers, o.servers) && slices.Equal(s.indices, o.indices) && slices.Equal(s.probers, o.probers)
}

// proberOf is the first word of a peer's key, as its probes show it.
func proberOf(k wire.DiscoKey) uint32 { return indexAt(k[:], 0) }

// room collects addresses for as long as there is room.
type room struct {
	have map[netip.AddrPort]bool
	left int
}

func (r *room) add(a netip.AddrPort) bool {
	cost := 1
	if a.Addr().Is6() {
		cost = 2
	}
	if !a.IsValid() || r.have[a] {
		return true
	}
	if r.left < cost {
		return false
	}
	r.have[a] = true
	r.left -= cost
	return true
}

func (r *room) sorted() []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(r.have), netip.AddrPort.Compare)
}

// known is who may send what while the shield is up, those that carry data first. It is
// false when not even they fit: then there must be no filter.
func (l *Link) known() (s sieve, ok bool) {
	peers, servers := room{make(map[netip.AddrPort]bool), maxKnown}, room{make(map[netip.AddrPort]bool), maxServers}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if r := p.route.Load(); r != nil && !peers.add(r.direct) {
			return s, false
		}
		s.indices = p.sessions.append(s.indices)
		if len(s.probers) < maxProbers {
			s.probers = append(s.probers, proberOf(p.disco))
		}
	}
	if len(s.indices) > maxIndices {
		s.indices = nil // too many to tell: what has a peer's address comes through
	}
	slices.Sort(s.indices)
	slices.Sort(s.probers)
	for _, q := range l.stun.asked {
		servers.add(q.to)
	}
	for a := range l.stun.answers {
		servers.add(a)
	}
	l.table.mu.RLock()
	for a := range l.table.addr {
		peers.add(a)
	}
	l.table.mu.RUnlock()
	for _, p := range l.peers {
		for _, c := range p.reach.Candidates {
			peers.add(netip.AddrPortFrom(c.Addr.Addr().Unmap(), c.Addr.Port()))
		}
	}
	s.peers, s.servers = peers.sorted(), servers.sorted()
	return s, true
}
