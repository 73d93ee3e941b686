package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
)

// estate is a large world: 50 tags, two on each system, policies between one or two
// tags a side, a third of them with hours.
func estate(systems, policies int) (ss []System, ps []wire.Policy) {
	r := rand.New(rand.NewPCG(7, 7))
	tag := func() wire.Tag { return wire.Tag(fmt.Sprintf("t%d", r.IntN(50))) }
	two := func() []wire.Tag {
		a, b := tag(), tag()
		if a == b {
			return []wire.Tag{a}
		}
		return []wire.Tag{a, b}
	}
	for i := range systems {
		ss = append(ss, System{
			ID: wire.SystemID(fmt.Sprintf("%05d", i)), IPs: []netip.Addr{netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)})},
			Tags: two(), Approved: true, Enabled: true,
		})
	}
	for i := range policies {
		p := wire.Policy{
			ID: wire.PolicyID(fmt.Sprintf("p%04d", i)), Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{tag()}, ReceiverTags: []wire.Tag{tag()},
			ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}, {Lo: 443, Hi: 443}}}, {Proto: wire.ICMP}},
		}
		if i%3 == 0 {
			p.ActiveHours = wire.Windows{{Zone: "Europe/London", Days: []string{"mon", "tue", "wed", "thu", "fri"}, Start: "08:00", End: "18:00"}}
		}
		ps = append(ps, p)
	}
	return ss, ps
}

var workday = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func build(b testing.TB, ss []System, ps []wire.Policy) *Engine {
	e := New()
	for _, s := range ss {
		e.PutSystem(s, workday)
	}
	for _, p := range ps {
		mustPut(b, e, p, workday)
	}
	return e
}

func eachSize(b *testing.B, run func(b *testing.B, ss []System, ps []wire.Policy)) {
	for _, systems := range []int{100, 1_000, 10_000} {
		for _, policies := range []int{200, 1_000} {
			b.Run(fmt.Sprintf("systems=%d/policies=%d", systems, policies), func(b *testing.B) {
				ss, ps := estate(systems, policies)
				b.ReportAllocs()
				run(b, ss, ps)
			})
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		for b.Loop() {
			build(b, ss, ps)
		}
	})
}

// BenchmarkPolicyChange disables and enables one policy.
func BenchmarkPolicyChange(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e, n := build(b, ss, ps), 0
		for b.Loop() {
			p := ps[n%len(ps)]
			p.Enabled = n/len(ps)%2 == 1
			mustPut(b, e, p, workday)
			n++
		}
	})
}

// BenchmarkTagChange gives one system another tag, and takes it away again.
func BenchmarkTagChange(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e, n, named := build(b, ss, ps), 0, 0
		for b.Loop() {
			s := ss[n/2%len(ss)]
			if n%2 == 0 {
				s.Tags = append(s.Tags[:len(s.Tags):len(s.Tags)], "t7")
			}
			named += len(e.PutSystem(s, workday))
			n++
		}
		b.ReportMetric(float64(named)/float64(n), "affected/op")
	})
}

// BenchmarkPairs derives all pairs and grants of one system, a day ahead.
func BenchmarkPairs(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e, n, grants := build(b, ss, ps), 0, 0
		for b.Loop() {
			for _, p := range e.Pairs(ss[n%len(ss)].ID, workday, workday.Add(24*time.Hour)) {
				grants += len(p.Grants)
			}
			n++
		}
		b.ReportMetric(float64(grants)/float64(n), "grants/op")
	})
}

// allowed finds packets that e allows.
func allowed(b testing.TB, e *Engine, ss []System) (out []Packet) {
	r := rand.New(rand.NewPCG(9, 9))
	for len(out) < 256 {
		q := Packet{Src: ss[r.IntN(len(ss))].IPs[0], Dst: ss[r.IntN(len(ss))].IPs[0], Proto: wire.TCP, SrcPort: 40000, DstPort: 443}
		if r.IntN(4) == 0 {
			q = Packet{Src: q.Dst, Dst: q.Src, Proto: wire.TCP, SrcPort: 443, DstPort: 40000, Reply: true}
		}
		if e.Evaluate(q, workday).Allow {
			out = append(out, q)
		}
	}
	return out
}

func BenchmarkEvaluate(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e := build(b, ss, ps)
		qs, n := allowed(b, e, ss), 0
		for b.Loop() {
			if !e.Evaluate(qs[n%len(qs)], workday).Allow {
				b.Fatal("denied")
			}
			n++
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "verdicts/s")
	})
}

func TestEvaluateAllocates(t *testing.T) {
	ss, ps := estate(100, 200)
	gate := wire.Policy{ID: "gate", Kind: wire.Gateway, Enabled: true, SenderTags: ss[0].Tags, ACLs: []wire.ACL{{Proto: wire.Any}}, Gateways: []wire.GatewayRoute{{System: ss[1].ID, Subnets: []string{"0.0.0.0/0"}}}}
	e := build(t, ss, append(ps, gate))
	qs := append(allowed(t, e, ss), Packet{Src: ss[0].IPs[0], Dst: netip.MustParseAddr("8.8.8.8"), Proto: wire.UDP})
	n := 0
	if allocs := testing.AllocsPerRun(2*len(qs), func() {
		if v := e.Evaluate(qs[n%len(qs)], workday); !v.Allow {
			t.Fatalf("denied: %+v", v)
		}
		n++
	}); allocs != 0 {
		t.Errorf("%v allocations to allow a packet", allocs)
	}
}
