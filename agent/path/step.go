package path

import (
	"net/netip"
	"time"

	"enclave/wire/disco"
)

// Ping is a probe to send.
type Ping struct {
	To netip.AddrPort
	Tx disco.TxID
	// Size is what the datagram is to be padded to, in bytes; 0: as it is.
	Size int
	// Side is from which of the sockets beside the main one it goes; 0: from the main one.
	Side int
}

// Output is what a Step asks for.
type Output struct {
	Pings     []Ping
	CallMe    bool             // send the peer a call-me through the relay, or the stream
	Dial      []netip.AddrPort // look for the peer at these by TCP
	Route     Route            // for data, from now on
	Changed   bool             // the route is not that of the step before
	Lost      bool             // a direct route fell silent, or turned out to be too narrow
	Size      int              // see Peer.Size
	Resized   bool             // Size is not that of the step before
	Forgotten []netip.AddrPort // addresses that are the peer's no longer
	Next      time.Time        // when to step again if nothing happens; after now
}

// Step looks at what was heard and at the time.
func (p *Peer) Step(now time.Time) Output {
	var out Output
	p.expire(now)
	if p.silent(now) {
		p.lose(now)
		out.Lost = true
	}
	if p.sizeUp(now) {
		p.lose(now)
		out.Lost = true
	}
	p.choose(now)
	p.schedule(now, &out)
	p.probe(now, &out)
	p.sizePings(now, &out)
	p.sendGuess(now, &out)
	p.sprayPing(now, &out)
	out.Dial = p.seekStream(now)
	out.Size = p.Size()
	out.Resized, p.size = out.Size != p.size, out.Size

	out.Forgotten, p.forgotten = p.forgotten, nil
	out.Route.Relay = p.relay
	if p.route != nil {
		out.Route.Direct = p.route.addr
	} else {
		out.Route.Stream = p.stream.up
	}
	if out.Changed = out.Route != p.last; out.Changed {
		p.since, p.before, p.last = now, p.last, out.Route
		p.changes++
	}
	out.Next = p.next(now)
	return out
}

// expire forgets addresses that nobody names and nobody uses.
func (p *Peer) expire(now time.Time) {
	for i := len(p.cands) - 1; i >= 0; i-- {
		c := p.cands[i]
		if c.from == 0 && c != p.route && now.Sub(c.known) > staleAfter {
			p.forget(i)
		}
	}
	if c := p.route; c != nil && c.losses > 0 && now.Sub(p.since) > stableAfter {
		c.losses = 0
	}
}

// silent reports whether the direct route has to be given up.
func (p *Peer) silent(now time.Time) bool {
	c := p.route
	return c != nil && (now.Sub(c.pong) >= Consent || !c.silent.IsZero() && now.Sub(c.silent) >= p.patience(now))
}

func (p *Peer) patience(now time.Time) time.Duration {
	if p.active(now) {
		return lostActive
	}
	return lostIdle
}

// lose gives up the direct route: data takes the relay from this step on.
func (p *Peer) lose(now time.Time) {
	p.route.losses++
	p.route.proof = 0
	p.route = nil
	p.lost, p.stream.alone = now, now
	p.sprayAnew()
	p.again()
}

// choose makes the best address that answered the route.
func (p *Peer) choose(now time.Time) {
	for _, c := range p.cands {
		if c != p.route && c.answers(now) && p.wide(c) && (p.route == nil || p.better(c, p.route)) {
			p.route = c
		}
	}
}

// better reports whether a is worth leaving b for.
func (p *Peer) better(a, b *candidate) bool {
	if ra, rb := rank(a.addr.Addr(), p.local), rank(b.addr.Addr(), p.local); ra != rb {
		return ra > rb
	}
	return a.rtt < b.rtt-max(b.rtt/5, worthIt)
}

