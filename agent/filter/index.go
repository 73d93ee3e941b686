package filter

import "hash/maphash"

// index finds flows by key. A Go map holds keys of this size in slots that span
// cache lines; here a probe touches one line, then the flow, which the packet needs
// anyway. Open addressing, linear probing, at most three quarters full.
type index struct {
	seed  maphash.Seed // peers must not be able to choose keys that collide
	slots []slot       // a power of two
	n     int
}

type slot struct {
	flow *flow // nil when free
	hash uint32
}

func newIndex() index {
	return index{seed: maphash.MakeSeed(), slots: make([]slot, 64)}
}

func (x *index) hash(k *key) uint32 { return uint32(maphash.Comparable(x.seed, *k)) }

func (x *index) find(k *key) *flow {
	h, mask := x.hash(k), uint32(len(x.slots)-1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s := &x.slots[i]; {
		case s.flow == nil:
			return nil
		case s.hash == h && s.flow.key == *k:
			return s.flow
		}
	}
}

// add puts in a flow whose key is not there.
func (x *index) add(f *flow) {
	if x.n++; 4*x.n > 3*len(x.slots) {
		old := x.slots
		x.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.flow != nil {
				x.place(s)
			}
		}
	}
	x.place(slot{f, x.hash(&f.key)})
}

func (x *index) place(s slot) {
	mask := uint32(len(x.slots) - 1)
	i := s.hash & mask
	for x.slots[i].flow != nil {
		i = (i + 1) & mask
	}
	x.slots[i] = s
}

// drop takes out a flow that is there, and moves up what a probe would no longer
// reach across the gap.
func (x *index) drop(f *flow) {
	mask := uint32(len(x.slots) - 1)
	gap := x.hash(&f.key) & mask
	for x.slots[gap].flow != f {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; x.slots[i].flow != nil; i = (i + 1) & mask {
		if home := x.slots[i].hash & mask; (i-home)&mask >= (i-gap)&mask {
			x.slots[gap], gap = x.slots[i], i
		}
	}
	x.slots[gap] = slot{}
	x.n--
}
