package link

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"tailscale.com/net/stun"

	"enclave/wire"
)

// The rhythm of STUN. The requests leave from the data socket, so each round also
// keeps its mapping, of which RFC 4787 REQ-5 lets a NAT forget the idle ones, and
// many do after 30 seconds.
const (
	stunEvery   = 20 * time.Second // and up to stunJitter more
	stunJitter  = 7 * time.Second
	stunFull    = 5 * time.Minute // every relay is asked, not the home alone
	stunTimeout = 3 * time.Second
	stunPerName = 2 // addresses taken of one name
)

// stunTries are the requests to one server (RFC 8489 section 6.2.1, shortened).
var stunTries = [...]time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond}

// stunState is what STUN has taught. It is guarded by Link.mu.
type stunState struct {
	asked    map[stun.TxID]stunQuestion
	answers  map[netip.AddrPort]netip.AddrPort // of this round: server -> our address
	heard    map[wire.RelayID]bool             // answered in this round
	nat      string
	udp      bool
	hurried  time.Time        // when a round was last asked for out of its turn
	observed []netip.AddrPort // IPv4 first, then IPv6; one each unless the mapping varies
}

type stunQuestion struct {
	relay wire.RelayID
	to    netip.AddrPort
	at    time.Time
}

type stunTarget struct {
	relay wire.RelayID
	to    netip.AddrPort
}

// isSTUN reports whether b has the shape of a STUN message (RFC 8489 section 5).
func isSTUN(b []byte) bool {
	return len(b) >= 20 && b[0]&0xc0 == 0 && binary.BigEndian.Uint32(b[4:]) == 0x2112a442
}

// probeRelays asks the relays' STUN servers where we are, for ever.
func (l *Link) probeRelays(ctx context.Context) {
	var fullAt time.Time
	for ctx.Err() == nil {
		full := l.homeless() || fullAt.IsZero() || time.Since(fullAt) > stunFull
		relays := l.relayList()
		targets := l.stunTargets(ctx, relays, full)
		answered := l.stunRound(ctx, targets, full)
		if full {
			l.timeRelays(ctx, relays)
			fullAt = time.Now()
		} else if !answered {
			fullAt = time.Time{} // the home is mute: ask everybody, now
			continue
		}
		select {
		case <-ctx.Done():
		case <-l.probe:
			fullAt = time.Time{}
		case <-time.After(stunEvery + rand.N(stunJitter)):
		}
	}
}

// askAgainLocked has the STUN servers asked now: a direct path that falls silent is often
// a mapping that has changed, and the peer cannot call an address that we do not know.
func (l *Link) askAgainLocked(now time.Time) {
	if now.Sub(l.stun.hurried) < hurryGap {
		return
	}
	l.stun.hurried = now
	select {
	case l.probe <- struct{}{}:
	default:
	}
}

// hurryGap is the least distance between two such rounds, however many paths are lost.
const hurryGap = 5 * time.Second

func (l *Link) relayList() []wire.Relay {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.relays.list // replaced, never changed
}

func (l *Link) homeless() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.relays.home == ""
}

// stunTargets resolves the servers to ask.
func (l *Link) stunTargets(ctx context.Context, relays []wire.Relay, full bool) (out []stunTarget) {
	l.mu.Lock()
	home := l.relays.home
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, stunTimeout)
	defer cancel()
	for _, r := range relays {
		if !full && r.ID != home {
			continue
		}
		for _, s := range r.STUN[:min(len(r.STUN), 4)] {
			addrs, err := resolve(ctx, l.cfg.Network, s, stunPerName)
			if err != nil {
				l.log.Debug("STUN server does not resolve", "relay", r.ID, "server", s, "err", err)
			}
			for _, a := range addrs {
				out = append(out, stunTarget{r.ID, a})
			}
		}
	}
	return out
}

