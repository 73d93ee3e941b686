package tunnel

import (
	"io"
	"testing"

	"golang.zx2c4.com/wireguard/tun"
)

// BenchmarkTCP is one connection through two whole tunnels in one process: two
// stacks, two filters, encryption and decryption.
func BenchmarkTCP(b *testing.B) {
	for _, n := range Netstacks() {
		b.Run(string(n), func(b *testing.B) { benchmarkTCP(b, n) })
	}
}

func benchmarkTCP(b *testing.B, n Netstack) {
	x, y := newPair(b, stacks{n})
	client, server := connect(b, x, y, 80)
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	done := make(chan struct{})
	go func() {
		io.Copy(io.Discard, server)
		close(done)
	}()
	for b.Loop() {
		if _, err := client.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	client.(*TCPConn).CloseWrite()
	<-done
}

// still is a link that always has the same batch and swallows what it is given.
type still struct {
	tun.Device
	size, batch int
}

func (s still) Wake() {}

func (s still) Read(_ [][]byte, sizes []int, _ int) (int, error) {
	for i := range s.batch {
		sizes[i] = s.size
	}
	return s.batch, nil
}

func (s still) Write(bufs [][]byte, _ int) (int, error) { return len(bufs), nil }

func newBatch(n int) (bufs [][]byte, sizes []int) {
	for range n {
		bufs = append(bufs, make([]byte, 16+DefaultMTU))
	}
	return bufs, make([]int, n)
}

func BenchmarkGuardRead(b *testing.B) {
	g := newGuard(still{size: DefaultMTU, batch: 1}, new(switchFilter), nil)
	bufs, sizes := newBatch(1)
	b.ReportAllocs()
	for b.Loop() {
		g.Read(bufs, sizes, 16)
	}
}

func BenchmarkGuardWrite(b *testing.B) {
	g := newGuard(still{}, new(switchFilter), nil)
	bufs, _ := newBatch(1)
	b.ReportAllocs()
	for b.Loop() {
		g.Write(bufs, 16)
	}
}

func TestGuardDoesNotAllocate(t *testing.T) {
	g := newGuard(still{size: DefaultMTU, batch: 8}, new(switchFilter), nil)
	bufs, sizes := newBatch(8)
	if n := testing.AllocsPerRun(100, func() {
		g.Read(bufs, sizes, 16)
		g.Write(bufs, 16)
	}); n != 0 {
		t.Fatalf("%v allocations for a batch both ways", n)
	}
}
