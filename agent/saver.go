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
	mu    sync.Mutex // guards m and lost
	m     *memory
	lost  bool          // the last write has failed, and that was said
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

// written takes in what became of m, and reports whether that is news. What could not be
// saved waits again, unless something newer does.
func (b *mailbox) written(m *memory, err error) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && b.m == nil {
		b.m = m
	}
	news = b.lost != (err != nil)
	b.lost = err != nil
	return news
}

// saveGap is the least time between two writes: a mesh that changes all the time
// must not wear out a flash card.
const saveGap = time.Second

// saveRetry is how soon a write that failed is tried again. A disk that was full for a
// moment must not cost an agent what it was told then: after a crash without control it
// would count grants again that have ended.
const saveRetry = 10 * time.Second

// saver writes the state beside the loop: an fsync must not stand between a policy
// change and its effect. A crash in between loses at most the newest map, and
// control sends that again. What is left at the end is for Run to flush.
func (a *Agent) saver(ctx context.Context) error {
	var again <-chan time.Time // nil while the last write went well
	for {
		select {
		case <-a.save.ready:
		case <-again:
		case <-ctx.Done():
			return nil
		}
		again = nil
		if !a.flush() {
			again = time.After(saveRetry)
		}
		select {
		case <-time.After(saveGap):
		case <-ctx.Done():
			return nil
		}
	}
}

// flush saves what waits. A state that cannot be written does not stop the traffic; it is
// said once, and once more when it can be.
func (a *Agent) flush() bool {
	m := a.save.take()
	if m == nil {
		return true
	}
	var err error
	if m.told != nil {
		m.Map, err = json.Marshal(m.told)
	}
	if err == nil {
		err = m.state.save(a.cfg.Keeper)
	}
	switch news := a.save.written(m, err); {
	case news && err != nil:
		a.log.Error("the agent runs on, but would restart from an older state; trying again", "error", err)
	case news:
		a.log.Info("the agent's state is saved again")
	}
	return err == nil
}
