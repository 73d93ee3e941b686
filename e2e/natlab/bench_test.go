package natlab

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkNAT is one packet of 1200 bytes out through a NAT and back in.
func BenchmarkNAT(b *testing.B) {
	n := newNAT(Easy(), rand.New(rand.NewPCG(1, 1)), []netip.Addr{fuzzOutside})
	now := time.Unix(1000, 0)
	out := appendUDP(nil, fuzzInside, fuzzRemote, make([]byte, 1200))
	in := appendUDP(nil, fuzzRemote, netip.AddrPortFrom(fuzzOutside, fuzzInside.Port()), make([]byte, 1200))
	buf := make([]byte, len(out))
	b.ReportAllocs()
	b.SetBytes(int64(2 * len(out)))
	for b.Loop() {
		var v view
		copy(buf, out)
		parse(buf, &v)
		if n.out(now, buf, &v) != Passed {
			b.Fatal("blocked")
		}
		copy(buf, in)
		parse(buf, &v)
		if n.in(now, buf, &v) != Passed {
			b.Fatal("blocked")
		}
	}
}

// BenchmarkUDP is one packet of 1200 bytes from socket to socket, through a NAT.
func BenchmarkUDP(b *testing.B) {
	for _, c := range []struct {
		name string
		link LinkConfig
	}{{"direct", LinkConfig{}}, {"parked", LinkConfig{Latency: time.Nanosecond}}} {
		b.Run(c.name, func(b *testing.B) {
			lab := New(Config{}).Start()
			defer lab.Close()
			inside, server := lab.Host("a", lab.Behind(Easy())), lab.Host("b", lab.Internet(), Over(c.link))
			from, _ := inside.ListenUDP(0)
			to, _ := server.ListenUDP(7)
			payload, buf := make([]byte, 1200), make([]byte, 2048)
			dst := netip.AddrPortFrom(server.Addrs()[0], 7)
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if _, err := from.WriteToUDPAddrPort(payload, dst); err != nil {
					b.Fatal(err)
				}
				if _, _, err := to.ReadFromUDPAddrPort(buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
		})
	}
}

// BenchmarkTCP is a bulk transfer between two netstacks through a NAT.
func BenchmarkTCP(b *testing.B) {
	lab := New(Config{}).Start()
	defer lab.Close()
	inside, server := lab.Host("a", lab.Behind(Easy())), lab.Host("b", lab.Internet())
	l, err := server.ListenTCP(7)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan int64)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- 0
			return
		}
		n, _ := io.Copy(io.Discard, c)
		done <- n
	}()
	c, err := inside.DialContext(b.Context(), "tcp", "b:7")
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 1<<16)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if _, err := c.Write(payload); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	if n := <-done; n != int64(b.N)*int64(len(payload)) {
		b.Errorf("%d bytes arrived", n)
	}
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	lab := New(Config{}).Start()
	defer lab.Close()
	inside, server := lab.Host("a", lab.Behind(Easy())), lab.Host("b", lab.Internet())
	from, to := listen(t, inside, 0), listen(t, server, 7)
	payload, buf := make([]byte, 1200), make([]byte, 2048)
	dst := at(server, 7)
	if n := testing.AllocsPerRun(1000, func() {
		from.WriteToUDPAddrPort(payload, dst)
		to.ReadFromUDPAddrPort(buf)
	}); n >= 1 { // the pool may be emptied by a collection now and then
		t.Errorf("%v allocations per packet", n)
	}
}
