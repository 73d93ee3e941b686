package tunnel

import (
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TestBuffersShrinkByHalves: a buffer is never smaller than what was announced before, and
// that is half of it.
func TestBuffersShrinkByHalves(t *testing.T) {
	n, err := newNIC([]netip.Addr{netip.MustParseAddr("100.64.0.1")}, 1420)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var wq waiter.Queue
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if terr != nil {
		t.Fatal(terr)
	}
	defer ep.Close()
	var w window
	for i, s := range []struct{ since, size, want int }{
		{0, 4 << 20, 4 << 20}, // larger at once
		{0, 1 << 20, 4 << 20},
		{2<<20 - 1, 1 << 20, 4 << 20}, // all of what is under way has not come yet
		{2 << 20, 1 << 20, 2 << 20},
		{1<<20 - 1, 1 << 20, 2 << 20},
		{1 << 20, 1 << 20, 1 << 20},
		{8 << 20, 1<<20 - 64<<10, 1 << 20}, // for so little it is not worth it
		{8 << 20, 700 << 10, 700 << 10},
		{0, 800 << 10, 800 << 10},
	} {
		w.since = s.since
		w.resize(ep, s.size)
		if got := int(ep.SocketOptions().GetReceiveBufferSize()); got != s.want {
			t.Fatalf("step %d: %d bytes, want %d", i, got, s.want)
		}
		if changed := s.want == s.size || s.want == 2<<20 && s.since == 2<<20; changed && w.since != 0 {
			t.Fatalf("step %d: counts on from %d", i, w.since)
		}
	}
}

// TestSupply: the send buffer is the stack's as long as it may be the largest, and ours from
// then on, unless the other system is far.
func TestSupply(t *testing.T) {
	n, err := newNIC([]netip.Addr{netip.MustParseAddr("100.64.0.1")}, 1420)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var wq waiter.Queue
	ep, terr := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if terr != nil {
		t.Fatal(terr)
	}
	defer ep.Close()
	c := newTCPIO(&wq, ep, &n.growth)
	size := func() int { return int(ep.SocketOptions().GetSendBufferSize()) }
	// There was no handshake, and so no round trip: as who was called by a system that is
	// nearer than a millisecond sees it, in both directions.
	c.supply.begin(ep)
	if c.window.carried(c, busyAfter); !c.window.near || !c.supply.near {
		t.Fatal("the nearest is not near")
	}
	c.supply.carried(c, busyAfter)
	if size() != defaultWindow {
		t.Fatalf("one alone has %d bytes", size())
	}
	others := make([]*tcpIO, 23)
	for i := range others {
		others[i] = new(tcpIO)
		n.growth.store(others[i], time.Now())
	}
	if c.supply.carried(c, busyStep-1); size() != defaultWindow {
		t.Fatal("looked at too early")
	}
	if c.supply.carried(c, 1); size() != sendLeast {
		t.Fatalf("one of 24 has %d bytes, want %d", size(), sendLeast)
	}
	for _, o := range others {
		n.growth.release(o)
	}
	if c.supply.carried(c, busyStep); size() != maxWindow {
		t.Fatalf("alone again it has %d bytes", size())
	}
	c.supply.near = false
	n.growth.store(others[0], time.Now())
	n.growth.store(others[1], time.Now())
	if c.supply.carried(c, busyAfter); size() != maxWindow {
		t.Fatal("one to a far system was changed")
	}
}
