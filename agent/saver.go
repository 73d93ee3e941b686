package agent

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"enclave/wire"
)

// memory is the state as it is to be saved. The map is encoded by who saves: that
// takes longer than to apply it.
type memory struct {
	state
	told *wire.Map // never changed; nil leaves state.Map
}

// mailbox holds the newest state to be saved; older ones that were not yet saved
// are superseded.
type mailbox struct {
	mu    sync.Mutex // guards m
	m     *memory
	ready chan struct{} // capacity 1: one token stands for "there is something"
}

func (b *mailbox) put(m *memory) {
	b.mu.Lock()
	b.m = m
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() *memory {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.m
	b.m = nil
	return m
}

// saveGap is the least time between two writes: a mesh that changes all the time
// must not wear out a flash card.
const saveGap = time.Second

// saver writes the state beside the loop: an fsync must not stand between a policy
// change and its effect. A crash in between loses at most the newest map, and
// control sends that again. What is left at the end is for Run to flush.
func (a *Agent) saver(ctx context.Context) error {
	for {
		select {
		case <-a.save.ready:
			a.flush()
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(saveGap):
		case <-ctx.Done():
			return nil
		}
	}
}

// flush saves what waits. A state that cannot be written is said once a change and
// does not stop the traffic.
func (a *Agent) flush() {
	m := a.save.take()
	if m == nil {
		return
	}
	var err error
	if m.told != nil {
		m.Map, err = json.Marshal(m.told)
	}
	if err == nil {
		err = m.state.save(a.cfg.Keeper)
	}
	if err != nil {
		a.log.Error("the agent runs on, but would restart from an older state", "error", err)
	}
}
