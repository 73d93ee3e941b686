package session

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrFull is returned when a tenant waits in too many places already.
var ErrFull = errors.New("too many runs are waiting")

// Queue lets so many runs go on at once, in all and for each tenant, and lets the rest
// wait in turn. A tenant that waits for itself holds nobody else up.
type Queue struct {
	All, Tenant, Waiting int // at once; of one tenant; waiting, of one tenant

	mu      sync.Mutex // guards what follows
	running map[string]int
	total   int
	line    []*place
}

type place struct {
	tenant string
	ready  chan struct{}
}

// Enter waits for its turn. The caller calls leave once when the run has ended.
func (q *Queue) Enter(ctx context.Context, tenant string) (leave func(), err error) {
	p := &place{tenant, make(chan struct{})}
	q.mu.Lock()
	waiting := 0
	for _, other := range q.line {
		if other.tenant == tenant {
			waiting++
		}
	}
	if waiting >= q.Waiting && !q.fits(tenant) {
		q.mu.Unlock()
		return nil, ErrFull
	}
	q.line = append(q.line, p)
	q.advance()
	q.mu.Unlock()
	leave = func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.total--
		if q.running[tenant]--; q.running[tenant] == 0 {
			delete(q.running, tenant)
		}
		q.advance()
	}
	select {
	case <-p.ready:
		return leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(q.line, p)
	if i >= 0 {
		q.line = slices.Delete(q.line, i, i+1)
	}
	q.mu.Unlock()
	if i < 0 { // it was let in at the same time
		leave()
	}
	return nil, ctx.Err()
}

// Full reports whether another run of the tenant would be refused.
func (q *Queue) Full(tenant string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := 0
	for _, other := range q.line {
		if other.tenant == tenant {
			waiting++
		}
	}
	return waiting >= q.Waiting && !q.fits(tenant)
}

func (q *Queue) fits(tenant string) bool { return q.total < q.All && q.running[tenant] < q.Tenant }

// advance lets in whoever fits, in the order they came.
func (q *Queue) advance() {
	if q.running == nil {
		q.running = make(map[string]int)
	}
	rest := q.line[:0]
	for _, p := range q.line {
		if !q.fits(p.tenant) {
			rest = append(rest, p)
			continue
		}
		q.total++
		q.running[p.tenant]++
		close(p.ready)
	}
	clear(q.line[len(rest):])
	q.line = rest
}
