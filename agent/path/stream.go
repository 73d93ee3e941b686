package path

import (
	"net/netip"
	"time"
)

// A stream is a TCP connection straight to the peer, for where UDP does not pass. It is
// the link's, which knows the peer at its other end and whether it lives, as it does for
// relays; here is only when one is worth trying, and when it carries. It goes before a
// relay and after every address that answers by UDP. Why: docs/decisions/0169.

const (
	// streamAfter is how long UDP is tried before TCP: one round. Where UDP is known to be
	// blocked on a side, nothing is waited for.
	streamAfter = 2500 * time.Millisecond

	// streamRetry and streamRetryMax are the distance between attempts that came to
	// nothing, doubling; streamGap is the least, whatever asks for one.
	streamRetry    = 5 * time.Second
	streamRetryMax = 2 * time.Minute
	streamGap      = 2 * time.Second
)

// streaming is what a pair knows of streams.
type streaming struct {
	named  []netip.AddrPort // where the peer listens
	up     netip.AddrPort   // the far end of the one that stands; invalid: none does
	alone  time.Time        // since when no address answers
	dialed time.Time        // the last attempt
	wait   time.Duration    // after it, until the next
}

// SetStream tells the far end of the stream to the peer that stands; invalid is none.
func (p *Peer) SetStream(now time.Time, addr netip.AddrPort) {
	if s := &p.stream; s.up != addr {
		s.up = addr
		s.dialed, s.wait = now, streamGap // after its end the next one a little later
	}
}

// name takes the addresses at which the peer listens.
func (s *streaming) name(addrs []netip.AddrPort) {
	fresh := len(addrs) != len(s.named)
	for i := 0; !fresh && i < len(addrs); i++ {
		fresh = addrs[i] != s.named[i]
	}
	if s.named = addrs; fresh {
		s.again()
	}
}

// again has the next attempt not wait for the ones before.
func (s *streaming) again() { s.wait = streamGap }

// due is when a stream is to be tried; false: not as things are.
func (s *streaming) due(blocked bool) (time.Time, bool) {
	at := s.alone
	if !blocked {
		at = at.Add(streamAfter)
	}
	if next := s.dialed.Add(s.wait); !s.dialed.IsZero() && next.After(at) {
		at = next
	}
	return at, len(s.named) > 0 && !s.up.IsValid()
}

// streamDue is when the pair wants a stream: it is in use, and has no better way.
func (p *Peer) streamDue(now time.Time) (time.Time, bool) {
	if p.route != nil || !p.active(now) {
		return time.Time{}, false
	}
	return p.stream.due(p.nats[0] == "blocked" || p.nats[1] == "blocked")
}

// seekStream returns where to look for the peer by TCP, when that is due.
func (p *Peer) seekStream(now time.Time) []netip.AddrPort {
	at, ok := p.streamDue(now)
	if !ok || at.After(now) {
		return nil
	}
	s := &p.stream
	s.dialed, s.wait = now, p.jitter(min(max(2*s.wait, streamRetry), streamRetryMax))
	return s.named
}
