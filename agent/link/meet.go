package link

import (
	"slices"
	"time"

	"enclave/wire"
)

// Where two systems meet: decisions 0063, 0068 and 0172. What is here is a rule that both ends
// can work out for themselves, from the map and from what relays have told them.

const (
	// awayFor is how long a relay's word that a peer is not there counts.
	awayFor = 30 * time.Second

	// reachAfter is how long a relay must have been out of reach before others hear of
	// it: one that restarts, or that everybody leaves, is nobody's news.
	reachAfter = 5 * time.Second

	// soonAfter is how long the first attempt to reach a relay may take, and four round
	// trips, before it is late while our home works: then it is that relay's network or a
	// firewall, and no restart that would be over in a moment.
	soonAfter = 400 * time.Millisecond

	// mayReturn is how often a relay is believed at once that a peer is back. What it says
	// beyond that counts when awayFor is over, and at once again after mayReturnIn without
	// such a word: else a pair would follow a relay that lies to and fro for ever.
	mayReturn   = 4
	mayReturnIn = 2 * awayFor
)

// presence is what a relay has said about a peer.
type presence struct {
	here     bool
	at       time.Time
	returns  int       // times that the peer was back, in its words; counted a little beyond mayReturn
	returned time.Time // the last of them
}

func (p *peer) setAway(id wire.RelayID, now time.Time) {
	w := p.where[id]
	w.here, w.at = false, now
	p.where[id] = w
	p.absent.Store(true)
}

// setHere reports whether that is news, and believed.
func (p *peer) setHere(id wire.RelayID, now time.Time) bool {
	w, known := p.where[id]
	was := w.here
	if known && !was {
		if now.Sub(w.returned) >= mayReturnIn {
			w.returns = 0
		}
		w.returns, w.returned = min(w.returns+1, mayReturn+1), now
	}
	if w.here = was || w.returns <= mayReturn || now.Sub(w.at) >= awayFor; w.here {
		w.at = now
	}
	p.where[id] = w
	p.recount()
	return w.here && !was
}

// setUnknown forgets what a relay has said about where p is.
func (p *peer) setUnknown(id wire.RelayID) {
	delete(p.where, id)
	p.recount()
}

// recount asks the data path to correct a relay that says the peer is away.
func (p *peer) recount() {
	away := false
	for _, w := range p.where {
		away = away || !w.here
	}
	p.absent.Store(away)
}

// isAway reports whether rc has lately said that p is not there.
func (p *peer) isAway(rc *relayConn, now time.Time) bool {
	w, ok := p.where[rc.id]
	return ok && !w.here && now.Sub(w.at) < awayFor
}

// isHere reports whether rc has said that p is there, and p has not left since.
func (p *peer) isHere(rc *relayConn) bool { return p.where[rc.id].here }

// relayForLocked is the relay for a packet to p: the home of its receiver, which is
// always connected there; else our own home, which p also comes to when it cannot be
// reached at its own; else the first relay that neither of us knows to be out of reach.
// Whoever is wanted there has its connection kept and the pair's ticket presented.
func (l *Link) relayForLocked(p *peer, now time.Time, active bool) *relayConn {
	s := &l.relays
	theirs, ours := s.conns[p.reach.Relay], s.conns[s.home]
	found := slices.Contains(p.reach.Unreachable, s.home) // p looks for us elsewhere
	away := p.reach.Relay != "" && (theirs == nil || !theirs.sound(now) || p.isAway(theirs, now))
	var third *relayConn
	if away && active || found && (theirs == nil || l.missingLocked(theirs)) {
		third = l.thirdLocked(p)
	}
	if theirs != nil && (active || found) && !now.Before(theirs.drained) {
		theirs.want(now)
	}
	if found && theirs != nil && !theirs.failing {
		theirs.openLocked(p)
	}
	if third != nil {
		third.third = true
		third.want(now)
	}
	var pick *relayConn
	best := noWay
	for _, rc := range [...]*relayConn{theirs, ours, third} {
		if rc == nil || rc.failing {
			continue
		}
		if away && active || found {
			rc.openLocked(p) // so that it says whether p is there, and lets p reach us
		}
		if g := l.gradeLocked(rc, p, rc == theirs, now); g < best {
			pick, best = rc, g
		}
	}
	if pick != nil && active {
		if best == waiting || !now.Before(pick.drained) {
			pick.want(now)
		}
		pick.openLocked(p)
	}
	return pick
}

