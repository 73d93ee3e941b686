package link

import (
	"context"
	"sync"
	"time"

	"enclave/wire"
)

// How far relays are is told by STUN. Where UDP does not pass, opening a TCP connection
// tells as much: one round trip, and through a proxy that connects before it answers, the
// way beyond it too. It is asked for as seldom as all STUN servers are, and only when
// there is a choice to make.

const (
	timedAtOnce = 4
	timedWithin = 3 * time.Second
	timedEvery  = 4 * time.Minute // at most, however often STUN is asked
)

// timeRelays measures those of the relays, all asked, that did not answer by STUN.
func (l *Link) timeRelays(ctx context.Context, relays []wire.Relay) {
	if len(relays) < 2 {
		return
	}
	l.mu.Lock()
	mute := make(map[wire.RelayID]string)
	for _, r := range relays {
		if !l.stun.heard[r.ID] && time.Since(l.relays.timedAt[r.ID]) >= timedEvery {
			l.relays.timedAt[r.ID] = time.Now()
			mute[r.ID] = r.Addr
		}
	}
	l.mu.Unlock()
	slots := make(chan struct{}, timedAtOnce)
	var all sync.WaitGroup
	for id, addr := range mute {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, timedWithin)
			defer cancel()
			begun := time.Now()
			c, err := l.dialTCP()(ctx, "tcp", addr)
			took := max(time.Since(begun), 1)
			if err == nil {
				c.Close()
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.relays.conns[id] == nil || l.stun.heard[id] {
				return
			}
			if err != nil {
				delete(l.relays.rtt, id)
				return
			}
			l.relays.timed(id, took)
		})
	}
	all.Wait()
	if len(mute) > 0 && ctx.Err() == nil {
		l.mu.Lock()
		l.relays.chooseLocked(l, time.Now())
		l.mu.Unlock()
		l.wake()
	}
}

// timed takes a measurement: a shorter one at once, a longer one slowly, for what makes
// a round trip longer is mostly not the way.
func (s *relaySet) timed(id wire.RelayID, rtt time.Duration) {
	if old := s.rtt[id]; old != 0 && rtt > old {
		rtt = old + (rtt-old)/8
	}
	s.rtt[id] = max(rtt, 1)
}
