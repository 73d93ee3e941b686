package path

import (
	"net/netip"
	"time"

	"enclave/wire/disco"
)

// Sources of a candidate; one address may have several.
const (
	named  = 1 << iota // in the map
	called             // in the peer's last call-me
)

// maxCandidates bounds the addresses of one peer: what the map and one call-me can
// name, and a few that were only heard.
const maxCandidates = 40

// maxWaiting bounds the pings to one address that wait for an answer.
const maxWaiting = 32

// candidate is one address and what is known of it.
type candidate struct {
	addr netip.AddrPort
	from uint8

	waiting [maxWaiting]sent // pings that may still be answered, a ring
	pings   int              // pings ever sent; the ring's position
	asked   time.Time        // the last ping
	silent  time.Time        // the first ping since the last answer; zero: none waits
	pong    time.Time        // the last answer
	heard   time.Time        // the last ping or pong from there; zero: none
	known   time.Time        // when it was last heard or named anew
	rtt     time.Duration    // smoothed

	tries  int       // pings that the round has sent
	next   time.Time // the round's next ping; zero: no more
	losses int       // times it was the route and fell silent
	proof  int       // answers since the last loss
	size   sizing
}

type sent struct {
	tx   disco.TxID
	at   time.Time
	size int // it was padded to; 0: it was not
}

// ping records a ping.
func (c *candidate) ping(tx disco.TxID, now time.Time) {
	c.waiting[c.pings%maxWaiting] = sent{tx, now, 0}
	c.pings++
	c.asked = now
	if c.silent.IsZero() {
		c.silent = now
	}
}

// answer takes the pong for tx. It counts once, in time, and not otherwise.
// full is the size that its route would need.
func (c *candidate) answer(tx disco.TxID, now time.Time, full int) (rtt time.Duration, ok bool) {
	for i, s := range c.waiting {
		if s.at.IsZero() || s.tx != tx {
			continue
		}
		c.waiting[i] = sent{}
		if rtt = now.Sub(s.at); rtt > answerIn {
			return 0, false
		}
		if c.rtt == 0 {
			c.rtt = rtt
		}
		c.rtt += (rtt - c.rtt) / 8 // RFC 6298's weight
		if s.size > 0 {
			c.size.proved(s.size, full)
		}
		c.pong, c.heard, c.known, c.silent = now, now, now, time.Time{}
		c.proof++
		return rtt, true
	}
	return 0, false
}

// answers reports whether the address may become the route, if it is wide enough: it
// answered just now, and after losses more than once, so that a bad path does not flap.
func (c *candidate) answers(now time.Time) bool {
	return !c.pong.IsZero() && now.Sub(c.pong) < fresh &&
		(c.silent.IsZero() || now.Sub(c.silent) < retryMax) &&
		c.proof > min(c.losses, len(tryAt)-1)
}

// retry is the distance between pings while one is unanswered.
func (c *candidate) retry() time.Duration { return min(max(c.rtt, retryMin), retryMax) }

// startRound schedules the round's pings.
func (c *candidate) startRound(now time.Time) { c.tries, c.next = 0, now }

// askOnce schedules one ping outside of any round.
func (c *candidate) askOnce(now time.Time) { c.tries, c.next = len(tryAt)-1, now }

// advance schedules the ping after the one just sent.
func (c *candidate) advance() {
	if c.tries++; c.tries >= len(tryAt) {
		c.next = time.Time{}
		return
	}
	c.next = c.next.Add(tryAt[c.tries] - tryAt[c.tries-1])
}

// rank orders kinds of address: the same network, then IPv6, which needs no
// mapping, then the rest.
func rank(addr netip.Addr, local []netip.Addr) int {
	for _, l := range local {
		if near(addr, l) {
			return 2
		}
	}
	if addr.Is6() {
		return 1
	}
	return 0
}

// near reports whether two addresses are of one network, as far as addresses alone
// tell: private IPv4 of the same /24, IPv6 of the same /64, the machine itself.
func near(a, b netip.Addr) bool {
	if a == b || a.IsLoopback() {
		return true
	}
	if a.Is4() != b.Is4() {
		return false
	}
	bits := 64
	if a.Is4() {
		if !a.IsPrivate() && !a.IsLinkLocalUnicast() {
			return false
		}
		bits = 24
	}
	p, err := a.Prefix(bits)
	return err == nil && p.Contains(b)
}
