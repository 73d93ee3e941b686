package link

import (
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/disco"
)

// sendDisco seals m for p and sends it by r.
func (l *Link) sendDisco(p *peer, m disco.Message, r *route) {
	var buf [disco.MaxPacket]byte
	b := p.pair().Seal(buf[:0], m) // one that is padded to more takes a larger buffer
	if r.direct.IsValid() {
		_ = l.writeOne(b, r) // a probe that cannot be sent is a probe unanswered
	} else if r.stream != nil {
		r.stream.send(b)
	} else if r.relay != nil {
		r.relay.send(p, b)
	}
}

// callMe names where p may ping us: what everyone is told, and the address that p
// itself has seen.
func (l *Link) callMe(p *peer) disco.CallMe {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := disco.CallMe{Tx: disco.NewTxID()}
	for _, c := range l.candidatesLocked() {
		if c.Kind != wire.TCPCandidate {
			m.Candidates = append(m.Candidates, c.Addr)
		}
	}
	if o := p.observed; o.IsValid() && len(m.Candidates) < wire.MaxCandidates && !slices.Contains(m.Candidates, o) {
		m.Candidates = append(m.Candidates, o)
	}
	return m
}

// hearDisco takes a disco packet that came by one way: from an address of the socket, from
// a relay, which says that it is from sender, or from sender's stream.
func (l *Link) hearDisco(b []byte, sender *peer, by route) {
	udp := by.direct.IsValid()
	p := l.table.sender(b)
	if p == nil || sender != nil && sender != p {
		if l.drops.unknownKey.Add(1); udp {
			l.shield.probes.Add(1)
			l.shield.stray()
		}
		return
	}
	m, err := p.pair().Open(b)
	if err != nil || udp && !disco.Sendable(by.direct) {
		l.drops.badDisco.Add(1)
		return
	}
	var reply disco.Message
	now := time.Now()
	l.mu.Lock()
	if p.gone {
		l.mu.Unlock()
		return
	}
	if by.relay != nil {
		p.setHere(by.relay.id, now)
	}
	switch m := m.(type) {
	case disco.Ping:
		if m.WireGuard != p.wg {
			l.drops.badDisco.Add(1)
		} else if p.seen.before(m.Tx) {
			l.drops.replay.Add(1)
		} else if l.hitLocked(p, &by, now) {
			reply = disco.Pong{Tx: m.Tx, Observed: by.direct}
			if udp { // the others are of no address to learn
				l.hearPingLocked(p, by.direct, now)
			}
		}
	case disco.Pong:
		if by.side == nil || by.side == p.wayLocked(by.direct) {
			l.hearPongLocked(p, m, &by, now)
		}
	case disco.CallMe:
		if udp {
			l.drops.badDisco.Add(1) // calls come by TCP; elsewhere nobody needs one
		} else if p.seen.before(m.Tx) {
			l.drops.replay.Add(1)
		} else {
			p.path.HearCallMe(now, m.Candidates)
			l.stepLocked(p, now)
		}
	}
	todo := l.takeLocked()
	l.mu.Unlock()
	if reply != nil {
		l.sendDisco(p, reply, &by)
	}
	l.do(todo)
}

func (l *Link) hearPingLocked(p *peer, from netip.AddrPort, now time.Time) {
	p.path.HearPing(now, from)
	if p.path.Knows(from) {
		l.table.claim(from, p, false)
	}
	l.stepLocked(p, now)
}

func (l *Link) hearPongLocked(p *peer, m disco.Pong, by *route, now time.Time) {
	from := by.direct
	if q := p.waiting[m.Tx]; q != nil && q.cameBy(by) {
		delete(p.waiting, m.Tx)
		select {
		case q.answer <- Result{now.Sub(q.at), q.route}:
		default: // an earlier one was answered too
		}
		return
	}
	if by.stream != nil && by.stream.answeredLocked(m.Tx, now) {
		return
	}
	if !from.IsValid() {
		l.drops.replay.Add(1)
		return
	}
	if _, ok := p.path.HearPong(now, from, m.Tx); !ok {
		l.drops.replay.Add(1)
		return
	}
	p.observed = m.Observed
	l.table.claim(from, p, true)
	l.stepLocked(p, now)
}
