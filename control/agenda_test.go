package control

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAgendaIsAWalkOverAll compares it with looking at everything.
func TestAgendaIsAWalkOverAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	base := time.Unix(0, 0)
	var a agenda[int]
	all := make(map[int]time.Time)
	for now := base; now.Before(base.Add(5000 * time.Second)); now = now.Add(time.Second) {
		for range r.IntN(4) {
			k, at := r.IntN(20), now.Add(time.Duration(r.IntN(40)-5)*time.Second)
			if r.IntN(5) == 0 {
				at = time.Time{}
				delete(all, k)
			} else {
				all[k] = at
			}
			a.set(k, at)
		}
		var want []int
		var first time.Time
		for k, at := range all {
			if !at.After(now) {
				want = append(want, k)
			} else if first.IsZero() || at.Before(first) {
				first = at
			}
		}
		got, next := a.due(now)
		slices.Sort(want)
		if slices.Sort(got); !slices.Equal(got, want) || !next.Equal(first) {
			t.Fatalf("at %v: due %v, want %v; next %v, want %v", now, got, want, next, first)
		}
		if len(a.queue) > 64+2*len(a.at) {
			t.Fatalf("%d entries for %d things", len(a.queue), len(a.at))
		}
	}
}
