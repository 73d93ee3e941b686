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

	timedAt map[wire.RelayID]time.Time // last asked over TCP how far it is
}

func (s *relaySet) init() {
	s.conns = make(map[wire.RelayID]*relayConn)
	s.rtt = make(map[wire.RelayID]time.Duration)
	s.timedAt = make(map[wire.RelayID]time.Time)
}

const (
	// linger is how long a connection stays that nobody wants: longer than a pair
	// counts as active, so that a pause costs no new handshake.
	linger = 2 * time.Minute

	// homeGain is how much nearer another relay must be to become home. Moving home
	// has every peer of ours told, so it must be worth it.
	homeGain = 10 * time.Millisecond

	reapEvery = 30 * time.Second

	// dialGrace is how long an attempt to connect is waited for before the next relay is
	// tried beside it.
	dialGrace = time.Second

	// tryAgain is when a relay that could not be reached, and that nobody asked for
	// since, is worth another attempt.
	tryAgain = 10 * time.Minute
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
	delete(s.timedAt, id)
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
	rc.stop, rc.since = stop, now
	l.group.Go(func() { rc.run(ctx) })
	l.wake() // it may have to be watched
}

// reapLocked ends connections that nobody wants, looks after those that are late, and
// returns when to look again.
func (s *relaySet) reapLocked(l *Link, now time.Time) time.Duration {
	wait := reapEvery
	turned := false // something passed without an event: it is chosen anew
	for id, rc := range s.conns {
		idle := rc.stop != nil && id != s.home && id != s.aim && now.Sub(rc.used) >= linger && !l.awaitedLocked(rc)
		switch {
		case idle || rc.left(now, id == s.home):
			rc.stop()
			fresh := newRelayConn(l, id, rc.addr) // the old one's goroutine ends on its own
			fresh.failing, fresh.failed, fresh.third, fresh.told = rc.failing, rc.failed, rc.third, rc.told
			fresh.used, fresh.drained = rc.used, rc.drained
			s.conns[id] = fresh
			for _, p := range l.peers {
				if p.setUnknown(id); p.relayed(rc) {
					l.stepLocked(p, now)
				}
			}
		case rc.stop == nil && rc.failing && now.Sub(rc.used) >= tryAgain:
			if rc.third || l.housesLocked(id) {
				rc.want(now) // others are told so until it works
			} else {
				rc.failing, turned = false, true
			}
		case rc.stop != nil && !rc.up && !rc.failing && !rc.late:
			if at := rc.since.Add(l.graceLocked(rc)); at.After(now) {
				wait = min(wait, at.Sub(now))
			} else {
				rc.late, turned = true, true
			}
		case rc.up && rc.drained.After(now):
			wait = min(wait, leaveAfter/2)
		}
		if at, out := l.outAtLocked(rc, now); out && !rc.told {
			if at.After(now) {
				wait = min(wait, at.Sub(now))
			} else {
				rc.told, l.tell = true, true
			}
		}
	}
	if turned {
		s.chooseLocked(l, now)
		l.allDueLocked(now)
	}
	return wait
}

// relayed reports whether rc is part of the route to p.
func (p *peer) relayed(rc *relayConn) bool {
	r := p.route.Load()
	return r != nil && r.relay == rc
}

// leaveAfter is how long a connection to a relay that drains must have carried nothing,
// either way, before it is closed from here: what was under way has arrived.
const leaveAfter = 500 * time.Millisecond

// left reports whether a relay that drains can be left: we are found elsewhere, and
// nobody has sent by it any more.
func (rc *relayConn) left(now time.Time, home bool) bool {
	return rc.stop != nil && rc.up && !home && now.Before(rc.drained) &&
		now.Sub(rc.drains) >= leaveAfter && rc.silence() >= leaveAfter
}

// silence is how long no data has gone either way.
func (rc *relayConn) silence() time.Duration {
	return time.Duration(rc.l.sinceBase() - max(rc.sent.Load(), rc.got.Load()))
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

// sound reports whether the connection works, or is about to.
func (rc *relayConn) sound(now time.Time) bool {
	return !rc.failing && !rc.suspect && !now.Before(rc.drained) && (rc.up || rc.stop == nil || !rc.late)
}
