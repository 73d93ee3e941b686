package agent

import (
	"context"
	"sync"
)

// mailbox holds the newest state to be saved; older ones that were not yet saved
// are superseded.
type mailbox struct {
	mu    sync.Mutex // guards s
	s     *state
	ready chan struct{} // capacity 1: one token stands for "there is something"
}

func (m *mailbox) put(s *state) {
	m.mu.Lock()
	m.s = s
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() *state {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.s
	m.s = nil
	return s
}

// saver writes the state beside the loop: an fsync must not stand between a policy
// change and its effect. A crash in between loses at most the newest map, and
// control sends that again. A state that cannot be written is said once a change
// and does not stop the traffic.
func (a *Agent) saver(ctx context.Context) error {
	flush := func() {
		if s := a.save.take(); s != nil {
			if err := s.save(a.cfg.Keeper); err != nil {
				a.log.Error("the agent runs on, but would restart from an older state", "error", err)
			}
		}
	}
	for {
		select {
		case <-a.save.ready:
			flush()
		case <-ctx.Done():
			flush()
			return nil
		}
	}
}
