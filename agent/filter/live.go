package filter

import (
	"math/bits"
	"time"
)

// This file owns the memory of flows: where they are found, which one gives way
// when the table is full, and when a silent one is looked at.

// slab is how many flows are allocated at once, so that a new flow costs an
// allocation once in a while and none in a steady state.
const slab = 64

// blank returns a flow to fill in.
func (t *Table) blank() *flow {
	if len(t.spare) == 0 {
		fresh := make([]flow, slab)
		for i := range fresh {
			t.spare = append(t.spare, &fresh[i])
		}
	}
	f := t.spare[len(t.spare)-1]
	t.spare = t.spare[:len(t.spare)-1]
	t.serials++
	*f = flow{serial: t.serials}
	return f
}

func (t *Table) insert(f *flow) {
	f.pos = int32(len(t.list))
	t.list = append(t.list, f)
	t.flows.add(f)
	t.idle.push(f, f.last+f.idle())
	if f.peer.flows++; f.peer.flows == 1 {
		t.holders++
	}
	t.counters.opened++
}

func (t *Table) remove(f *flow) {
	last := t.list[len(t.list)-1]
	t.list[f.pos], last.pos = last, f.pos
	t.list[len(t.list)-1] = nil
	t.list = t.list[:len(t.list)-1]
	t.flows.drop(f)
	t.idle.drop(f)
	if f.peer.flows--; f.peer.flows == 0 {
		t.holders--
	}
	f.serial, f.peer, f.rule = 0, nil, nil
	t.spare = append(t.spare, f)
}

// sample is how many flows a search for a victim looks at. A peer that holds half
// of a full table is missed once in 2^32 searches.
const sample = 32

// golden spreads the places a search looks at evenly over the list, whatever its
// length (a Weyl sequence): flows of one kind lie together, as they came.
const golden = 0x9e3779b97f4a7c15

// evictFor makes room for a new flow of p, and reports whether it could.
func (t *Table) evictFor(p *peer) bool {
	holders := t.holders
	if p.flows == 0 {
		holders++
	}
	share := t.max / max(holders, 1)
	var victim *flow
	best := keep
	for range sample {
		t.hand += golden
		at, _ := bits.Mul64(t.hand, uint64(len(t.list)))
		f := t.list[at]
		if r := t.rank(f, p, share); r < best || (r == best && victim != nil && f.last < victim.last) {
			victim, best = f, r
		}
	}
	if victim == nil {
		return false
	}
	t.remove(victim)
	t.counters.evicted++
	return true
}

// keep is the rank of a flow that gives way to nobody.
const keep = 8

// busy is how recently a flow that both ends use must have been used to be kept.
const busy = int64(2 * time.Minute)

// rank orders flows by how little is lost with them, first the flow's own life,
// then whether its peer has more than its share or is the one asking. A busy flow
// gives way only when its peer has more than its share and another asks, so that
// one peer can neither fill the table for good nor push out the others.
func (t *Table) rank(f *flow, asking *peer, share int) int {
	life := 0
	switch {
	case f.dead:
		return keep // its cut must still be reported
	case f.state == closing:
	case f.state == halfOpen:
		life = 1
	case t.clock.own-f.last > busy:
		life = 2
	default:
		life = 3
	}
	greedy := f.peer.flows > share
	switch {
	case life == 3 && (!greedy || f.peer == asking):
		return keep
	case greedy || f.peer == asking:
		return 2 * life
	}
	return 2*life + 1
}

// idleQueue is a heap of flows by due. An entry is moved when its flow becomes due
// earlier; a packet only postpones, which is noticed when the entry comes up, so
// that packets of a live flow do not touch the heap.
type idleQueue []*flow

func (q *idleQueue) push(f *flow, due int64) {
	f.due, f.heap = due, int32(len(*q))
	*q = append(*q, f)
	q.up(len(*q) - 1)
}

func (q *idleQueue) earlier(f *flow, due int64) {
	f.due = due
	q.up(int(f.heap))
}

func (q *idleQueue) later(f *flow, due int64) {
	f.due = due
	q.down(int(f.heap))
}

func (q *idleQueue) drop(f *flow) {
	h, i, n := *q, int(f.heap), len(*q)-1
	h.swap(i, n)
	h[n] = nil
	*q = h[:n]
	if i < n {
		q.down(i)
		q.up(i)
	}
}

func (q idleQueue) swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].heap, q[j].heap = int32(i), int32(j)
}

func (q idleQueue) up(i int) {
	for i > 0 && q[i].due < q[(i-1)/2].due {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (q idleQueue) down(i int) {
	for {
		c := 2*i + 1
		if c+1 < len(q) && q[c+1].due < q[c].due {
			c++
		}
		if c >= len(q) || q[i].due <= q[c].due {
			return
		}
		q.swap(i, c)
		i = c
	}
}
