package pool

import "context"

// queue hands out places to tenants. It holds at most size in all, and at most share
// for one tenant, so that no tenant's runs, however long, keep another's from starting.
// Within those bounds it is first come, first served.
type queue struct {
	size, share int
	held        map[string]int
	total       int
	waiting     []*ticket
}

type ticket struct {
	tenant string
	ready  chan struct{}
}

// ask returns a ticket whose channel closes when it holds a place.
func (q *queue) ask(tenant string) *ticket {
	t := &ticket{tenant: tenant, ready: make(chan struct{})}
	q.waiting = append(q.waiting, t)
	q.serve()
	return t
}

// serve gives places to whoever may have one.
func (q *queue) serve() {
	keep := q.waiting[:0]
	for _, t := range q.waiting {
		if q.total >= q.size || q.held[t.tenant] >= q.share {
			keep = append(keep, t)
			continue
		}
		q.total++
		q.held[t.tenant]++
		close(t.ready)
	}
	clear(q.waiting[len(keep):])
	q.waiting = keep
}

// leave gives back a place, or takes a ticket out of the line.
func (q *queue) leave(t *ticket) {
	select {
	case <-t.ready:
		q.total--
		if q.held[t.tenant]--; q.held[t.tenant] == 0 {
			delete(q.held, t.tenant)
		}
	default:
		for i, w := range q.waiting {
			if w == t {
				q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
				break
			}
		}
	}
	q.serve()
}

// place waits for a place for the tenant. The function it returns gives it back.
func (p *Pool) place(ctx context.Context, tenant string) (func(), bool) {
	p.mu.Lock()
	full := len(p.queue.waiting) >= p.cfg.Queue
	var t *ticket
	if !full {
		t = p.queue.ask(tenant)
	}
	p.mu.Unlock()
	if full {
		return nil, false
	}
	leave := func() {
		p.mu.Lock()
		p.queue.leave(t)
		p.mu.Unlock()
	}
	select {
	case <-t.ready:
		return leave, true
	case <-ctx.Done():
	case <-p.closing:
	}
	leave()
	return nil, false
}
