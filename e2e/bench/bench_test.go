package bench

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestPolicyMeasures runs the bench in a small organisation: every figure is there, and
// a change costs less than all of it.
func TestPolicyMeasures(t *testing.T) {
	res, err := Policy(t.Context(), Config{Rounds: 2, Each: 10 * time.Millisecond, Systems: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Figures) != 8 || res.Bench != "policy" {
		t.Fatalf("result %+v", res)
	}
	for _, f := range res.Figures {
		if f.Median <= 0 || len(f.Rounds) != 2 {
			t.Errorf("figure %+v", f)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Policy(ctx, Config{Rounds: 1, Each: time.Millisecond, Systems: 100}); err == nil {
		t.Error("a run that was ended has a result")
	}
}

// TestFloodMeasures: every figure is there, in one process.
func TestFloodMeasures(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	res, err := Flood(t.Context(), Config{Rounds: 1, Each: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(res.Figures); n != 9 && n != 12 || res.Bench != "flood" { // 12 where it may forge
		t.Fatalf("result %+v", res)
	}
	for _, f := range res.Figures {
		if f.Median <= 0 {
			t.Errorf("figure %+v", f)
		}
	}
}

// both returns a pair of agents or of stock nodes in this process.
func both(b *testing.B, stock bool) *pair {
	p, stop, err := meet(context.Background(), b.TempDir(), stock, new(here), new(here))
	b.Cleanup(stop)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func benchmark(b *testing.B, p *pair, j job, unit string, at int) {
	total := 0.0
	before := processor()
	for b.Loop() {
		vs, err := p.measure(context.Background(), &j)
		if err != nil {
			b.Fatal(err)
		}
		total += vs[at]
	}
	b.ReportMetric(total/float64(b.N), unit)
	if j.Do == doGoodput {
		// Bits by processor time differ less than bits by time on a busy machine.
		b.ReportMetric(total*1.25*j.Each.Seconds()/(processor()-before).Seconds(), "Gbit/cpu-s")
	}
}

func BenchmarkGoodput(b *testing.B) {
	for _, stock := range []bool{false, true} {
		p := both(b, stock)
		for _, streams := range []int{1, 4, 16} {
			b.Run(fmt.Sprintf("%s/streams=%d", map[bool]string{false: "ours", true: "stock"}[stock], streams), func(b *testing.B) {
				benchmark(b, p, job{Do: doGoodput, Streams: streams, Each: time.Second}, "Gbit/s", 0)
			})
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, stock := range []bool{false, true} {
		p := both(b, stock)
		for _, do := range []string{doTCPEcho, doUDPEcho} {
			b.Run(map[bool]string{false: "ours ", true: "stock "}[stock]+do, func(b *testing.B) {
				benchmark(b, p, job{Do: do, N: echoes}, "p50-µs", 0)
			})
		}
	}
}

func BenchmarkFlood(b *testing.B) {
	benchmark(b, both(b, false), job{Do: doFlood, Rate: floodRate, Each: time.Second}, "lost", 1)
}

// TestRelayMeasures runs the bench in one process: every figure is there, a stream
// through the relay gets through, and neither carrier delivers more than it was sent.
func TestRelayMeasures(t *testing.T) {
	if testing.Short() {
		t.Skip("wall clock")
	}
	res, err := Relay(t.Context(), Config{Rounds: 1, Each: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Figures) != 15 {
		t.Errorf("%d figures", len(res.Figures))
	}
	for _, f := range res.Figures {
		if f.Median < 0 || f.Median == 0 && f.Unit != "%" || f.Unit == "%" && f.Median > 100 {
			t.Errorf("figure %+v", f)
		}
	}
}

// TestFilterMeasures: every verdict is checked while it is measured.
func TestFilterMeasures(t *testing.T) {
	res, err := Filter(t.Context(), Config{Rounds: 1, Each: 4 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Figures {
		if f.Unit != "" && f.Median <= 0 {
			t.Errorf("figure %+v", f)
		}
	}
}

// BenchmarkRelayed is one stream through a relay in the same process.
func BenchmarkRelayed(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o, err := newOrganisation()
	if err != nil {
		b.Fatal(err)
	}
	side, err := o.relay()
	if err != nil {
		b.Fatal(err)
	}
	h := &here{carriers: []Carrier{ours()}}
	a, err := h.do(ctx, &job{Do: doServe, Carrier: ours().Name, Side: side})
	if err != nil {
		b.Fatal(err)
	}
	defer h.close()
	p, stop, err := relayedPair(ctx, o, a.Started.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	benchmark(b, p, job{Do: doGoodput, Streams: 1, Each: time.Second}, "Gbit/s", 0)
}
