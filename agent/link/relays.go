package link

import (
	"context"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

// relaySet is the relays of the map and the choice among them. It is guarded by
// Link.mu.
type relaySet struct {
	list  []wire.Relay // sorted by ID
	conns map[wire.RelayID]*relayConn
	rtt   map[wire.RelayID]time.Duration // by STUN, smoothed
	aim   wire.RelayID                   // shall be home
	home  wire.RelayID                   // is home: where peers find us
}

func (s *relaySet) init() {
	s.conns = make(map[wire.RelayID]*relayConn)
	s.rtt = make(map[wire.RelayID]time.Duration)
}

const (
	// linger is how long a connection stays that nobody wants: longer than a pair
	// counts as active, so that a pause costs no new handshake.
	linger = 2 * time.Minute

	// awayFor is how long a relay's word that a peer is not there counts.
	awayFor = 30 * time.Second

	// homeGain is how much nearer another relay must be to become home. Moving home
	// has every peer of ours told, so it must be worth it.
	homeGain = 10 * time.Millisecond

	reapEvery = 30 * time.Second
)

// SetRelays replaces the relays.
func (l *Link) SetRelays(relays []wire.Relay) {
	relays = slices.Clone(relays[:min(len(relays), wire.MaxRelays)])
	slices.SortFunc(relays, func(a, b wire.Relay) int { return strings.Compare(string(a.ID), string(b.ID)) })
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.relays
	listed := make(map[wire.RelayID]bool)
	for _, r := range relays {
		listed[r.ID] = true
		if rc := s.conns[r.ID]; rc == nil || rc.addr != r.Addr {
			s.dropLocked(r.ID)
			s.conns[r.ID] = newRelayConn(l, r.ID, r.Addr)
		}
	}
	for id := range s.conns {
		if !listed[id] {
			s.dropLocked(id)
		}
	}
	s.list = relays
	s.chooseLocked(l, now)
	l.allDueLocked(now)
	select {
	case l.probe <- struct{}{}:
	default:
	}
	l.wake()
}

func (s *relaySet) dropLocked(id wire.RelayID) {
	if rc := s.conns[id]; rc != nil && rc.stop != nil {
		rc.stop()
	}
	delete(s.conns, id)
	delete(s.rtt, id)
	if s.home == id {
		s.home = ""
	}
	if s.aim == id {
		s.aim = ""
	}
}

// want makes sure that the connection exists or is on its way.
func (rc *relayConn) want(now time.Time) {
	rc.used = now
	l := rc.l
	if rc.stop != nil || l.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(l.ctx)
	rc.stop = stop
	l.group.Go(func() { rc.run(ctx) })
}

// reapLocked ends connections that nobody wants and returns when to look again.
func (s *relaySet) reapLocked(l *Link, now time.Time) time.Duration {
	for id, rc := range s.conns {
		if rc.stop == nil || id == s.home || id == s.aim || now.Sub(rc.used) < linger {
			continue
		}
		rc.stop()
		s.conns[id] = newRelayConn(l, id, rc.addr) // the old one's goroutine ends on its own
		for _, p := range l.peers {
			if r := p.route.Load(); r != nil && r.relay == rc {
				l.stepLocked(p, now)
			}
		}
	}
	return reapEvery
}

// renew presents a new ticket where the old one was.
func (s *relaySet) renew(p *peer) {
	for _, rc := range s.conns {
		if _, ok := rc.opened[p.id]; ok {
			rc.openLocked(p)
		}
	}
}

// chooseLocked picks the home relay: the nearest by STUN that works, and then the
// same one for as long as it works and none is much nearer. The home changes only to
// a relay that is connected, and is kept through an outage until another one is:
// peers that still believe in it meet us there again.
func (s *relaySet) chooseLocked(l *Link, now time.Time) {
	best := s.conns[s.aim]
	for _, r := range s.list {
		if rc := s.conns[r.ID]; best == nil || rc != best && s.better(rc, best, now) {
			best = rc
		}
	}
	if best == nil {
		return
	}
	s.aim = best.id
	best.want(now)
	if best.up && s.home != s.aim {
		if old := s.conns[s.home]; old != nil {
			old.used = now // peers are told in a moment; until then they come here
		}
		s.home = s.aim
		l.tell = true
		l.wake()
	}
}

// better reports whether a is worth more than b as the home.
func (s *relaySet) better(a, b *relayConn, now time.Time) bool {
	if x, y := a.sound(now), b.sound(now); x != y {
		return x
	}
	ra, rb := s.rtt[a.id], s.rtt[b.id]
	switch {
	case ra == 0:
		return false
	case rb == 0:
		return !b.up // a home that works needs no STUN to stay
	}
	return ra < rb*2/3 && rb-ra > homeGain
}

func (rc *relayConn) sound(now time.Time) bool { return !rc.failing && !now.Before(rc.drained) }

// relayForLocked is the rule by which both ends agree where to meet: a packet goes
// through the home relay of its receiver, which is always connected there. When
// that one is out of reach or says that the peer is not there, it goes through our
// own home, where the peer is if it has talked to us. An active pair has its
// connection kept and its ticket presented. Docs: decision 0063.
func (l *Link) relayForLocked(p *peer, now time.Time, active bool) *relayConn {
	theirs, ours := l.relays.conns[p.reach.Relay], l.relays.conns[l.relays.home]
	pick := theirs
	if ours != nil && ours.up && ours != theirs &&
		(theirs == nil || theirs.failing || p.isAway(theirs, now) && !p.isAway(ours, now)) {
		pick = ours
	}
	if active && theirs != nil {
		theirs.want(now)
	}
	if pick == nil || pick.failing {
		return nil
	}
	if active {
		pick.want(now)
		pick.openLocked(p)
	}
	return pick
}

// setAway keeps a relay's word about where the peer is.
func (p *peer) setAway(id wire.RelayID, now time.Time) {
	p.away[id] = now
	p.absent.Store(true)
}

func (p *peer) setHere(id wire.RelayID) {
	delete(p.away, id)
	p.absent.Store(len(p.away) > 0)
}

// isAway reports whether rc has lately said that p is not there.
func (p *peer) isAway(rc *relayConn, now time.Time) bool {
	at, ok := p.away[rc.id]
	return ok && now.Sub(at) < awayFor
}
