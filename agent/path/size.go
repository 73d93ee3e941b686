package path

import (
	"net/netip"
	"time"
)

// A path has a size: the largest datagram that gets through, in bytes of UDP payload. It
// is never believed and always tried (RFC 8899): a ping padded to a size is answered or
// not. Routers that say "too big" are helpful, and many are silent.
const (
	// MinSize is what a direct path has to carry where there is a relay beside it: what
	// every host takes by IPv4 (RFC 791), without its headers. TCP inside is cut to the
	// size that is proven (decision 0173), so that less than this would carry headers.
	MinSize = 576 - 20 - 8

	// sizeEvery is how often the size of an active route is tried again: a path whose
	// narrowest link changes goes on answering small pings.
	sizeEvery = 10 * time.Second

	// raiseEvery is how often more than the proven size is tried (RFC 8899 section 5.1.1).
	raiseEvery = 10 * time.Minute

	// sizeAgain is when an address that was too narrow is tried again, as a candidate.
	sizeAgain = 20 * time.Second
)

// sizeAt is when, after the beginning, a size is tried that was not answered.
var sizeAt = [...]time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond}

// sizeLast is when the last answer is waited for.
const sizeLast = 1900 * time.Millisecond

// ladder is what is tried when the full size does not get through: Ethernet by IPv4 and
// IPv6, then with the headers of the usual tunnels, what every IPv6 link takes, and steps
// down to the minimum. All rungs of two tries fit maxWaiting.
var ladder = [...]int{1472, 1452, 1412, 1372, 1332, 1312, 1280, 1232, 1024, 768, MinSize}

// sizing is what is known of the size of one address.
type sizing struct {
	size    int       // proven; 0: nothing
	begun   time.Time // of the last trial; zero: there was none
	checked time.Time // when size was last tried
	tries   int
	next    time.Time // of the trial's next pings, or of its end; zero: none is under way
	check   bool      // the trial is only whether size still holds
}

// SetSize tells the largest datagram that data needs; 0 is for who does not care.
func (p *Peer) SetSize(full int) { p.full = full }

// Size is the largest datagram that the direct route is known to carry, while that is
// less than data may need; 0: all of them.
func (p *Peer) Size() int {
	if c := p.route; c != nil && c.size.size < p.full {
		return max(c.size.size, 1)
	}
	return 0
}

// TooBig tells that the system would not send a datagram of some size to addr: its
// kernel has heard of a narrower link.
func (p *Peer) TooBig(now time.Time, addr netip.AddrPort) {
	if c := p.route; c != nil && c.addr == addr && p.full > 0 && now.Sub(c.size.begun) >= time.Second {
		c.size = sizing{begun: now, checked: now, next: now}
	}
}

// wide reports whether c carries enough to be the route.
func (p *Peer) wide(c *candidate) bool {
	return p.full == 0 || p.relay == "" || c.size.size >= min(MinSize, p.full)
}

// sizeUp begins and ends trials: of what answers and could be a better route, and of the
// route. It reports whether the route has turned out to be too narrow.
func (p *Peer) sizeUp(now time.Time) (narrow bool) {
	if p.full == 0 {
		return false
	}
	for _, c := range p.cands {
		s := &c.size
		if !s.next.IsZero() {
			if s.tries == len(sizeAt) && !now.Before(s.next) {
				s.next = time.Time{}
				if s.check { // it held no more: from the beginning
					*s = sizing{begun: now, checked: now, next: now}
				} else if c == p.route && !p.wide(c) {
					narrow = true
				}
			}
			continue
		}
		again := !s.begun.IsZero()
		switch since := now.Sub(s.begun); {
		case c == p.route && s.size == 0 && (!again || since >= sizeAgain),
			c == p.route && s.size < p.full && since >= raiseEvery,
			c != p.route && s.size == 0 && (!again || since >= sizeAgain) && c.answers(now) && (p.route == nil || p.better(c, p.route)):
			s.begun, s.checked, s.next, s.tries, s.check = now, now, now, 0, false
		case c == p.route && s.size > 0 && now.Sub(s.checked) >= sizeEvery && p.active(now) && c.silent.IsZero():
			s.checked, s.next, s.tries, s.check = now, now, 0, true
		}
	}
	return narrow
}

// sizeDue is when sizeUp or sizePings has something to do.
func (p *Peer) sizeDue(now time.Time, sooner func(time.Time)) {
	if p.full == 0 {
		return
	}
	for _, c := range p.cands {
		if !c.size.next.IsZero() {
			sooner(c.size.next)
		}
	}
	if c := p.route; c != nil && c.size.next.IsZero() && c.size.size > 0 && p.active(now) && c.silent.IsZero() {
		sooner(c.size.checked.Add(sizeEvery))
	}
}

// sizePings sends the pings of trials that are due.
func (p *Peer) sizePings(now time.Time, out *Output) {
	for _, c := range p.cands {
		s := &c.size
		if s.next.IsZero() || now.Before(s.next) || s.tries == len(sizeAt) {
			continue
		}
		switch {
		case s.check:
			p.sendSized(c, now, s.size, out)
		case s.tries == 0 && s.size < MinSize && MinSize < p.full:
			p.sendSized(c, now, p.full, out)
			p.sendSized(c, now, MinSize, out)
		case s.tries == 0:
			p.sendSized(c, now, p.full, out)
		default:
			p.sendSized(c, now, p.full, out)
			for _, size := range ladder {
				if size < p.full && size > s.size {
					p.sendSized(c, now, size, out)
				}
			}
		}
		if s.tries++; s.tries < len(sizeAt) {
			s.next = s.next.Add(sizeAt[s.tries] - sizeAt[s.tries-1])
		} else {
			s.next = s.next.Add(sizeLast - sizeAt[len(sizeAt)-1])
		}
	}
}

func (p *Peer) sendSized(c *candidate, now time.Time, size int, out *Output) {
	tx := p.newTx()
	c.waiting[c.pings%maxWaiting] = sent{tx, now, size}
	c.pings++
	out.Pings = append(out.Pings, Ping{To: c.addr, Tx: tx, Size: size})
}

// proved takes the answer to a padded ping.
func (s *sizing) proved(size, full int) {
	s.size = max(s.size, size)
	if s.check || s.size >= full {
		s.next = time.Time{} // nothing more to learn
	}
}