// schedule starts a round when one is due.
func (p *Peer) schedule(now time.Time, out *Output) {
	if at := p.roundDue(now); at.After(now) {
		return
	}
	ours := p.wantCall || !p.wantRound
	called := p.wantCall || p.route == nil
	for _, c := range p.cands {
		if c != p.route {
			c.startRound(now)
		}
	}
	p.roundAt, p.wantRound, p.wantCall = now, false, false
	p.guess(now)
	if !ours {
		return // a round that the peer called for does not put off our own call
	}
	out.CallMe = (p.relay != "" || p.stream.up.IsValid()) && called
	p.nextRound = now.Add(p.jitter(p.backoff))
	p.backoff = min(2*p.backoff, lastRetry)
}

// roundDue is when the next round starts.
func (p *Peer) roundDue(now time.Time) time.Time {
	at := p.nextRound
	switch {
	case p.wantRound:
		at = time.Time{}
	case p.route != nil && !p.active(now):
		return now.Add(keepIdle) // nothing to improve while nothing is sent
	case p.route != nil:
		at = p.roundAt.Add(upgradeEvery)
	case !p.active(now):
		at = p.roundAt.Add(idleRetry)
	}
	if !p.roundAt.IsZero() && at.Before(p.roundAt.Add(roundGap)) {
		at = p.roundAt.Add(roundGap)
	}
	return at
}

// probe sends what is due: the route's keepalive, and one ping of the round.
func (p *Peer) probe(now time.Time, out *Output) {
	if c := p.route; c != nil && !p.keepDue(now).After(now) {
		p.send(c, now, out)
	}
	if now.Sub(p.probed) < probeGap {
		return
	}
	if c := p.nextProbe(); c != nil && !c.next.After(now) {
		c.advance()
		p.send(c, now, out)
		p.probed = now
	}
}

func (p *Peer) send(c *candidate, now time.Time, out *Output) {
	tx := p.newTx()
	c.ping(tx, now)
	out.Pings = append(out.Pings, Ping{To: c.addr, Tx: tx})
}

// keepDue is when the route is to be pinged.
func (p *Peer) keepDue(now time.Time) time.Time {
	c := p.route
	switch {
	case !c.silent.IsZero():
		return c.asked.Add(c.retry())
	case p.active(now):
		return c.asked.Add(keepActive)
	}
	return c.asked.Add(keepIdle)
}

// nextProbe is the address whose turn it is in the round: the earliest, and among
// those the one that would make the best route.
func (p *Peer) nextProbe() (best *candidate) {
	for _, c := range p.cands {
		if c.next.IsZero() {
			continue
		}
		if best == nil || c.next.Before(best.next) ||
			c.next.Equal(best.next) && rank(c.addr.Addr(), p.local) > rank(best.addr.Addr(), p.local) {
			best = c
		}
	}
	return best
}

// next is when Step has something to do again.
func (p *Peer) next(now time.Time) time.Time {
	at := p.roundDue(now)
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if c := p.route; c != nil {
		sooner(p.keepDue(now))
		sooner(c.pong.Add(Consent))
		if !c.silent.IsZero() {
			sooner(c.silent.Add(p.patience(now)))
		}
	}
	if c := p.nextProbe(); c != nil {
		t := c.next
		if gap := p.probed.Add(probeGap); t.Before(gap) {
			t = gap
		}
		sooner(t)
	}
	p.sizeDue(now, sooner)
	if t, ok := p.sprayDue(now); ok {
		sooner(t)
	}
	if len(p.guesses) > 0 {
		sooner(p.guessAt)
	}
	if at, ok := p.streamDue(now); ok {
		sooner(at)
	}
	for _, c := range p.cands {
		if c.from == 0 && c != p.route {
			sooner(c.known.Add(staleAfter + time.Millisecond))
		}
	}
	if soonest := now.Add(time.Millisecond); at.Before(soonest) {
		at = soonest // never a busy loop, whatever was computed above
	}
	return at
}

// jitter spreads d by up to a tenth either way, so that pairs that lost their paths
// together do not probe together for ever.
func (p *Peer) jitter(d time.Duration) time.Duration {
	tx := p.newTx()
	return d - d/10 + d/5*time.Duration(tx[0])/255
}
