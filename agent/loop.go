package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// errResync asks for a new stream, which begins with a full map.
var errResync = errors.New("the map has a gap; asking for a full one")

// loop owns the agent's state. It applies messages, runs the instants that the map
// carries, and publishes a view after every change.
func (a *Agent) loop(ctx context.Context, p *parts, messages <-chan *wire.Message) error {
	l := &looper{Agent: a, parts: p}
	l.status = api.ControlStatus{URL: a.cfg.Control}
	l.recall(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		select {
		case m := <-messages:
			err = l.message(m, time.Now())
		case <-timer.C:
			err = l.tick(time.Now())
		case <-a.events.wake:
			for _, ev := range a.events.take() {
				l.event(ev)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		l.publish()
		timer.Reset(l.untilNext(time.Now()))
	}
}

// looper is the loop's own state; nothing else touches it.
type looper struct {
	*Agent
	parts    *parts
	m        wire.Map // as applied: peers that verify and have a grant now
	have     bool
	closed   bool // the map's life is over
	applied  wire.Revision
	reach    *wire.Reach
	rejected []api.RejectedPeer
	status   api.ControlStatus
	next     time.Time // next instant of the filter
	saved    time.Time // when the state was last handed to the saver
}

// saveBeat is how often an extended validity is written down when nothing else
// changes: an agent that restarts without control loses at most so much of it.
const saveBeat = 10 * time.Minute

// recall applies the stored map, so that an agent starts without control.
func (l *looper) recall(now time.Time) {
	if len(l.st.Map) == 0 {
		return
	}
	var m wire.Map
	if err := json.Unmarshal(l.st.Map, &m); err != nil {
		l.log.Warn("the stored map is unreadable; waiting for control", "error", err)
		return
	}
	if !m.ValidUntil.IsZero() && !now.Before(m.ValidUntil) {
		l.log.Warn("the stored map is too old; waiting for control", "valid_until", m.ValidUntil)
		return
	}
	// The peers' certificates were verified when the map came; they are verified
	// again as of then, since some may have been renewed meanwhile.
	if err := l.install(m, "restart", l.st.MapAt, now); err != nil {
		l.log.Warn("the stored map does not apply; waiting for control", "error", err)
	}
}

func (l *looper) message(m *wire.Message, now time.Time) error {
	l.heard(now)
	switch {
	case m.Map != nil:
		if m.Map.Revision < l.st.Seen {
			return fmt.Errorf("map: %w: have seen %d, got %d", wire.ErrOldRevision, l.st.Seen, m.Map.Revision)
		}
		if len(m.Map.Peers) > wire.MaxPeers || len(m.Map.Relays) > wire.MaxRelays {
			return fmt.Errorf("map: more than %d peers or %d relays", wire.MaxPeers, wire.MaxRelays)
		}
		return l.install(*m.Map, "policy", now, now)
	case m.Delta != nil:
		next := l.m
		next.Peers = slices.Clone(l.m.Peers)
		if err := next.Apply(m.Delta); err != nil {
			return fmt.Errorf("delta: %w", err)
		}
		return l.install(next, "policy", now, now)
	case m.Heartbeat != nil:
		l.status.ClockSkew = m.Heartbeat.Now.Sub(now).Round(time.Millisecond)
		if m.Heartbeat.Revision == l.m.Revision && !l.closed {
			l.m.ValidUntil = m.Heartbeat.ValidUntil
			if now.Sub(l.saved) > saveBeat {
				l.remember(now)
			}
		}
	}
	return nil
}

func (l *looper) heard(now time.Time) {
	if !l.status.Connected {
		l.status = api.ControlStatus{URL: l.cfg.Control, Connected: true, Since: now, ClockSkew: l.status.ClockSkew}
	}
	l.status.LastHeard = now
}

func (l *looper) event(ev event) {
	switch {
	case ev.control != nil:
		last := l.status.LastHeard
		l.status = *ev.control
		l.status.LastHeard = last
	case ev.reach != nil:
		l.reach = ev.reach
	case ev.svid != nil:
		l.st.SVID = ev.svid
		l.remember(time.Now())
	}
}

// install makes m the map: peers that do not verify or have no grant now are left
// out. asOf is the instant at which certificates are judged.
func (l *looper) install(m wire.Map, cause string, asOf, now time.Time) error {
	l.rejected = nil
	m.Peers = slices.DeleteFunc(m.Peers, func(p wire.Peer) bool {
		if err := l.verify(&p, asOf); err != nil {
			l.rejected = append(l.rejected, api.RejectedPeer{ID: p.ID, Reason: err.Error()})
			l.log.Warn("control names a peer that does not verify", "peer", p.ID, "error", err)
			return true
		}
		return !granted(&p, now)
	})
	if err := l.parts.apply(&m, cause, now); err != nil {
		return err
	}
	l.m, l.have, l.closed = m, true, false
	l.applied = m.Revision
	l.st.Seen = max(l.st.Seen, m.Revision)
	l.st.MapAt = asOf
	l.remember(now)
	return nil
}

// verify checks a peer, unless the very same entry is in force already.
func (l *looper) verify(p *wire.Peer, asOf time.Time) error {
	if p.ID == l.m.Self.ID || p.ID == l.st.System {
		return fmt.Errorf("a system is no peer of itself")
	}
	if len(p.Grants) > wire.MaxGrantsPerPeer || len(p.Reach.Candidates) > wire.MaxCandidates || len(p.Ticket) > wire.MaxTicketLen {
		return fmt.Errorf("its entry is larger than the limits")
	}
	if i, ok := slices.BinarySearchFunc(l.m.Peers, p.ID, func(q wire.Peer, id wire.SystemID) int {
		return bytes.Compare([]byte(q.ID), []byte(id))
	}); ok {
		q := &l.m.Peers[i]
		if q.WireGuard == p.WireGuard && q.Disco == p.Disco && slices.EqualFunc(q.SVID, p.SVID, bytes.Equal) &&
			bytes.Equal(q.KeySignature, p.KeySignature) {
			return nil
		}
	}
	_, err := svid.VerifyPeer(p, l.parts.roots, l.st.Org, asOf)
	return err
}

// granted reports whether any grant of p counts now. A pair without one is unknown
// to each other, whatever the map still carries.
func granted(p *wire.Peer, now time.Time) bool {
	return slices.ContainsFunc(p.Grants, func(g wire.Grant) bool { return g.ActiveAt(now) })
}

// tick runs the instants: flows whose grant has ended, peers whose last grant has,
// and the end of the map's life.
func (l *looper) tick(now time.Time) error {
	if !l.have {
		return nil
	}
	if !l.m.ValidUntil.IsZero() && !now.Before(l.m.ValidUntil) {
		if l.closed {
			return nil
		}
		l.closed = true
		l.log.Warn("no word from control for the life of the map: closing", "valid_until", l.m.ValidUntil)
		l.m.Peers = nil
		return l.parts.apply(&l.m, "map expired", now)
	}
	before := len(l.m.Peers)
	l.m.Peers = slices.DeleteFunc(slices.Clone(l.m.Peers), func(p wire.Peer) bool { return !granted(&p, now) })
	l.next = l.parts.expire(now)
	if len(l.m.Peers) == before {
		return nil
	}
	return l.parts.apply(&l.m, "expired", now)
}

// untilNext is how long the loop may sleep.
func (l *looper) untilNext(now time.Time) time.Duration {
	next := l.next
	earlier := func(t time.Time) {
		if !t.IsZero() && t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !l.closed {
		earlier(l.m.ValidUntil)
	}
	for i := range l.m.Peers {
		for _, g := range l.m.Peers[i].Grants {
			earlier(g.NotAfter)
			earlier(g.NotBefore)
		}
	}
	if next.IsZero() {
		return time.Minute // nothing pending: look at idle flows now and then
	}
	return max(next.Sub(now), 0)
}

// remember hands the state to the saver.
func (l *looper) remember(now time.Time) {
	if raw, err := json.Marshal(l.m); err == nil && l.have {
		l.st.Map = raw
	}
	l.saved = now
	s := *l.st
	l.save.put(&s)
}
