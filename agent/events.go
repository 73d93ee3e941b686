package agent

import (
	"slices"
	"sync"

	"enclave/wire"
)

// events carries the newest reach to the loop without ever blocking the sender, and
// tells waiters that the view has changed.
type events struct {
	mu      sync.Mutex // guards what follows; held for a few assignments only
	reach   *wire.Reach
	wake    chan struct{} // capacity 1: one wake-up stands for any number of changes
	changes chan struct{} // closed and replaced at each change of the view
}

func (e *events) init() {
	e.wake = make(chan struct{}, 1)
	e.changes = make(chan struct{})
}

// post leaves r for the loop, in the place of one that it has not taken yet.
func (e *events) post(r *wire.Reach) {
	e.mu.Lock()
	e.reach = r
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) take() *wire.Reach {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reach
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
