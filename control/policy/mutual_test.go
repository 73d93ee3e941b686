package policy

import (
	"fmt"
	"testing"
	"time"

	"enclave/wire"
)

func TestMutualAdds(t *testing.T) {
	h := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	e := New()
	a, b := sys("alice", 1), sys("bobby", 2)
	see := func(what string, at time.Time, want bool) {
		t.Helper()
		for _, q := range []Packet{
			{Src: a.IPs[0], Dst: b.IPs[0], Proto: wire.TCP, DstPort: 22},
			{Src: b.IPs[0], Dst: a.IPs[0], Proto: wire.ICMP},
			{Src: b.IPs[0], Dst: a.IPs[0], Proto: 0},
			{Src: b.IPs[0], Dst: a.IPs[0], Proto: wire.TCP, SrcPort: 22, Reply: true},
		} {
			v := e.Evaluate(q, at)
			if v.Allow != want || (want && (v.Policy != Mutual || v.Rule != 0)) {
				t.Errorf("%s: %+v: %+v", what, q, v)
			}
		}
		if e.Introduced("alice", "bobby", at) != want || e.Introduced("bobby", "alice", at) != want ||
			len(e.Connected(at)) == 1 != want || len(e.Pairs("alice", at, at)) == 1 != want || len(e.Pairs("bobby", at, at)) == 1 != want {
			t.Errorf("%s: introduced %v, connected %v, pairs %v", what, e.Introduced("alice", "bobby", at), e.Connected(at), e.Pairs("alice", at, at))
		}
	}
	both := []wire.SystemID{"alice", "bobby"}
	a.Adds = []wire.SystemID{"zzzzz", "bobby", "alice", "bobby"}
	want(t, "one alone concerns nobody", e.PutSystem(a, epoch), []wire.SystemID(nil))
	want(t, "an add of one side concerns nobody", e.PutSystem(b, epoch), []wire.SystemID(nil))
	see("one has added the other", epoch, false)
	b.Adds, b.ExpiresAt = []wire.SystemID{"alice"}, h(5)
	want(t, "the second add concerns both", e.PutSystem(b, epoch), both)
	see("both have", epoch, true)
	want(t, "grants", fmt.Sprintf("%+v", e.Pairs("alice", epoch, epoch)), fmt.Sprintf("%+v", []Pair{{Peer: "bobby", Grants: []wire.Grant{
		{From: "alice", To: "bobby", Proto: wire.Any, Policy: Mutual, NotAfter: h(5), Ends: wire.EndsReceiver},
		{From: "bobby", To: "alice", Proto: wire.Any, Policy: Mutual, NotAfter: h(5), Ends: wire.EndsSender},
	}}}))
	if end, ok := e.allowedUntil(Packet{Src: a.IPs[0], Dst: b.IPs[0], Proto: wire.UDP, DstPort: 1}, epoch); !ok || !end.Equal(h(5)) {
		t.Errorf("a flow lives until %v, %v", end, ok)
	}

	a.Tags = []wire.Tag{"dev"}
	want(t, "a first tag ends it", e.PutSystem(a, h(1)), both)
	see("managed", h(1), false)
	a.Tags = nil
	want(t, "without tags again", e.PutSystem(a, h(1)), both)
	a.Enabled = false
	want(t, "disabled", e.PutSystem(a, h(1)), both)
	see("disabled", h(1), false)
	a.Enabled = true
	e.PutSystem(a, h(1))
	see("just before the end of one", h(5).Add(-1), true)
	named, next := e.Advance(h(4))
	if len(named) > 0 || !next.Equal(h(5)) {
		t.Errorf("advanced to four: %v, next %v", named, next)
	}
	named, _ = e.Advance(h(6))
	want(t, "one expires", named, both)
	see("expired", h(6), false)
	b.ExpiresAt = time.Time{}
	want(t, "it lives again", e.PutSystem(b, h(6)), both)
	see("alive again", h(6), true)
	c := e.Clone()
	if !c.Introduced("alice", "bobby", h(6)) {
		t.Error("a clone has lost the adds")
	}
	want(t, "a change that keeps it concerns nobody", e.PutSystem(b, h(7)), []wire.SystemID(nil))
	want(t, "one goes", e.DropSystem("alice", h(7)), both)
	see("gone", h(7), false)
	want(t, "it comes back", e.PutSystem(a, h(7)), both)
	see("back", h(7), true)
}

func TestMutualForecast(t *testing.T) {
	e := New()
	a, b := sys("alice", 1), sys("bobby", 2)
	a.Adds, b.Adds, a.ExpiresAt = []wire.SystemID{"bobby"}, []wire.SystemID{"alice"}, epoch.Add(time.Hour)
	e.PutSystem(a, epoch)
	e.PutSystem(b, epoch)
	list := e.Forecast(epoch, epoch.Add(24*time.Hour))
	if len(list) != 1 || list[0].Warning != "leaves no sender for bobby" {
		t.Errorf("%+v", list)
	}
}

func TestMutualAllocates(t *testing.T) {
	e := New()
	a, b := sys("alice", 1), sys("bobby", 2)
	a.Adds, b.Adds = []wire.SystemID{"bobby"}, []wire.SystemID{"alice"}
	e.PutSystem(a, epoch)
	e.PutSystem(b, epoch)
	q := Packet{Src: a.IPs[0], Dst: b.IPs[0], Proto: wire.UDP, DstPort: 53}
	if n := testing.AllocsPerRun(100, func() {
		if !e.Evaluate(q, epoch).Allow {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations to allow a packet", n)
	}
}
