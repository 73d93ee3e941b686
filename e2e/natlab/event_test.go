package natlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoaming(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		laptop := lab.Host("laptop", lab.Behind(Easy()))
		hotel := lab.Behind(Hard())
		server := listen(t, lab.Host("server", lab.Internet()), 7)
		wild := listen(t, laptop, 4000)
		bound, err := laptop.ListenUDPAddrPort(at(laptop, 5000))
		if err != nil {
			t.Fatal(err)
		}
		changes := 0
		stop := laptop.OnChange(func() { changes++ })
		send(t, wild, at(server.host, 7), "home")
		home := mustReceive(t, server, "home")
		before := laptop.Addrs()[0]

		laptop.MoveTo(hotel)
		if after := laptop.Addrs()[0]; after == before || changes != 1 || laptop.Network() != hotel {
			t.Errorf("moved from %v to %v, %d changes", before, after, changes)
		}
		send(t, server, home, "to the old place")
		mustNotReceive(t, wild)
		send(t, wild, at(server.host, 7), "hotel")
		from := mustReceive(t, server, "hotel")
		if from.Addr() == home.Addr() {
			t.Errorf("still seen at %v", from)
		}
		send(t, server, from, "welcome")
		mustReceive(t, wild, "welcome")
		if _, err := bound.WriteToUDPAddrPort(nil, at(server.host, 7)); err == nil {
			t.Error("a socket bound to an address that is gone can send")
		}
		stop()
		laptop.MoveTo(lab.Internet())
		if changes != 1 {
			t.Errorf("%d changes seen after stop", changes)
		}
		if got, _ := lab.Resolve("laptop.lab"); got[0] != laptop.Addrs()[0] {
			t.Errorf("resolves to %v", got)
		}
	})
}

func TestDisconnectAndPartition(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		r := lab.Router("nat", lab.Internet(), FullCone())
		a, b, c := lab.Host("a", r.LAN()), lab.Host("b", lab.Internet()), lab.Host("c", lab.Internet())
		ca, cb, cc := listen(t, a, 7), listen(t, b, 7), listen(t, c, 7)
		for _, x := range []struct {
			name      string
			cut, heal func()
			only      bool // c still reaches b
		}{
			{"host", b.Disconnect, b.Reconnect, false},
			{"router", r.Disconnect, r.Reconnect, true},
			{"pair", func() { lab.Partition(a, b) }, func() { lab.Heal(b, a) }, true},
		} {
			send(t, ca, at(b, 7), "before")
			mustReceive(t, cb, "before")
			x.cut()
			send(t, ca, at(b, 7), "cut")
			mustNotReceive(t, cb)
			send(t, cc, at(b, 7), "third")
			if _, _, err := receive(cb); (err == nil) != x.only {
				t.Errorf("%s: third party got through: %v", x.name, err)
			}
			x.heal()
			send(t, ca, at(b, 7), "healed")
			mustReceive(t, cb, "healed")
		}
	})
}

func TestPacketsInFlightAreLostWithTheLink(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		a := lab.Host("a", lab.Internet())
		b := lab.Host("b", lab.Internet(), Over(LinkConfig{Latency: time.Second / 2}))
		ca, cb := listen(t, a, 7), listen(t, b, 7)
		send(t, ca, at(b, 7), "in flight")
		b.Disconnect()
		mustNotReceive(t, cb)
		b.Reconnect()
		send(t, ca, at(b, 7), "in flight")
		b.MoveTo(lab.Behind(Open()))
		mustNotReceive(t, cb)
	})
}

func TestSuspend(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		a, b := lab.Host("a", lab.Internet()), lab.Host("b", lab.Internet())
		ca, cb := listen(t, a, 7), listen(t, b, 7)
		send(t, ca, at(b, 7), "waiting in the socket")
		b.Suspend()
		send(t, ca, at(b, 7), "lost")
		start := time.Now()
		time.AfterFunc(time.Hour, b.Resume)
		cb.SetReadDeadline(time.Now().Add(2 * time.Hour))
		buf := make([]byte, 64)
		n, _, err := cb.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "waiting in the socket" || time.Since(start) != time.Hour {
			t.Errorf("read %q, %v after %v", buf[:n], err, time.Since(start))
		}
		mustNotReceive(t, cb)
		b.Suspend()
		time.AfterFunc(time.Hour, b.Resume)
		send(t, cb, at(a, 7), "late")
		mustReceive(t, ca, "late")
	})
}

