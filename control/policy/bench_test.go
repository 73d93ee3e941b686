package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/control/policy/estate"
	"enclave/wire"
)

const broadRules = estate.Broad

// newEstate is estate.New as the engine takes it.
func newEstate(systems, policies int) (ss []System, ps []wire.Policy) {
	all, ps := estate.New(systems, policies)
	for _, s := range all {
		ss = append(ss, System{ID: s.ID, IPs: []netip.Addr{s.Addr}, Tags: s.Tags, Approved: true, Enabled: true})
	}
	return ss, ps
}

var workday = estate.Workday()

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
	for _, systems := range []int{1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("systems=%d", systems), func(b *testing.B) {
			ss, ps := newEstate(systems, 1_000)
			b.ReportAllocs()
			run(b, ss, ps)
		})
	}
}

// BenchmarkCompile builds an engine from nothing and derives what every system is told,
// a day ahead.
func BenchmarkCompile(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		pairs, grants := 0, 0
		for b.Loop() {
			e := build(b, ss, ps)
			pairs, grants = 0, 0
			for _, s := range ss {
				for _, p := range e.Pairs(s.ID, workday, workday.Add(24*time.Hour)) {
					pairs, grants = pairs+1, grants+len(p.Grants)
				}
			}
		}
		b.ReportMetric(float64(pairs)/2, "pairs")
		b.ReportMetric(float64(grants)/2, "grants")
	})
}

// BenchmarkPolicyChange disables one policy or enables it, and derives what is sent for it.
func BenchmarkPolicyChange(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e := build(b, ss, ps)
		timeChange(b, e, func(n int) []wire.SystemID {
			p := ps[broadRules+n/2%(len(ps)-broadRules)]
			p.Enabled = n%2 == 1
			return mustPut(b, e, p, workday)
		})
	})
}

// BenchmarkTagChange gives one system another tag, or takes it away, and derives what is
// sent for it.
func BenchmarkTagChange(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e := build(b, ss, ps)
		timeChange(b, e, func(n int) []wire.SystemID {
			s := ss[(n+1)/2%len(ss)]
			if n%2 == 1 && !slices.Contains(s.Tags, "team07") {
				s.Tags = append(s.Tags[:len(s.Tags):len(s.Tags)], "team07")
			}
			return e.PutSystem(s, workday)
		})
	})
}

// BenchmarkSystemChange enables one system or disables it: among its peers are services
// that know everybody.
func BenchmarkSystemChange(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e := build(b, ss, ps)
		timeChange(b, e, func(n int) []wire.SystemID {
			s := ss[n/2%len(ss)]
			s.Enabled = n%2 == 1
			return e.PutSystem(s, workday)
		})
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

// BenchmarkExplain asks about systems that are denied.
func BenchmarkExplain(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		e, n := build(b, ss, ps), 0
		for b.Loop() {
			from, to := ss[n*37%len(ss)], ss[(n*101+1)%len(ss)]
			e.Explain(from.IPs[0], to.IPs[0], wire.TCP, 80, workday)
			n++
		}
	})
}

// allowed finds packets that e allows.
func allowed(b testing.TB, e *Engine, ss []System) (out []Packet) {
	r := rand.New(rand.NewPCG(9, 9))
	for len(out) < 256 {
		s := ss[r.IntN(len(ss))]
		pairs := e.Pairs(s.ID, workday, workday)
		if len(pairs) == 0 {
			continue
		}
		peer := e.systems[pairs[r.IntN(len(pairs))].Peer]
		q := Packet{Src: s.IPs[0], Dst: peer.IPs[0], Proto: wire.TCP, SrcPort: 40000, DstPort: 443}
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
	ss, ps := newEstate(100, 200)
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

// bytesOf is the size of grants as they travel.
func bytesOf(b testing.TB, grants []wire.Grant) int {
	doc, err := json.Marshal(grants)
	if err != nil {
		b.Fatal(err)
	}
	return len(doc)
}

// timeChange times a change and what follows from it: the grants of each pair that it
// touches, at both ends. The bytes are those of the grants as they travel.
func timeChange(b *testing.B, e *Engine, do func(n int) []wire.SystemID) {
	n, concerned, pairs := 0, 0, 0
	var sent []wire.Grant
	once := func(keep bool) {
		touched := new(Touched)
		e.Record(touched)
		do(n)
		n++
		for _, id := range touched.Systems() {
			concerned++
			for _, peer := range touched.Peers(id) {
				grants := e.Between(id, peer, workday, workday.Add(24*time.Hour))
				pairs++
				if keep {
					sent = append(sent, grants...)
				}
			}
		}
	}
	for b.Loop() {
		once(false)
	}
	b.ReportMetric(float64(concerned)/float64(n), "systems/op")
	b.ReportMetric(float64(pairs)/2/float64(n), "pairs/op")
	n += n % 2
	for range 20 { // one way, which leaves more than it finds, and the other
		once(n%2 == 1)
	}
	b.ReportMetric(float64(bytesOf(b, sent))/10, "grant-bytes")
}

// BenchmarkForecast looks a month ahead where every tenth system and policy expires.
func BenchmarkForecast(b *testing.B) {
	eachSize(b, func(b *testing.B, ss []System, ps []wire.Policy) {
		for i := range ss {
			if i%10 == 0 {
				ss[i].ExpiresAt = workday.Add(time.Duration(1+i) * time.Minute)
			}
		}
		for i := range ps {
			if i%10 == 0 {
				end := workday.Add(time.Duration(1+i) * time.Minute)
				ps[i].ExpiresAt = &end
			}
		}
		e, n := build(b, ss, ps), 0
		for b.Loop() {
			n = len(e.Forecast(workday, workday.AddDate(0, 1, 0)))
		}
		b.ReportMetric(float64(n), "entries")
	})
}
