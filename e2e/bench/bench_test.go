package bench

import (
	"context"
	"net"
	"net/netip"
	"syscall"
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

func stockPair(b *testing.B) func() (net.Conn, error) {
	x, err := newStockNode(netip.MustParseAddr("100.64.0.1"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(x.dev.Close)
	y, err := newStockNode(netip.MustParseAddr("100.64.0.2"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(y.dev.Close)
	x.introduce(y.key, y.addr, y.port)
	y.introduce(x.key, x.addr, x.port)
	l, err := y.net.ListenTCPAddrPort(netip.AddrPortFrom(y.addr, 7))
	if err != nil {
		b.Fatal(err)
	}
	go serve(l)
	return func() (net.Conn, error) {
		return x.dial(context.Background(), "tcp", netip.AddrPortFrom(y.addr, 7))
	}
}

func benchStream(b *testing.B, streams int, dial func() (net.Conn, error)) {
	var each time.Duration = time.Second
	var total, cpu float64
	n := 0
	var before, after syscall.Rusage
	for b.Loop() {
		syscall.Getrusage(0, &before)
		v, err := goodput(streams, each, dial)
		syscall.Getrusage(0, &after)
		cpu += time.Duration(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()).Seconds() / 1.25
		if err != nil {
			b.Fatal(err)
		}
		total += v
		n++
	}
	b.ReportMetric(total/float64(n), "Gbit/s")
	b.ReportMetric(total/cpu, "Gbit/cpu-s")
}

func BenchmarkStock(b *testing.B) { d := stockPair(b); benchStream(b, 1, d) }

func BenchmarkOurs(b *testing.B) {
	ctx := context.Background()
	m, err := newPair(ctx, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.close)
	benchStream(b, 1, func() (net.Conn, error) { return m.a.DialContext(ctx, "tcp", "b.enclave:7") })
}

func BenchmarkCipher(b *testing.B) {
	var t float64
	n := 0
	for b.Loop() {
		v, _ := cipher(time.Second)
		t += v
		n++
	}
	b.ReportMetric(t/float64(n), "Gbit/s")
}
