package policy

import (
	"container/heap"
	"time"

	"enclave/wire"
)

// edge is an instant at which a system or a policy changes by the clock alone. Its
// object names the edge that counts; an entry that says otherwise is stale.
type edge struct {
	at     time.Time
	system *system
	policy *rules
}

func (d edge) stale() bool {
	if d.system != nil {
		return !d.system.next.Equal(d.at)
	}
	return !d.policy.next.Equal(d.at)
}

// edgeQueue is a heap, earliest first.
type edgeQueue []edge

func (q edgeQueue) Len() int           { return len(q) }
func (q edgeQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q edgeQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *edgeQueue) Push(x any)        { *q = append(*q, x.(edge)) }
func (q *edgeQueue) Pop() any {
	n := len(*q) - 1
	x := (*q)[n]
	(*q)[n] = edge{}
	*q = (*q)[:n]
	return x
}

func (e *Engine) scheduleSystem(s *system) {
	if next := s.edge(e.now); !next.Equal(s.next) {
		s.next = next
		e.push(edge{at: next, system: s})
	}
}

func (e *Engine) schedulePolicy(r *rules) {
	if next := r.edge(e.now); !next.Equal(r.next) {
		r.next = next
		e.push(edge{at: next, policy: r})
	}
}

// push adds an edge. Stale entries stay until they come up, so a world that changes
// more often than its edges come is swept when they outnumber what they stand for.
func (e *Engine) push(d edge) {
	if d.at.IsZero() {
		return
	}
	heap.Push(&e.queue, d)
	if len(e.queue) < 64+2*(len(e.systems)+len(e.policies)) {
		return
	}
	kept := e.queue[:0]
	for _, d := range e.queue {
		if !d.stale() {
			kept = append(kept, d)
		}
	}
	clear(e.queue[len(kept):])
	e.queue = kept
	heap.Init(&e.queue)
}

// Advance tells the engine the time. It returns the systems whose Pairs changed
// because something began or ended since the last change or Advance, and when the
// next edge comes; zero is none. Only edges count: a caller who hands out future
// openings up to a horizon hears of the system again at the latest when one begins.
func (e *Engine) Advance(now time.Time) (changed []wire.SystemID, next time.Time) {
	changed = e.catchUp(now).sorted()
	for len(e.queue) > 0 && e.queue[0].stale() {
		heap.Pop(&e.queue)
	}
	if len(e.queue) > 0 {
		next = e.queue[0].at
	}
	return changed, next
}

// catchUp moves the engine to now and gathers what the edges since changed. Whoever
// stood somewhere just after the last instant counts, even when several edges passed.
func (e *Engine) catchUp(now time.Time) *affected {
	out := e.affected()
	if now = plain(now); !now.After(e.now) {
		return out
	}
	last := e.now
	e.now = now
	for len(e.queue) > 0 && !e.queue[0].at.After(now) {
		d := heap.Pop(&e.queue).(edge)
		if d.stale() {
			continue
		}
		out.touched.edge(d)
		switch {
		case d.policy != nil:
			e.sides(d.policy, last).addTo(out)
			d.policy.next = time.Time{}
			e.schedulePolicy(d.policy)
		default:
			e.spread(d.system, e.ended(d.system, last), last, out)
			e.parted(d.system, last, out)
			d.system.next = time.Time{}
			e.scheduleSystem(d.system)
		}
	}
	return out
}

// ended returns the places that s has lost since last.
func (e *Engine) ended(s *system, last time.Time) (slots [2]bitset) {
	for side := range s.slots {
		for slot := range s.slots[side].all() {
			r := e.slots[slot]
			if end, ok := s.on(r, side); ok && r.lives(last) && !over(end, last) && over(end, e.now) {
				slots[side].set(slot)
			}
		}
	}
	return slots
}