func TestSockets(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		h := lab.Host("h", lab.Internet(), Addresses(2))
		wild := listen(t, h, 7)
		second, err := h.ListenUDPAddrPort(netip.AddrPortFrom(h.Addrs()[1], 7))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.ListenUDP(7); err == nil {
			t.Error("one port opened twice")
		}
		if _, err := h.ListenUDPAddrPort(netip.MustParseAddrPort("192.0.2.1:1")); err == nil {
			t.Error("bound to an address of nobody")
		}
		out := listen(t, lab.Host("out", lab.Internet()), 0)
		send(t, out, netip.AddrPortFrom(h.Addrs()[0], 7), "first")
		send(t, out, netip.AddrPortFrom(h.Addrs()[1], 7), "second")
		mustReceive(t, wild, "first")
		from := mustReceive(t, second, "second")
		send(t, second, from, "answer")
		if from := mustReceive(t, out, "answer"); from.Addr() != h.Addrs()[1] {
			t.Errorf("answered from %v", from)
		}
		send(t, wild, netip.AddrPortFrom(h.Addrs()[1], 7), "to myself")
		mustReceive(t, second, "to myself")

		flow, err := h.DialContext(t.Context(), "udp", "out.lab:"+fmt.Sprint(out.LocalAddrPort().Port()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(flow, "dialled")
		send(t, out, mustReceive(t, out, "dialled"), "heard")
		buf := make([]byte, 64)
		if n, err := flow.Read(buf); err != nil || string(buf[:n]) != "heard" {
			t.Errorf("read %q, %v", buf[:n], err)
		}

		deadline := make(chan error)
		go func() {
			_, _, err := wild.ReadFromUDPAddrPort(nil)
			deadline <- err
		}()
		synctest.Wait()
		wild.SetReadDeadline(time.Now().Add(time.Minute))
		if err := <-deadline; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		h.Close()
		if _, err := wild.WriteToUDPAddrPort(nil, at(out.host, 7)); err == nil {
			t.Error("a closed host can send")
		}
		if _, err := lab.Resolve("nobody"); !errors.Is(err, ErrUnknownName) {
			t.Errorf("resolve: %v", err)
		}
	})
}

func TestSlowReaderLosesPackets(t *testing.T) {
	bubble(t, func(t *testing.T, lab *Lab) {
		a, b := lab.Host("a", lab.Internet()), lab.Host("b", lab.Internet())
		ca := listen(t, a, 0)
		listen(t, b, 7)
		for range udpQueue + 10 {
			send(t, ca, at(b, 7), "x")
		}
		if n := lab.Drops()[DropQueue]; n != 10 {
			t.Errorf("%d packets lost", n)
		}
	})
}

func TestTaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := New(Config{Record: 1 << 16}).Start()
		defer lab.Close()
		a, b := lab.Host("a", lab.Behind(Easy())), lab.Host("b", lab.Internet())
		leak, clean := lab.Canary([]byte("s3cret")), lab.Canary([]byte("unsaid"))
		seen := 0
		stop := lab.Capture(func(time.Time, []byte) { seen++ })
		ca, cb := listen(t, a, 0), listen(t, b, 7)
		send(t, ca, at(b, 7), "the s3cret is out")
		mustReceive(t, cb, "the s3cret is out")
		if leak.Seen() != 3 || clean.Seen() != 0 || seen != 3 { // a, the router, b
			t.Errorf("leak %d, clean %d, seen %d", leak.Seen(), clean.Seen(), seen)
		}
		stop()
		send(t, ca, at(b, 9), "nobody")
		if seen != 3 {
			t.Error("seen after stop")
		}
		if lab.Traffic(b, a).Packets != 1 || lab.Traffic(a, b).Packets != 2 { // an ICMP error came back
			t.Errorf("traffic %+v %+v", lab.Traffic(a, b), lab.Traffic(b, a))
		}
		var file bytes.Buffer
		if err := lab.WritePCAP(&file); err != nil || !bytes.Contains(file.Bytes(), []byte("s3cret")) {
			t.Errorf("pcap of %d bytes: %v", file.Len(), err)
		}
		kinds, rest := map[uint32]int{}, file.Bytes()
		for len(rest) > 0 { // every block says its length at both ends
			n := binary.LittleEndian.Uint32(rest[4:])
			if n%4 != 0 || n > uint32(len(rest)) || binary.LittleEndian.Uint32(rest[n-4:]) != n {
				t.Fatalf("a block of %d bytes, %d left", n, len(rest))
			}
			kinds[binary.LittleEndian.Uint32(rest)]++
			rest = rest[n:]
		}
		if kinds[0x0a0d0d0a] != 1 || kinds[1] != 3 || kinds[6] != 10 {
			t.Errorf("blocks %v", kinds)
		}
	})
	if err := New(Config{}).WritePCAP(nil); !errors.Is(err, ErrNotRecording) {
		t.Errorf("pcap without recording: %v", err)
	}
}
