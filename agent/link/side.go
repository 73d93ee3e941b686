package link

import (
	"net/netip"
	"time"

	"enclave/agent/path"
	"enclave/wire/disco"
)

// side is a UDP socket beside the main one, for one peer: some hundred of them are opened
// so that the NAT here has as many ports towards a peer that tries them (spraying, see
// agent/path). The one that the peer hits is kept and is from then on where packets to that
// address of the peer leave; the others are closed. There are sides for one peer at a time.
type side struct {
	sock *socket
	p    *peer
}

// newSide makes a side of c. It sends in batches and receives one by one: the kernel joins
// nothing that readSide could not tell apart, and hundreds of sockets need no buffers.
func newSide(p *peer, c PacketConn) *side {
	return &side{sock: &socket{c, portOf(c), newSender(c)}, p: p}
}

// won is the side that was hit, and the peer's address to which it is the way.
type won struct {
	*side
	to netip.AddrPort
	at time.Time
}

// sprayLocked lets one peer at a time spray, before its step.
func (l *Link) sprayLocked(p *peer) {
	n := l.cfg.Spray
	if l.spraying != nil && l.spraying != p {
		n = 0
	}
	p.path.SetSpray(n)
}

// sprayedLocked looks at what the step has made of it, and collects the sockets that nobody
// needs any more.
func (l *Link) sprayedLocked(p *peer, r path.Route, now time.Time) {
	switch {
	case p.path.Spraying():
		l.spraying = p
	case l.spraying == p:
		l.spraying = nil
	}
	if p.path.Sides() == 0 {
		l.closeSidesLocked(p)
	}
	if w := p.won; w != nil && r.Direct != w.to && now.Sub(w.at) > path.Consent {
		p.won = nil
		l.shut = append(l.shut, w.side)
		l.wake()
	}
}

// closeSidesLocked has the sides of a peer closed, but the one that won.
func (l *Link) closeSidesLocked(p *peer) {
	for _, s := range p.sides {
		if s != nil && (p.won == nil || p.won.side != s) {
			l.shut = append(l.shut, s)
		}
	}
	if p.sides != nil {
		p.sides = nil
		l.wake()
	}
}

// forgetSidesLocked is for a peer that is gone.
func (l *Link) forgetSidesLocked(p *peer) {
	if l.spraying == p {
		l.spraying = nil
	}
	if p.won != nil {
		l.shut = append(l.shut, p.won.side)
		p.won = nil
	}
	l.closeSidesLocked(p)
}

// wayLocked is the socket for packets to an address of p; nil: the main one.
func (p *peer) wayLocked(to netip.AddrPort) *side {
	if p.won != nil && p.won.to == to {
		return p.won.side
	}
	return nil
}

// sideOf returns the n-th side of p, from 1, and opens it if need be; nil: it cannot be had.
func (l *Link) sideOf(p *peer, n int) *side {
	l.mu.Lock()
	if p.sides == nil {
		p.sides = make([]*side, path.MaxSides)
	}
	s, wanted := p.sides[n-1], p.path.Sides() >= n && !p.gone && l.ctx != nil
	l.mu.Unlock()
	if s != nil || !wanted {
		return s
	}
	c, err := l.cfg.Network.ListenUDP(0)
	if err != nil {
		l.log.Debug("no socket to spray from", "err", err)
		return nil
	}
	s = newSide(p, c)
	l.mu.Lock()
	if p.path.Sides() < n || p.gone || l.ctx == nil || p.sides == nil || p.sides[n-1] != nil {
		l.mu.Unlock()
		c.Close()
		return nil
	}
	p.sides[n-1] = s
	l.group.Go(func() { l.readSide(s) })
	l.mu.Unlock()
	return s
}

// closeAllSides ends the readers of all sides, when the link ends.
func (l *Link) closeAllSides() {
	l.mu.Lock()
	for _, p := range l.peers {
		l.forgetSidesLocked(p)
	}
	shut := l.shut
	l.shut = nil
	l.mu.Unlock()
	for _, s := range shut {
		s.sock.Close()
	}
}

// readSide takes what comes to a side, until it is closed. Only its peer is heard there.
func (l *Link) readSide(s *side) {
	defer s.sock.Close()
	buf := make([]byte, max(2<<10, l.cfg.MTU+messageOverhead+disco.MaxPacket))
	var in incoming
	for {
		n, from, err := s.sock.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed, or broken: the path falls silent and is left
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		switch b := buf[:n]; {
		case isWireGuard(b):
			if l.table.byAddr(from) != s.p {
				l.drops.unknownSource.Add(1)
				continue
			}
			l.deliver(&in, s.p, b)
			in.settle(l)
		case disco.LooksLike(b):
			l.hearDisco(b, s.p, route{direct: from, side: s})
		default:
			l.drops.noise.Add(1)
		}
	}
}

// hitLocked takes an authenticated ping. The first that comes to a side tells that the spray
// has found a way, and that socket is it. It reports whether the ping is to be answered:
// one that came to another side is not.
func (l *Link) hitLocked(p *peer, by *route, now time.Time) bool {
	if by.side == nil {
		return true
	}
	if p.won == nil && p.path.Sides() > 0 {
		p.won = &won{by.side, by.direct, now}
		l.closeSidesLocked(p)
		l.log.Debug("spraying found a way", "peer", p.id, "at", by.direct, "port", by.side.sock.port)
	}
	return by.side == p.wayLocked(by.direct)
}
