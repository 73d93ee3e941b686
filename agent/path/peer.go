package path

import (
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/disco"
)

// Peer is the state of one pair, seen from one side. It is not safe for concurrent
// use. After any method that takes now, Step is due.
type Peer struct {
	newTx   func() disco.TxID
	local   []netip.Addr
	cands   []*candidate
	relay   wire.RelayID
	predict int              // guesses of a round
	guesses []netip.AddrPort // of this round, still to be sent
	guessAt time.Time
	full    int       // the size that data needs; 0: whatever
	nats    [2]string // ours, theirs

	route     *candidate // nil: not direct
	since     time.Time  // of the route, relayed or direct
	last      Route      // as Step returned it
	before    Route      // as the step before the last change returned it
	changes   uint64
	traffic   time.Time // last data, either way
	lost      time.Time // when a direct route was last given up
	size      int       // as Step returned it
	probed    time.Time // last ping of a round
	roundAt   time.Time // start of the last round
	nextRound time.Time
	backoff   time.Duration
	wantRound bool // as soon as roundGap allows
	wantCall  bool // the round is ours to announce
	forgotten []netip.AddrPort
	stream    streaming
	spray     spraying
}

// New returns a pair that has just been introduced. newTx gives unguessable IDs.
func New(now time.Time, newTx func() disco.TxID) *Peer {
	return &Peer{newTx: newTx, since: now, traffic: now, backoff: firstRetry, wantRound: true, wantCall: true,
		stream: streaming{alone: now}}
}

// SetCandidates replaces what the map names. Addresses that answered stay known
// until they are stale, for the map may be older than what was heard.
func (p *Peer) SetCandidates(now time.Time, cands []wire.Candidate) {
	var addrs, streams []netip.AddrPort
	for _, c := range cands[:min(len(cands), wire.MaxCandidates)] {
		if c.Kind == wire.TCPCandidate {
			streams = append(streams, c.Addr)
		} else {
			addrs = append(addrs, c.Addr)
		}
	}
	p.stream.name(streams)
	if p.merge(now, named, addrs) {
		p.again()
	}
}

// HearCallMe takes the peer's request to be pinged. It comes through a relay, and
// the peer is probing at the same time, so no call goes back.
func (p *Peer) HearCallMe(now time.Time, addrs []netip.AddrPort) {
	p.merge(now, called, addrs[:min(len(addrs), wire.MaxCandidates)])
	p.wantRound = true
}

// merge makes addrs the addresses of one source and reports whether any is new.
func (p *Peer) merge(now time.Time, source uint8, addrs []netip.AddrPort) (added bool) {
	for _, c := range p.cands {
		c.from &^= source
	}
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
		known := p.find(a) != nil
		if c := p.add(now, a); c != nil {
			c.from |= source
			added = added || !known
		}
	}
	return added
}

// SetLocal tells the addresses of this system, by which nearness is judged.
func (p *Peer) SetLocal(local []netip.Addr) { p.local = local }

// SetRelay tells the relay through which the peer can be reached now; empty is none.
func (p *Peer) SetRelay(id wire.RelayID) {
	if p.relay == "" && id != "" && p.route == nil {
		p.again() // the peer can be called now
	}
	p.relay = id
}

// SetNATs tells the kinds of NAT of both sides. They explain, and decide only what is
// worth guessing.
func (p *Peer) SetNATs(ours, theirs string) {
	if kinds := [2]string{ours, theirs}; kinds != p.nats {
		p.nats = kinds
		p.sprayAnew()
	}
}

// Traffic tells when data last went to or came from the peer.
func (p *Peer) Traffic(now, at time.Time) {
	if !at.After(p.traffic) {
		return
	}
	idle := !p.active(now)
	p.traffic = at
	if idle && p.active(now) && p.route == nil {
		p.again()
	}
}

// Moved tells that this system's network changed. What worked may not: the route
// must prove itself within lostActive, and everything is probed anew.
func (p *Peer) Moved(now time.Time) {
	if c := p.route; c != nil && c.silent.IsZero() {
		c.silent = now
		c.asked = time.Time{}
	}
	p.sprayAnew()
	p.again()
}

// Renamed tells that our own addresses, as we would name them in a call, changed. A
// peer that cannot reach us is told, if there is anything to carry.
func (p *Peer) Renamed(now time.Time) {
	if p.route == nil && p.active(now) {
		p.again()
	}
}

// Failed tells that the system refused to send to addr. No ping needs to be waited
// for.
func (p *Peer) Failed(now time.Time, addr netip.AddrPort) {
	if c := p.route; c != nil && c.addr == addr {
		p.lose(now)
	}
}

