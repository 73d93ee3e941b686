package pool

import "testing"

func TestNoTenantTakesAllPlaces(t *testing.T) {
	q := queue{size: 4, share: 2, held: map[string]int{}}
	got := func(k *ticket) bool {
		select {
		case <-k.ready:
			return true
		default:
			return false
		}
	}
	a := []*ticket{q.ask("a"), q.ask("a"), q.ask("a")}
	if !got(a[0]) || !got(a[1]) || got(a[2]) {
		t.Fatal("a tenant holds its share and no more")
	}
	b := q.ask("b")
	if !got(b) {
		t.Fatal("another tenant waits behind one that has its share")
	}
	c, d := q.ask("c"), q.ask("d")
	if !got(c) || got(d) {
		t.Fatal("the places are four")
	}
	q.leave(d) // out of the line
	q.leave(b)
	if got(d) || got(a[2]) {
		t.Error("who left the line, or has its share, got a place")
	}
	q.leave(a[0])
	if !got(a[2]) {
		t.Error("the next of the tenant did not get its place")
	}
	q.leave(a[1])
	q.leave(a[2])
	q.leave(c)
	if q.total != 0 || len(q.held) != 0 || len(q.waiting) != 0 {
		t.Errorf("left: %+v", q)
	}
}
