package control

import "sync"

// tracker counts handlers that run, so that Run can wait for them. http.Server does
// not: Close returns while handlers of closed connections still run.
type tracker struct {
	mu     sync.Mutex // orders enter against the wait
	closed bool
	wg     sync.WaitGroup
}

// enter reports whether the handler may run; if so it calls leave at its end.
func (t *tracker) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.wg.Add(1)
	}
	return !t.closed
}

func (t *tracker) leave() { t.wg.Done() }

// wait lets nobody enter any more and returns when all have left.
func (t *tracker) wait() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