// The grades of a relay for a pair, best first. Within one the order above counts.
const (
	good    = iota // works, or is about to, and the peer is there
	ending         // still works, but drains or is late with its answer
	unsure         // works; whether the peer is there is not known
	absent         // works, and says that the peer is not there
	waiting        // does not work now
	noWay
)

func (l *Link) gradeLocked(rc *relayConn, p *peer, home bool, now time.Time) int {
	switch here, sound := p.isHere(rc) || home, rc.sound(now); {
	case p.isAway(rc, now) && (sound || rc.up):
		return absent
	case sound && here:
		return good
	case rc.up && here:
		return ending
	case sound || rc.up:
		return unsure
	}
	return waiting
}

// awaitedLocked reports whether a peer that cannot come to our home looks for us at rc.
func (l *Link) awaitedLocked(rc *relayConn) bool {
	for _, p := range l.peers {
		if slices.Contains(p.reach.Unreachable, l.relays.home) && (p.reach.Relay == rc.id || rc.third && l.thirdLocked(p) == rc) {
			return true
		}
	}
	return false
}

// thirdLocked is the relay on which a pair agrees when neither home serves: the first
// in the order of IDs that neither side finds out of reach.
func (l *Link) thirdLocked(p *peer) *relayConn {
	for _, r := range l.relays.list {
		if rc := l.relays.conns[r.ID]; !l.missingLocked(rc) && !slices.Contains(p.reach.Unreachable, r.ID) {
			return rc
		}
	}
	return nil
}

// unreachableLocked names the relays that are out of reach for a while and where peers
// are, or would meet us.
func (l *Link) unreachableLocked(now time.Time) (out []wire.RelayID) {
	for _, r := range l.relays.list {
		rc := l.relays.conns[r.ID]
		if at, ok := l.outAtLocked(rc, now); ok && !at.After(now) && (rc.third || l.housesLocked(r.ID)) {
			out = append(out, r.ID)
		}
	}
	return out
}

// outAtLocked is when others are to hear that there is no way to a relay; false: there is
// one, or it is not known. What was never reached, while our home works, is told at once: a
// peer that has nothing to say waits there, and has to come to us.
func (l *Link) outAtLocked(rc *relayConn, now time.Time) (time.Time, bool) {
	switch {
	case rc.up || !rc.failing && !rc.late:
		return time.Time{}, false
	case l.firstTryLocked(rc):
		return now, true
	case rc.failing:
		return rc.failed.Add(reachAfter), true
	}
	return time.Time{}, false
}

// firstTryLocked reports whether a relay that is no home of ours was not reached yet, while
// our home works.
func (l *Link) firstTryLocked(rc *relayConn) bool {
	home := l.relays.conns[l.relays.home]
	return home != nil && home.up && rc != home && !rc.met
}

// missingLocked reports whether there is no way to a relay, as far as is known here.
func (l *Link) missingLocked(rc *relayConn) bool {
	return rc.failing || rc.late && !rc.up && l.firstTryLocked(rc)
}

// graceLocked is how long an attempt to connect may take.
func (l *Link) graceLocked(rc *relayConn) time.Duration {
	if l.firstTryLocked(rc) {
		return min(max(soonAfter, 4*l.relays.rtt[rc.id]), dialGrace)
	}
	return dialGrace
}

// housesLocked reports whether a relay is the home of a peer.
func (l *Link) housesLocked(id wire.RelayID) bool {
	for _, p := range l.peers {
		if p.reach.Relay == id {
			return true
		}
	}
	return false
}
