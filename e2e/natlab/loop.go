package natlab

import (
	"context"
	"time"
)

// event is one packet that leaves one direction of a link at a given instant.
type event struct {
	at   time.Time
	seq  uint64 // keeps packets due at the same instant in order
	port *port
	dir  direction
	p    *packet
}

// eventHeap is a binary heap, earliest first. container/heap would box every event.
type eventHeap []event

func (h eventHeap) before(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}

func (h *eventHeap) push(e event) {
	s := append(*h, e)
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.before(i, up) {
			break
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
	*h = s
}

func (h *eventHeap) pop() event {
	s := *h
	e, last := s[0], len(s)-1
	s[0], s[last] = s[last], event{}
	s = s[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if s.before(c, least) {
				least = c
			}
		}
		if least == i {
			break
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
	*h = s
	return e
}

// batch is how many packets the loop carries before it lets others have the lock.
const batch = 64

// idle is carryDue's answer when nothing is parked. An idle loop sets no timer: one
// that ticked would keep a bubble's clock running where a deadlock should be found.
const idle time.Duration = -1

// loop carries parked packets onward when they are due.
func (l *Lab) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		var due <-chan time.Time
		switch wait := l.carryDue(); wait {
		case 0:
			continue
		case idle:
			timer.Stop()
		default:
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-due:
		}
	}
}

// carryDue carries what is due, at most one batch, and answers how long the next
// packet can wait: 0 when there is more to do.
func (l *Lab) carryDue() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for range batch {
		if len(l.events) == 0 {
			return idle
		}
		if wait := l.events[0].at.Sub(now); wait > 0 {
			return wait
		}
		e := l.events.pop()
		// The packet goes on at the instant at which it was due, not at the one at
		// which the loop woke: timers are late by up to a millisecond, and over many
		// hops that would add up.
		l.arrive(e.at, e.port, e.dir, e.p)
	}
	return 0
}

// maxInFlight bounds the packets that wait on links; more are dropped, as by a router.
const maxInFlight = 1 << 16

// schedule parks a packet until at.
func (l *Lab) schedule(at time.Time, pt *port, dir direction, p *packet) bool {
	if l.closed || len(l.events) >= maxInFlight {
		return false
	}
	l.seq++
	l.events.push(event{at, l.seq, pt, dir, p})
	if l.events[0].seq == l.seq {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}
