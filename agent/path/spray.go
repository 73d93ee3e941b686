package path

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// Spraying is for a pair of which one side's NAT gives each destination another, random
// port, and the other lets in only what it has sent to. The first opens many sockets, whose
// pings make its NAT have as many ports towards the other; the other sends pings to random
// ports of that address. They meet as birthdays do. Where both NATs are of the first kind,
// each packet would have to hit a port that one packet made: that is not tried (decision
// 0174 has the arithmetic). It is noise to everybody on the way, so it is asked for, and
// goes only to addresses that the peer itself has named.
const (
	// MaxSpray is the most ports that are tried of a peer in one attempt.
	MaxSpray = 1024

	// MaxSides is the most sockets beside the one that there is.
	MaxSides = 256

	// sprayGap spaces the pings: 200 a second.
	sprayGap = 5 * time.Millisecond

	// sprayAfter is how long the pair has been without a direct path by then: what works
	// by itself has worked.
	sprayAfter = 3 * time.Second

	// sprayEvery is from one attempt of who tries ports to the next, and sidesFor how long
	// the sockets of the other side are kept: longer, so that one attempt finds them all
	// whenever the two begin. sidesAgain is when they ping once more, for NATs that forget
	// early, and sidesEvery when they are opened anew.
	sprayEvery = 20 * time.Second
	sidesFor   = 26 * time.Second
	sidesAgain = 12 * time.Second
	sidesEvery = 28 * time.Second

	// sprayTries is after how many attempts it is given up, and sprayRest for how long.
	sprayTries = 4
	sprayRest  = time.Hour
)

// spraying is where a pair is with it.
type spraying struct {
	n      int // what may be tried; 0: nothing
	opens  bool
	target netip.AddrPort // of a try that is under way: for who tries ports, the address alone counts
	begun  time.Time      // of the last try
	next   time.Time      // of the next ping; zero: no try is under way
	sent   int            // in this try
	tries  int
	port   uint16 // the next one
	step   uint16
}

// SetSpray lets the pair try up to n ports, or open as many sockets, when its NATs need it;
// 0, the default, is not at all.
func (p *Peer) SetSpray(n int) { p.spray.n = min(max(n, 0), MaxSpray) }

// Spraying reports whether an attempt is under way.
func (p *Peer) Spraying() bool { return !p.spray.next.IsZero() }

// Sides is how many sockets beside the main one, counted from 1, the attempt may use.
func (p *Peer) Sides() int {
	if s := &p.spray; p.Spraying() && s.opens {
		return min(s.n, MaxSides)
	}
	return 0
}

// sprayRole reports whether there is something to spray for, and whether we are the side
// that opens sockets.
func (p *Peer) sprayRole(now time.Time) (opens, ok bool) {
	if p.spray.n == 0 || p.route != nil || p.stream.up.IsValid() || p.relay == "" || !p.active(now) {
		return false, false
	}
	known := func(nat string) bool { return nat == "easy" || nat == "none" }
	return p.nats[0] == "hard", p.nats[0] == "hard" && known(p.nats[1]) || known(p.nats[0]) && p.nats[1] == "hard"
}

// sprayDue is when spraying has something to do; false: never, as things are.
func (p *Peer) sprayDue(now time.Time) (time.Time, bool) {
	s := &p.spray
	opens, ok := p.sprayRole(now)
	switch {
	case p.Spraying():
		return s.next, true
	case !ok:
		return time.Time{}, false
	}
	at, pause := p.stream.alone.Add(sprayAfter), sprayEvery
	if opens {
		pause = sidesEvery
	}
	if s.tries >= sprayTries {
		pause = sprayRest
	}
	if next := s.begun.Add(pause); !s.begun.IsZero() && next.After(at) {
		at = next
	}
	return at, true
}

// sprayPing begins and ends attempts, and sends their next ping when it is due.
func (p *Peer) sprayPing(now time.Time, out *Output) {
	s := &p.spray
	opens, ok := p.sprayRole(now)
	if p.Spraying() && (!ok || opens != s.opens) {
		s.next = time.Time{}
	}
	if at, ok := p.sprayDue(now); !ok || now.Before(at) {
		return
	}
	if !p.Spraying() && !p.beginSpray(now, opens) {
		return
	}
	tx := p.newTx()
	to, side := s.target, 0
	if s.opens {
		if now.Sub(s.begun) >= sidesFor {
			s.next = time.Time{}
			return
		}
		side = 1 + s.sent%p.Sides()
	} else {
		for s.port += s.step; s.port < 1024; s.port += s.step {
		}
		to = netip.AddrPortFrom(s.target.Addr(), s.port)
	}
	out.Pings = append(out.Pings, Ping{To: to, Tx: tx, Side: side})
	s.sent++
	s.next = now.Add(sprayGap)
	switch {
	case !s.opens && s.sent == s.n:
		s.next = time.Time{}
	case s.opens && s.sent == p.Sides():
		s.next = s.begun.Add(sidesAgain)
	case s.opens && s.sent == 2*p.Sides():
		s.next = s.begun.Add(sidesFor)
	}
}

// beginSpray picks where an attempt goes: the public addresses that the peer has named, in
// turn.
func (p *Peer) beginSpray(now time.Time, opens bool) bool {
	s := &p.spray
	if s.tries >= sprayTries { // rested
		s.tries = 0
	}
	var named []netip.AddrPort
	for _, c := range p.cands {
		if a := c.addr.Addr(); c.from != 0 && a.Is4() && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
			(opens || !slices.ContainsFunc(named, func(n netip.AddrPort) bool { return n.Addr() == a })) {
			named = append(named, c.addr)
		}
	}
	s.begun = now
	if len(named) == 0 {
		return false
	}
	tx := p.newTx() // unguessable: the ports are in no order that a stranger knows
	s.target, s.opens, s.next, s.sent = named[s.tries%len(named)], opens, now, 0
	s.port, s.step = binary.LittleEndian.Uint16(tx[0:]), binary.LittleEndian.Uint16(tx[2:])|1
	s.tries++
	return true
}

// sprayAnew forgets that it was given up.
func (p *Peer) sprayAnew() { p.spray.tries = 0 }
