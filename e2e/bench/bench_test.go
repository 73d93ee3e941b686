package bench

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

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
