package filter

import (
	"net/netip"
	"time"
)

// chunk is how many packets are judged under one hold of the lock: parsing them is done
// before, and a hold stays as short as the waking of a waiting goroutine takes.
const chunk = 16

// InBatch is In for a batch: out[i] is the verdict on bufs[i][offset:]. What In says of
// one packet holds for each; an empty one is Malformed. One lock and one reading of the
// clocks serve many packets, and a run of one flow is looked up once.
func (t *Table) InBatch(bufs [][]byte, offset int, now time.Time, out []Verdict) {
	t.passAll(bufs, nil, offset, inbound, now, out, nil)
}

// OutBatch is Out for a batch: out[i] is the verdict on the sizes[i] bytes at offset in
// bufs[i]. Where via[i] is valid, an accepted packet is to be wrapped (AppendWrap) for
// that system: it goes behind a gateway, or comes from behind this one.
func (t *Table) OutBatch(bufs [][]byte, sizes []int, offset int, now time.Time, out []Verdict, via []netip.Addr) {
	t.passAll(bufs, sizes, offset, outbound, now, out, via)
}

func (t *Table) passAll(bufs [][]byte, sizes []int, offset int, d direction, now time.Time, out []Verdict, via []netip.Addr) {
	var pkts [chunk]packet
	var parsed [chunk]Verdict
	for from := 0; from < len(out); from += chunk {
		n := min(chunk, len(out)-from)
		for i := range n {
			pkt := bufs[from+i][offset:]
			if sizes != nil {
				pkt = pkt[:sizes[from+i]]
			}
			parsed[i] = pkts[i].parse(pkt)
		}
		t.mu.Lock()
		t.tick(now)
		var last run
		for i := range n {
			v := parsed[i]
			if v == Accept {
				v = t.judge(&pkts[i], d, &last)
			}
			t.counters.verdicts[d][v]++
			out[from+i] = v
			if via != nil {
				via[from+i] = netip.Addr{}
				if w := pkts[i].via; w != nil && v == Accept {
					via[from+i] = w.outer
				}
			}
		}
		t.mu.Unlock()
	}
}

// run remembers the flow of the packet before, as long as the lock is held. A bulk
// transfer is one flow for whole batches.
type run struct {
	key    key
	flow   *flow
	serial uint64 // the flow's memory may mean another flow by now
}

// live returns the flow under k like Table.live.
func (r *run) live(t *Table, k *key) *flow {
	if r.flow != nil && r.flow.serial == r.serial && r.key == *k && !t.silent(r.flow) {
		return r.flow
	}
	f := t.live(*k)
	if r.flow = f; f != nil {
		r.key, r.serial = *k, f.serial
	}
	return f
}
