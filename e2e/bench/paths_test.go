package bench

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"enclave/e2e/natlab"
	"enclave/e2e/world"
)

// BenchmarkPaths is one stream over the simulated internet, by round trip and loss: what
// TCP's settings were chosen by (decision 0073).
func BenchmarkPaths(b *testing.B) {
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond, 66 * time.Millisecond, 200 * time.Millisecond} {
		for _, loss := range []float64{0, 0.001, 0.01} {
			b.Run(fmt.Sprintf("rtt=%s/loss=%g%%", rtt, loss*100), func(b *testing.B) { benchmarkPath(b, rtt, loss) })
		}
	}
}

func benchmarkPath(b *testing.B, rtt time.Duration, loss float64) {
	lab := natlab.New(natlab.Config{Seed: 7}).Start()
	defer lab.Close()
	// Half of the delay on the way out of each host, all of the loss towards the reader.
	x := lab.Host("x", lab.Internet(), natlab.Over(natlab.LinkConfig{Latency: rtt / 4}))
	y := lab.Host("y", lab.Internet(), natlab.Over(natlab.LinkConfig{Latency: rtt / 4}))
	if err := y.SetLink(natlab.LinkConfig{Latency: rtt / 4, Loss: loss}, natlab.LinkConfig{Latency: rtt / 4}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := newBare(ctx, "aaaaa", netip.MustParseAddr("100.64.0.1"), world.Ground{Host: x}, 4000, x.Addrs()...)
	if err != nil {
		b.Fatal(err)
	}
	defer p.close()
	q, err := newBare(ctx, "bbbbb", netip.MustParseAddr("100.64.0.2"), world.Ground{Host: y}, 4000, y.Addrs()...)
	if err != nil {
		b.Fatal(err)
	}
	defer q.close()
	if err := join(p, q, 0); err != nil {
		b.Fatal(err)
	}
	benchmark(b, &pair{a: &local{p.to(q)}, b: nil}, job{Do: doGoodput, Streams: 1, Each: 2 * time.Second}, "Gbit/s", 0)
}
