package tunnel

import (
	"io"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun"
)

// BenchmarkTCP is one connection through two whole tunnels in one process: two
// stacks, two filters, encryption and decryption.
func BenchmarkTCP(b *testing.B) {
	x, y := newPair(b)
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
	g := newGuard(still{size: DefaultMTU, batch: 1}, new(switchFilter))
	bufs, sizes := newBatch(1)
	b.ReportAllocs()
	for b.Loop() {
		g.Read(bufs, sizes, 16)
	}
}

func BenchmarkGuardWrite(b *testing.B) {
	g := newGuard(still{}, new(switchFilter))
	bufs, _ := newBatch(1)
	b.ReportAllocs()
	for b.Loop() {
		g.Write(bufs, 16)
	}
}

func TestGuardDoesNotAllocate(t *testing.T) {
	g := newGuard(still{size: DefaultMTU, batch: 8}, new(switchFilter))
	bufs, sizes := newBatch(8)
	if n := testing.AllocsPerRun(100, func() {
		g.Read(bufs, sizes, 16)
		g.Write(bufs, 16)
	}); n != 0 {
		t.Fatalf("%v allocations for a batch both ways", n)
	}
}

// markFilter accepts the packets that start with an even byte.
type markFilter struct{}

func (markFilter) In(pkt []byte, _ time.Time) bool  { return pkt[0]%2 == 0 }
func (markFilter) Out(pkt []byte, _ time.Time) bool { return pkt[0]%2 == 0 }

// tray is a link with a fixed batch that records what it is given.
type tray struct {
	still
	first []byte // first byte of each packet that Read returns
	got   []byte // first byte of each packet that Write was given
}

func (l *tray) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for i, mark := range l.first {
		bufs[i][offset] = mark
		sizes[i] = 100 + int(mark)
	}
	return len(l.first), nil
}

func (l *tray) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		l.got = append(l.got, b[offset])
	}
	return len(bufs), nil
}

func TestGuardKeepsOrderAndBuffers(t *testing.T) {
	for _, first := range [][]byte{{2, 4, 6}, {1, 2, 3, 4}, {2, 1, 3, 4, 6, 5}, {1, 8}} {
		l := &tray{first: first}
		g := newGuard(l, markFilter{})
		bufs, sizes := newBatch(8)
		n, err := g.Read(bufs, sizes, 16)
		var want, got []byte
		for _, mark := range first {
			if mark%2 == 0 {
				want = append(want, mark)
			}
		}
		for i := range n {
			got = append(got, bufs[i][16])
			if sizes[i] != 100+int(bufs[i][16]) {
				t.Errorf("%v: packet %d has the size of another", first, i)
			}
		}
		if string(got) != string(want) || err != nil {
			t.Errorf("Read of %v returned %v, %v", first, got, err)
		}
		seen := make(map[*byte]bool)
		for _, b := range bufs {
			seen[&b[0]] = true
		}
		if len(seen) != 8 {
			t.Errorf("Read of %v lost a buffer", first)
		}

		in, _ := newBatch(len(first))
		for i, mark := range first {
			in[i][16] = mark
		}
		if n, err := g.Write(in, 16); n != len(first) || err != nil || string(l.got) != string(want) {
			t.Errorf("Write of %v delivered %v (%d, %v)", first, l.got, n, err)
		}
	}
}

func TestInjectIsBoundedAndFirst(t *testing.T) {
	l := &tray{first: []byte{2}}
	g := newGuard(l, markFilter{})
	flood := make([][]byte, 2*maxUrgent)
	for i := range flood {
		flood[i] = []byte{1, byte(i)}
	}
	g.inject([][]byte{{3}}, flood)
	if string(l.got) != "\x03" {
		t.Fatalf("the local packet: %v", l.got)
	}
	bufs, sizes := newBatch(8)
	for i := 0; i < maxUrgent; i += 8 {
		if n, _ := g.Read(bufs, sizes, 16); n != 8 || bufs[0][17] != byte(i) {
			t.Fatalf("at %d: %d packets", i, n)
		}
	}
	if n, _ := g.Read(bufs, sizes, 16); n != 1 || bufs[0][16] != 2 {
		t.Fatal("more was kept than the limit")
	}
}
