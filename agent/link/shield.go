package link

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
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
)

// shield counts datagrams of nobody.
type shield struct {
	strays atomic.Uint64
	probes atomic.Uint64 // those of them that look like probes
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
	var last []netip.AddrPort
	share, probes := 1, l.shield.probes.Load()
	for up := false; ; up = true {
		known, ok := l.known()
		if !ok {
			return
		}
		was := share
		if l.shield.probes.Load()-probes >= strayMany {
			share = probeShare
		}
		if !up || share != was || !slices.Equal(known, last) {
			if err := s.batch.raise(known, share); err != nil {
				l.log.Debug("the kernel takes no filter", "err", err)
				return
			}
			last = known
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

// maxKnown is the room of the filter, in IPv4 addresses; one of IPv6 takes two. Each
// costs a stranger's packet two instructions, and old kernels allow 20 KiB of them.
const maxKnown = 380

// known are the addresses that may send while the shield is up, those that carry data
// first. It is false when not even they fit: then there must be no filter.
func (l *Link) known() (out []netip.AddrPort, ok bool) {
	have := make(map[netip.AddrPort]bool)
	room := maxKnown
	add := func(a netip.AddrPort) bool {
		cost := 1
		if a.Addr().Is6() {
			cost = 2
		}
		if !a.IsValid() || have[a] {
			return true
		}
		if room < cost {
			return false
		}
		have[a] = true
		room -= cost
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		if r := p.route.Load(); r != nil && !add(r.direct) {
			return nil, false
		}
	}
	for _, q := range l.stun.asked {
		add(q.to)
	}
	for a := range l.stun.answers {
		add(a)
	}
	l.table.mu.RLock()
	for a := range l.table.addr {
		add(a)
	}
	l.table.mu.RUnlock()
	for _, p := range l.peers {
		for _, c := range p.reach.Candidates {
			add(netip.AddrPortFrom(c.Addr.Addr().Unmap(), c.Addr.Port()))
		}
	}
	for a := range have {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out, true
}
