package link

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// watchEvery is how often the interfaces are looked at. Nothing tells a program
// without privileges of changes on every system, and asking costs microseconds.
const watchEvery = time.Second

// hostCandidates leaves room among the candidates for the observed ones.
const hostCandidates = 10

// sleptFor is the pause between two looks from which on the machine is taken to have
// slept: then every mapping and connection may be gone, and nothing says so.
const sleptFor = 10 * time.Second

// slept reports whether more time passed between two looks than a busy machine explains.
// Some systems stop the monotonic clock while they sleep and some do not; the wall clock
// is asked too, and one that was set costs a few probes.
func slept(before, now time.Time) bool {
	return max(now.Sub(before), now.Round(0).Sub(before.Round(0))) > sleptFor
}

// watch looks for changes of the network.
func (l *Link) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			changed, now := l.look(), time.Now()
			woke := slept(last, now)
			last = now
			if changed || woke {
				l.log.Info("network changed", "slept", woke)
				l.networkChanged()
			}
		}
	}
}

// look reads the addresses of the interfaces and reports whether they changed.
func (l *Link) look() bool {
	addrs, err := l.cfg.Network.Addrs()
	if err != nil {
		l.log.Warn("cannot list addresses", "err", err)
		return false
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(addrs, l.local) {
		return false
	}
	l.local = addrs
	for _, p := range l.peers {
		p.path.SetLocal(addrs)
	}
	l.tell = true
	return true
}

// lost reports whether a connection's own address is none of ours any more, so that
// nothing can come to it.
func (l *Link) lost(at net.Addr) bool {
	t, ok := at.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	l.mu.Lock()
	defer l.mu.Unlock()
	return ip.IsGlobalUnicast() && len(l.local) > 0 && !slices.Contains(l.local, ip)
}

// networkChanged has everything prove itself again: routes, relay connections,
// mappings. Nothing is given up before it fails to.
func (l *Link) networkChanged() {
	now := time.Now()
	l.mu.Lock()
	for _, p := range l.peers {
		p.path.Moved(now)
		l.dueLocked(p, now)
	}
	for _, rc := range l.relays.conns {
		select {
		case rc.again <- struct{}{}:
		default:
		}
	}
	l.checkStreamsLocked()
	l.tell = true
	l.mu.Unlock()
	select {
	case l.remap <- struct{}{}:
	default:
	}
	select {
	case l.probe <- struct{}{}:
	default:
	}
	l.wake()
}

// candidatesLocked is where others may try to reach us, most direct first.
func (l *Link) candidatesLocked() []wire.Candidate {
	port := l.udp.port()
	if port == 0 {
		return nil
	}
	var out []wire.Candidate
	add := func(kind wire.CandidateKind, a netip.AddrPort) {
		same := func(c wire.Candidate) bool {
			return c.Addr == a && (c.Kind == wire.TCPCandidate) == (kind == wire.TCPCandidate)
		}
		if len(out) < wire.MaxCandidates && !slices.ContainsFunc(out, same) {
			out = append(out, wire.Candidate{Kind: kind, Addr: a})
		}
	}
	streams := l.streamsLocked()
	for _, a := range l.local[:min(len(l.local), hostCandidates-len(streams))] {
		add(wire.HostCandidate, netip.AddrPortFrom(a, port))
	}
	if l.cfg.LoopbackCandidates {
		add(wire.HostCandidate, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	}
	for _, a := range streams {
		add(wire.TCPCandidate, a)
	}
	if a := l.mapping.Addr; a.IsValid() {
		add(wire.MappedCandidate, a)
	}
	for _, a := range l.stun.observed {
		// A mapping that varies by destination leads nobody here, unless the NAT filters
		// nothing; but who sends there opens its own filter for our address. Loopback
		// leads only those who were meant to find it.
		if !a.Addr().IsLoopback() || l.cfg.LoopbackCandidates {
			add(wire.ObservedCandidate, a)
		}
	}
	return out
}

func (l *Link) reachLocked() wire.Reach {
	return wire.Reach{Candidates: l.candidatesLocked(), Relay: l.relays.home, NAT: l.stun.nat,
		Unreachable: l.unreachableLocked(time.Now())}
}

func sameReach(a, b wire.Reach) bool {
	return slices.Equal(a.Candidates, b.Candidates) && a.Relay == b.Relay && a.NAT == b.NAT && slices.Equal(a.Unreachable, b.Unreachable)
}
