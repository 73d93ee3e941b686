package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"enclave/wire"
)

// FuzzFlows plays random packets over time and one change on the table of flows and on
// a naive one that asks at every instant whether each flow would still be allowed.
func FuzzFlows(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		d := dice{rand.New(rand.NewPCG(seed, 3))}
		var worlds [2]*world
		var engines [2]*Engine
		for i := range worlds {
			worlds[i], engines[i] = newWorld(), New()
			for j := range 4 {
				s := d.system(j, epoch)
				worlds[i].systems[s.ID] = s
				engines[i].PutSystem(s, epoch)
			}
			for j := range 4 {
				p := d.policy(j, epoch)
				worlds[i].put(p)
				mustPut(t, engines[i], p, epoch)
			}
		}
		change := epoch.Add(time.Duration(d.IntN(96)) * grid)
		tl := timeline{worlds: engines, changeAt: change, now: epoch, table: NewFlows()}
		live := map[flowKey]flow{} // the naive table
		now := epoch
		var last Packet
		for range 30 {
			at := now
			if d.IntN(3) == 0 {
				at = now.Add(time.Duration(d.IntN(12)) * grid)
			}
			after := !at.Before(change)
			for _, x := range moments(worlds, now, at, change) {
				i := 0
				if !x.Before(change) {
					i = 1
				}
				for k, who := range live {
					if len(worlds[i].accept(k.Packet, x)) == 0 || engines[i].flow(k.Packet) != who {
						delete(live, k)
					}
				}
			}
			w, e := worlds[0], engines[0]
			if after {
				w, e = worlds[1], engines[1]
			}
			now = at
			q := d.packet()
			if d.IntN(2) == 0 && last.Src.IsValid() { // an answer to what was sent
				q = turn(last)
			}
			if q.Proto == wire.ICMP {
				q.HasType, q.ICMPType = true, []uint8{8, 0, 13, 14, 128, 129}[d.IntN(6)]
			}
			back, isReply := answered(q, "x")
			_, answers := live[back]
			want := isReply && answers
			if !want && !q.Reply {
				want = len(w.accept(q, now)) > 0
				if want {
					live[keyOf(q, "x")] = e.flow(q)
				}
			}
			v := tl.play(step{at: at, after: after, packet: question{q, "x"}})
			if v.Allow != want || v.Why == "" {
				t.Fatalf("%+v at %v: got %+v, want %v", q, at, v, want)
			}
			last = q
		}
	})
}

// moments are the instants of [from, to] at which either world, or which world, changes.
func moments(worlds [2]*world, from, to, change time.Time) (out []time.Time) {
	all := append([]time.Time{from, change, to}, worlds[0].instants(from)...)
	for _, x := range append(all, worlds[1].instants(from)...) {
		if !x.Before(from) && !x.After(to) {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}
