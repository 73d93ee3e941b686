package control

import (
	"container/heap"
	"time"
)

// agenda says what is due by the clock, each thing once, without walking over all of
// them: after every change somebody asks what comes next.
type agenda[K comparable] struct {
	at    map[K]time.Time
	queue dates[K] // earliest first; an entry that at does not say is stale
}

type date[K comparable] struct {
	at  time.Time
	key K
}

// set says when k is due; the zero time is never.
func (a *agenda[K]) set(k K, at time.Time) {
	if at.IsZero() {
		delete(a.at, k)
		return
	}
	if was, ok := a.at[k]; ok && was.Equal(at) {
		return
	}
	if a.at == nil {
		a.at = make(map[K]time.Time)
	}
	a.at[k] = at
	heap.Push(&a.queue, date[K]{at, k})
	if len(a.queue) < 64+2*len(a.at) {
		return
	}
	a.queue = a.queue[:0] // more are stale than count
	for k, at := range a.at {
		a.queue = append(a.queue, date[K]{at, k})
	}
	heap.Init(&a.queue)
}

// due returns what has come at now, and when the next comes after it; zero is never.
// What is due stays so until it is set to something else.
func (a *agenda[K]) due(now time.Time) (due []K, next time.Time) {
	var come []date[K]
	for len(a.queue) > 0 {
		d := a.queue[0]
		if at, ok := a.at[d.key]; ok && at.Equal(d.at) {
			if d.at.After(now) {
				next = d.at
				break
			}
			come = append(come, d)
		}
		heap.Pop(&a.queue)
	}
	seen := make(map[K]bool, len(come)) // set away and back, it stands there twice
	for _, d := range come {
		if !seen[d.key] {
			seen[d.key] = true
			due = append(due, d.key)
			heap.Push(&a.queue, d)
		}
	}
	return due, next
}

// dates is a heap.
type dates[K comparable] []date[K]

func (q dates[K]) Len() int           { return len(q) }
func (q dates[K]) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q dates[K]) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *dates[K]) Push(x any)        { *q = append(*q, x.(date[K])) }
func (q *dates[K]) Pop() any {
	n := len(*q) - 1
	x := (*q)[n]
	*q = (*q)[:n]
	return x
}