// stunRound asks the targets, waits for the answers and reports whether any came.
func (l *Link) stunRound(ctx context.Context, targets []stunTarget, full bool) bool {
	l.mu.Lock()
	l.stun.asked = make(map[stun.TxID]stunQuestion)
	l.stun.answers = make(map[netip.AddrPort]netip.AddrPort)
	l.stun.heard = make(map[wire.RelayID]bool)
	l.mu.Unlock()
	if len(targets) == 0 {
		return true
	}
	begun := time.Now()
	for _, at := range stunTries {
		if !sleep(ctx, time.Until(begun.Add(at))) {
			return true
		}
		for _, t := range targets {
			tx := stun.NewTxID()
			l.mu.Lock()
			_, done := l.stun.answers[t.to]
			if !done {
				l.stun.asked[tx] = stunQuestion{t.relay, t.to, time.Now()}
			}
			l.mu.Unlock()
			if !done {
				_ = l.writeOne(stun.Request(tx), &route{direct: t.to}) // an unreachable family is an answer too
			}
		}
	}
	if !sleep(ctx, time.Until(begun.Add(stunTimeout))) {
		return true
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	answered := len(l.stun.answers) > 0
	if answered || full {
		l.concludeLocked(true)
	}
	l.relays.chooseLocked(l, now)
	return answered
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// hearSTUN takes an answer. It counts when it was asked for, from there, once.
func (l *Link) hearSTUN(b []byte, from netip.AddrPort) {
	tx, addr, err := stun.ParseResponse(b)
	if err != nil || !addr.IsValid() || addr.Port() == 0 { // before the lock: anybody can send such
		l.drops.badSTUN.Add(1)
		l.shield.stray()
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	q, ok := l.stun.asked[tx]
	if !ok || q.to != from {
		l.drops.badSTUN.Add(1)
		l.shield.stray()
		return
	}
	delete(l.stun.asked, tx)
	first := len(l.stun.answers) == 0
	l.stun.answers[from] = addr
	l.stun.heard[q.relay] = true
	l.relays.timed(q.relay, now.Sub(q.at)) // one relay has several servers; the best of them speaks for it
	if first && !slices.Contains(l.stun.observed, addr) {
		// New, or moved: peers should hear of it now, not at the end of the round.
		l.concludeLocked(false)
	}
}

// concludeLocked turns the answers of the round into what we know. Before the round
// is over, an answer that is missing yet takes nothing back.
func (l *Link) concludeLocked(over bool) {
	s := &l.stun
	was := s.nat
	var four, six []netip.AddrPort
	for _, a := range s.answers {
		list := &four
		if a.Addr().Is6() {
			list = &six
		}
		if !slices.Contains(*list, a) {
			*list = append(*list, a)
		}
	}
	s.udp = len(four)+len(six) > 0
	if answered4, answered6 := len(four) > 0, len(six) > 0; !over {
		for _, a := range s.observed {
			if a.Addr().Is4() && !answered4 {
				four = append(four, a)
			} else if a.Addr().Is6() && !answered6 {
				six = append(six, a)
			}
		}
	}
	slices.SortFunc(four, netip.AddrPort.Compare)
	slices.SortFunc(six, netip.AddrPort.Compare)
	s.observed = append(four, six...)
	s.nat = l.kindOfNAT(four, six)
	if !over && was == NATHard && s.nat == NATEasy {
		s.nat = was // one mapping alone does not vary
	}
	if was != s.nat {
		l.log.Info("network", "nat", s.nat, "observed", s.observed)
	}
	l.tell = true
	l.wake()
}

// kindOfNAT judges by IPv4, and by IPv6 where there is nothing else.
func (l *Link) kindOfNAT(four, six []netip.AddrPort) string {
	seen := four
	if len(four) == 0 {
		seen = six
	}
	switch {
	case len(seen) == 0:
		return NATBlocked
	case len(seen) > 1:
		return NATHard
	case seen[0].Port() == l.udp.port() && (slices.Contains(l.local, seen[0].Addr()) || seen[0].Addr().IsLoopback()):
		return NATNone
	}
	return NATEasy
}
