package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"enclave/control/discovery"
	"enclave/wire"
)

// stream is a system's open map stream, as the hub sees it.
type stream struct {
	id   wire.SystemID
	wake chan struct{} // capacity 1: a wake beside one that waits says nothing new
	bye  chan wire.Bye // capacity 1: a stream ends once
	from string        // address of the agent
	at   time.Time     // connected
	sent wire.Revision // of the map last sent; guarded by hub.mu
	good wire.Revision // up to which the sent map was found right; guarded by hub.mu

	counted bool // the system, when it was last looked at; guarded by hub.mu

	witness atomic.Int64 // records of the checkpoint that the agent remembers, or noWitness

	causes []string       // of what was not sent yet; guarded by hub.mu
	owed   debt           // what was not looked at yet; guarded by hub.mu
	asks   chan *wire.Ask // capacity maxAsks: an agent that is behind is not asked more
}

func newStream(id wire.SystemID, from string, at time.Time) *stream {
	return &stream{id: id, from: from, at: at, wake: make(chan struct{}, 1), bye: make(chan wire.Bye, 1), asks: make(chan *wire.Ask, maxAsks)}
}

func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *stream) end(bye wire.Bye) {
	select {
	case st.bye <- bye:
	default:
	}
}

// sender is the agent's side of a stream: it knows what was sent and computes what
// is left to say. It belongs to the stream's goroutine.
type sender struct {
	hub     *hub
	st      *stream
	told    discovery.Ledger
	horizon time.Time // how far the grants that were sent reach ahead
	noted   int64     // size of the checkpoint last sent
	renewAt time.Time // when a ticket or the horizon wants renewal; zero before the first map
}

// next returns what brings the agent to where things are at now, or nil. It looks at
// all peers for the first map and for a renewal, and else at those that may differ.
func (s *sender) next(now time.Time) *wire.Message {
	view, cause, bye := s.hub.view(s.st, now, s.horizon, !now.Before(s.renewAt))
	if bye != nil {
		return &wire.Message{Bye: bye}
	}
	tickets := &turn{tickets: s.hub.tickets, self: s.st.id, now: now, renewAt: s.renewAt}
	if view.Tickets = tickets; !view.Part {
		s.horizon, tickets.renewAt = s.hub.horizon(now), now.Add(s.hub.life()/2)
	}
	defer func() { s.renewAt = tickets.renewAt }()
	if !s.told.Begun() {
		return &wire.Message{Map: s.told.Map(&view)}
	}
	d := s.told.Delta(&view)
	if d == nil {
		s.hub.sent(s.st, s.told.Revision(), view.Revision)
		return nil
	}
	d.Cause = cause
	return &wire.Message{Delta: d}
}

// heartbeat extends the map that was sent.
func (s *sender) heartbeat(now time.Time) *wire.Message {
	return &wire.Message{Heartbeat: &wire.Heartbeat{Now: now, Revision: s.told.Revision(), ValidUntil: s.hub.validUntil(now)}}
}

// run sends until the stream ends, and returns why. until is when the agent's SVID ends.
func (s *sender) run(ctx context.Context, out *lines, beat time.Duration, until time.Time) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	expired := time.NewTimer(time.Until(until))
	defer expired.Stop()
	for {
		// The checkpoint first: an agent that refuses the map of a state which was rolled
		// back should know why.
		m, err := s.checkpoint(ctx)
		if err == nil && m != nil {
			err = out.write(m)
		}
		if err != nil {
			return err
		}
		if m := s.next(s.hub.clock.Now()); m != nil {
			if m.Bye == nil { // before the write: the agent may answer before it returns
				s.hub.sent(s.st, s.told.Revision(), s.told.Revision())
			}
			if m.Bye != nil {
				return out.leave(m.Bye)
			}
			if err := out.write(m); err != nil {
				return err
			}
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case bye := <-s.st.bye:
				return out.leave(&bye)
			case <-expired.C:
				return out.leave(&wire.Bye{Code: wire.ByeRestart, Message: "the certificate of this connection has ended; renew and reconnect"})
			case <-s.st.wake:
				break wait
			case ask := <-s.st.asks:
				if err := out.write(&wire.Message{Ask: ask}); err != nil {
					return err
				}
			case <-ticker.C:
				now := s.hub.clock.Now()
				if err := out.write(s.heartbeat(now)); err != nil {
					return err
				}
				if !now.Before(s.renewAt) {
					break wait
				}
			}
		}
	}
}

// lines writes messages, one a line, each within a deadline. The deadline is lifted
// between messages: HTTP/2 resets a stream whose deadline passes, busy or not.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// leave says goodbye. It returns why the stream is over, also when that could be said.
func (l *lines) leave(bye *wire.Bye) error {
	if err := l.write(&wire.Message{Bye: bye}); err != nil {
		return err
	}
	return fmt.Errorf("said goodbye (%s): %s", bye.Code, bye.Message)
}

func (l *lines) write(m *wire.Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(b) >= wire.MaxMapMessage {
		return fmt.Errorf("a map message of %d bytes is over the limit of %d", len(b), wire.MaxMapMessage)
	}
	if err := l.control.SetWriteDeadline(time.Now().Add(l.timeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return err
	}
	if err := l.control.Flush(); err != nil {
		return err
	}
	return l.control.SetWriteDeadline(time.Time{})
}
