package tunnel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"enclave/agent/filter"
)

// markFilter accepts the packets that start with an even byte.
type markFilter struct{ switchFilter }

func (*markFilter) InBatch(bufs [][]byte, offset int, _ time.Time, out []filter.Verdict) {
	for i := range out {
		out[i] = verdict(bufs[i][offset]%2 != 0)
	}
}

func (*markFilter) OutBatch(bufs [][]byte, _ []int, offset int, _ time.Time, out []filter.Verdict, _ []netip.Addr) {
	for i := range out {
		out[i] = verdict(bufs[i][offset]%2 != 0)
	}
}

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
		g := newGuard(l, new(markFilter), nil)
		bufs, sizes := newBatch(8)
		before := slices.Clone(bufs)
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
		for i, b := range bufs {
			if &b[0] != &before[i][0] {
				t.Errorf("Read of %v moved buffer %d: WireGuard seals into the one it put there", first, i)
			}
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
	g := newGuard(l, new(markFilter), nil)
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
