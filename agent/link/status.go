package link

import (
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// Status returns how each peer is reached, sorted by ID.
func (l *Link) Status() []PeerStatus {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]PeerStatus, 0, len(l.peers))
	for _, p := range l.peers {
		out = append(out, p.statusLocked(now))
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

func (p *peer) statusLocked(now time.Time) PeerStatus {
	s := PeerStatus{
		ID: p.id, Key: p.wg,
		Since: p.path.Since(),
		RTT:   p.path.RTT(),
		Why:   p.path.Why(now),

		TxBytes: p.tx.bytes.Load(), TxPackets: p.tx.packets.Load(),
		RxBytes: p.rx.bytes.Load(), RxPackets: p.rx.packets.Load(),
	}
	s.Was, s.Moves = p.path.Before()
	if r := p.route.Load(); r != nil {
		if s.Route = r.words(); s.Route.Stream.IsValid() {
			s.RTT = time.Duration(r.stream.rtt.Load())
		}
		if r.size > 0 {
			s.MTU = max(0, r.size-messageOverhead)
		}
	}
	if ns := p.rx.last.Load(); ns != 0 {
		s.Seen = p.link.base.Add(time.Duration(ns))
	}
	return s
}

// Reach returns what others should know of this system.
func (l *Link) Reach() wire.Reach {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reachLocked()
}

// NetInfo returns what is known of the network.
func (l *Link) NetInfo() NetInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := NetInfo{
		UDP: l.stun.udp, NAT: l.stun.nat, Port: l.udp.port(), Room: l.Room(),
		Observed: slices.Clone(l.stun.observed), Home: l.relays.home,
	}
	if l.listener != nil {
		n.Listen = l.listener.Addr().String()
	}
	if l.cfg.Mapper != nil {
		m := l.mapping
		n.Mapping = &m
	}
	for _, a := range n.Observed {
		n.IPv4 = n.IPv4 || a.Addr().Is4()
		n.IPv6 = n.IPv6 || a.Addr().Is6()
	}
	for _, r := range l.relays.list {
		rc := l.relays.conns[r.ID]
		info := RelayInfo{ID: r.ID, Addr: r.Addr, STUN: r.STUN, RTT: l.relays.rtt[r.ID], Connected: rc.up}
		if rc.up {
			info.How = rc.way.String()
		}
		if rc.err != nil {
			info.Error = rc.err.Error()
		}
		n.Relays = append(n.Relays, info)
	}
	return n
}

// Drops returns the counts of what was dropped.
func (l *Link) Drops() Drops {
	d := &l.drops
	return Drops{
		UnknownSource: d.unknownSource.Load(),
		NoSession:     d.noSession.Load(),
		UnknownKey:    d.unknownKey.Load(),
		BadDisco:      d.badDisco.Load(),
		Replay:        d.replay.Load(),
		BadSTUN:       d.badSTUN.Load(),
		Noise:         d.noise.Load(),
		NoRoute:       d.noRoute.Load(),
		QueueFull:     d.queueFull.Load(),
		WriteFailed:   d.writeFailed.Load(),
		Floods:        l.shield.raised.Load(),
		UnknownSender: d.unknownSender.Load(),
		Callers:       d.callers.Load(),
	}
}
