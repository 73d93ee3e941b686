package link

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

// watchEvery is how often the interfaces are looked at. Nothing tells a program
// without privileges of changes on every system, and asking costs microseconds.
const watchEvery = 2 * time.Second

// hostCandidates leaves room among the candidates for the observed ones.
const hostCandidates = 10

// watch looks for changes of the network.
func (l *Link) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.look() {
				l.log.Info("network changed")
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
	l.tell = true
	l.mu.Unlock()
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
		same := func(c wire.Candidate) bool { return c.Addr == a }
		if len(out) < wire.MaxCandidates && !slices.ContainsFunc(out, same) {
			out = append(out, wire.Candidate{Kind: kind, Addr: a})
		}
	}
	for _, a := range l.local[:min(len(l.local), hostCandidates)] {
		add(wire.HostCandidate, netip.AddrPortFrom(a, port))
	}
	if l.cfg.LoopbackCandidates {
		add(wire.HostCandidate, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
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
	return wire.Reach{Candidates: l.candidatesLocked(), Relay: l.relays.home, NAT: l.stun.nat}
}

func sameReach(a, b wire.Reach) bool {
	return slices.Equal(a.Candidates, b.Candidates) && a.Relay == b.Relay && a.NAT == b.NAT
}