// HearPing takes an authenticated ping. An address that we have no answer from is
// pinged in turn: what the peer's packets come from is likely open. Once, for each
// ping, so that a peer that forges the source cannot make us send more than it does.
func (p *Peer) HearPing(now time.Time, from netip.AddrPort) {
	c := p.add(now, from)
	if c == nil {
		return
	}
	c.heard, c.known = now, now
	if c != p.route && now.Sub(c.pong) > keepActive && c.next.IsZero() && now.Sub(c.asked) >= retryMin {
		c.askOnce(now)
	}
}

// HearPong takes an authenticated pong. It reports the round trip, and whether it
// answers a ping that was sent to that address and not answered before.
func (p *Peer) HearPong(now time.Time, from netip.AddrPort, tx disco.TxID) (time.Duration, bool) {
	c := p.find(from)
	if c == nil {
		return 0, false
	}
	return c.answer(tx, now, p.full)
}

// Since returns when the route last changed, RTT the round trip of the direct path.
func (p *Peer) Since() time.Time { return p.since }

// Before returns the route before the last change, and how often it has changed.
func (p *Peer) Before() (Route, uint64) { return p.before, p.changes }

// RTT returns the smoothed round trip of the direct path, 0 when relayed.
func (p *Peer) RTT() time.Duration {
	if p.route == nil {
		return 0
	}
	return p.route.rtt
}

// Why says why the pair is not direct.
func (p *Peer) Why(now time.Time) Why {
	narrow := slices.ContainsFunc(p.cands, func(c *candidate) bool {
		return !c.pong.IsZero() && now.Sub(c.pong) < Consent && !c.size.begun.IsZero() && !p.wide(c)
	})
	heard := slices.ContainsFunc(p.cands, func(c *candidate) bool {
		return !c.heard.IsZero() && now.Sub(c.heard) < Consent
	})
	switch {
	case p.route != nil:
		return WhyDirect
	case p.nats[0] == "blocked":
		return WhyUDPBlocked
	case p.nats[1] == "blocked":
		return WhyUDPThere
	case len(p.cands) == 0:
		return WhyNoCandidates
	case narrow:
		return WhyNarrow
	case !p.lost.IsZero() && now.Sub(p.lost) < 2*firstRetry:
		return WhyLost
	case p.wantRound || now.Sub(p.roundAt) < tryAt[len(tryAt)-1]+retryMax:
		return WhyProbing
	case heard:
		return WhyOneWay
	case p.nats[0] == "hard" && p.nats[1] == "hard":
		return WhyHardNAT
	case p.nats[0] == "hard":
		return WhyHardHere
	case p.nats[1] == "hard":
		return WhyHardThere
	case p.relay == "":
		return WhyNoRelay
	}
	return WhyNoAnswer
}

func (p *Peer) active(now time.Time) bool { return now.Sub(p.traffic) < activeFor }

// again asks for a round of our own, with the back-off forgotten.
func (p *Peer) again() {
	p.wantRound, p.wantCall, p.backoff = true, true, firstRetry
	p.stream.again()
}

func (p *Peer) find(a netip.AddrPort) *candidate {
	for _, c := range p.cands {
		if c.addr == a {
			return c
		}
	}
	return nil
}

// add finds or makes the candidate for a. When the list is full, the address that
// nobody names and that was silent longest makes room; named ones never do.
func (p *Peer) add(now time.Time, a netip.AddrPort) *candidate {
	if c := p.find(a); c != nil {
		return c
	}
	if !disco.Sendable(a) {
		return nil
	}
	if len(p.cands) >= maxCandidates {
		oldest := -1
		for i, c := range p.cands {
			if c.from == 0 && c != p.route && (oldest < 0 || c.known.Before(p.cands[oldest].known)) {
				oldest = i
			}
		}
		if oldest < 0 {
			return nil
		}
		p.forget(oldest)
	}
	c := &candidate{addr: a, known: now}
	p.cands = append(p.cands, c)
	return c
}

func (p *Peer) forget(i int) {
	p.forgotten = append(p.forgotten, p.cands[i].addr)
	p.cands = slices.Delete(p.cands, i, i+1)
}

// Active reports whether the pair has carried data, or was introduced, lately.
func (p *Peer) Active(now time.Time) bool { return p.active(now) }

// Knows reports whether a is an address of the peer, as far as is known.
func (p *Peer) Knows(a netip.AddrPort) bool { return p.find(a) != nil }
