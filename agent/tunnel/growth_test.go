package tunnel

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"enclave/wire"
)

// TestWindowsGrowForAFew: places are for those that get data from afar, and go from the
// silent and the closed to others.
func TestWindowsGrowForAFew(t *testing.T) {
	var g growth
	claim := func(t *tcpIO, now time.Time) bool {
		size, grow := g.room(t, false, now)
		return grow && size == 0
	}
	now := time.Unix(1000, 0)
	conns := make([]*tcpIO, farMost+2)
	for i := range conns {
		conns[i] = new(tcpIO)
		if got, want := claim(conns[i], now), i < farMost; got != want {
			t.Fatalf("connection %d: %t", i, got)
		}
		g.room(new(tcpIO), true, now) // takes no place of theirs
	}
	late := conns[farMost]
	g.release(late) // has none
	if g.release(conns[1]); !claim(late, now) || claim(conns[1], now) {
		t.Fatal("a place that was given up is not the next one's")
	}
	now = now.Add(farIdle)
	for _, c := range append([]*tcpIO{conns[0], late}, conns[3:farMost]...) { // all but 2
		claim(c, now)
	}
	now = now.Add(time.Millisecond)
	if last := conns[farMost+1]; !claim(last, now) || claim(conns[2], now) || !claim(conns[0], now) {
		t.Fatal("the place of who is silent is not another's")
	}
}

// TestNearOnesShare: what all near connections may have under way together is bounded, and
// one that is silent or gone leaves its part to the others.
func TestNearOnesShare(t *testing.T) {
	var g growth
	now := time.Unix(1000, 0)
	size := func(c *tcpIO) int {
		n, grow := g.room(c, true, now)
		if grow {
			t.Fatal("a near one grows by itself")
		}
		return n
	}
	conns := make([]*tcpIO, 100)
	for i := range conns {
		conns[i] = new(tcpIO)
		if got, want := size(conns[i]), min(max(nearSum/(i+1), nearLeast), maxWindow); got != want {
			t.Fatalf("connection %d: %d bytes, want %d", i, got, want)
		}
	}
	for _, c := range conns[4:] {
		g.release(c)
	}
	if got := size(conns[0]); got != nearSum/4 {
		t.Fatalf("one of four has %d", got)
	}
	now = now.Add(nearIdle)
	size(conns[0])
	now = now.Add(time.Millisecond)
	if got := size(conns[0]); got != maxWindow {
		t.Fatalf("one beside three silent ones has %d", got)
	}
}

// TestNearOnesFitTheKernel: what they may have under way, which is half of their buffers, is
// less than half of what the kernel holds, or little.
func TestNearOnesFitTheKernel(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct{ kernel, one, two, most int }{
		{0, maxWindow, nearSum / 2, nearLeast},
		{-1, maxWindow, nearSum / 2, nearLeast},
		{425_984, nearFew, nearFew / 2, fewLeast}, // what Linux gives unasked
		{4 << 20, 3 << 20, 3 << 19, fewLeast},
		{8 << 20, 6 << 20, 3 << 20, 192 << 10},
		{16 << 20, maxWindow, 4 << 20, nearLeast},
		{1 << 30, maxWindow, 4 << 20, nearLeast},
	} {
		var g growth
		g.hold(c.kernel)
		first := new(tcpIO)
		one, _ := g.room(first, true, now)
		two, _ := g.room(new(tcpIO), true, now)
		for range 200 {
			g.room(new(tcpIO), true, now)
		}
		most, _ := g.room(first, true, now)
		if one != c.one || two != c.two || most != c.most {
			t.Errorf("kernel %d: one %d, two %d, one of many %d; want %d, %d, %d", c.kernel, one, two, most, c.one, c.two, c.most)
		}
		if c.kernel > 0 && two*2 > max(c.kernel/4*3, nearFew) {
			t.Errorf("kernel %d: two have %d together", c.kernel, 2*two)
		}
	}
}

// TestSendersShare: so is what they have waiting to be sent; who receives much takes no part
// of it, and one alone is left to the stack.
func TestSendersShare(t *testing.T) {
	var g growth
	now := time.Unix(1000, 0)
	conns := make([]*tcpIO, 100)
	for i := range conns {
		conns[i] = new(tcpIO)
		g.room(conns[i], true, now)
		if got, want := g.store(conns[i], now), min(max(sendSum/(i+1), sendLeast), maxWindow); got != want {
			t.Fatalf("connection %d: %d bytes, want %d", i, got, want)
		}
	}
	for _, c := range conns[6:] {
		g.release(c)
	}
	if got := g.store(conns[0], now); got != sendSum/6 {
		t.Fatalf("one of six has %d", got)
	}
	now = now.Add(nearIdle + time.Millisecond)
	if got := g.store(conns[0], now); got != maxWindow {
		t.Fatalf("one beside silent ones has %d", got)
	}
	if len(g.to) != 1 || len(g.in) != 6 {
		t.Fatalf("%d senders and %d receivers are known", len(g.to), len(g.in))
	}
}

// roomyBind says what the kernel holds for it, and may have been given more when it is opened
// again.
type roomyBind struct {
	*memBind
	room atomic.Int64
}

func (b *roomyBind) Room() int { return int(b.room.Load()) }

// TestWindowsHearWhatTheKernelHolds each time that WireGuard opens its bind.
func TestWindowsHearWhatTheKernelHolds(t *testing.T) {
	bind := &roomyBind{memBind: new(wiring).bind(wire.WireGuardKey{1})}
	tun, err := New(Config{Addrs: []netip.Addr{netip.MustParseAddr("100.64.0.1")}, PrivateKey: [32]byte{1}, Bind: bind, Filter: new(switchFilter)})
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	g := &tun.stack.(*nic).growth
	for _, room := range []int64{425_984, 4 << 20} {
		bind.room.Store(room)
		if err := tun.Up(); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		kernel := g.kernel
		g.mu.Unlock()
		if int64(kernel) != room {
			t.Errorf("windows are made for %d bytes, the kernel holds %d", kernel, room)
		}
		if err := tun.dev.Down(); err != nil {
			t.Fatal(err)
		}
	}
}
