package agent

import (
	"slices"
	"sync"

	"enclave/wire"
	"enclave/wire/api"
)

// event is news for the loop from one of its neighbours; one field is set.
type event struct {
	control *api.ControlStatus
	reach   *wire.Reach
	svid    [][]byte
}

// events carries news to the loop without ever blocking the sender, and tells
// waiters that the view has changed.
type events struct {
	mu      sync.Mutex // guards what follows; held for a few assignments only
	queue   []event
	wake    chan struct{} // capacity 1: one wake-up stands for all queued events
	changes chan struct{} // closed and replaced at each change of the view
}

func (e *events) init() {
	e.wake = make(chan struct{}, 1)
	e.changes = make(chan struct{})
}

// post queues ev. Senders are few and slow (one control session, one link), so the
// queue stays short.
func (e *events) post(ev event) {
	e.mu.Lock()
	e.queue = append(e.queue, ev)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) take() []event {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queue
	e.queue = nil
	return q
}

// changed returns a channel that is closed at the next change. Take it before
// looking at the view, or a change in between is missed.
func (e *events) changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changes
}

func (e *events) announce() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.changes)
	e.changes = make(chan struct{})
}

func sameReach(a, b *wire.Reach) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Relay == b.Relay && a.NAT == b.NAT && slices.Equal(a.Candidates, b.Candidates)
}
