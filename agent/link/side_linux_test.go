package link

import (
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// TestASideTakesABurst: what the kernel may join for the main socket comes to a side one by
// one. The simulated networks join nothing, so this asks the kernel.
func TestASideTakesABurst(t *testing.T) {
	l, _, p, fns := still(t)
	from, _, _ := sockets(t)
	c, err := System().ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	s := newSide(p, c)
	loopback := netip.MustParseAddr("127.0.0.1")
	l.table.claim(netip.AddrPortFrom(loopback, from.port), p, true)
	l.group.Go(func() { l.readSide(s) })
	bufs := filled(many(40, 1200)...)
	for _, b := range bufs {
		copy(b, []byte{data, 0, 0, 0})
	}
	if n, err := from.batch.send(bufs, netip.AddrPortFrom(loopback, s.sock.port)); n != len(bufs) || err != nil {
		t.Fatal(n, err)
	}
	got := make(chan int)
	go func() {
		in := filled(many(batch, 1<<16)...)
		sizes, eps := make([]int, batch), make([]conn.Endpoint, batch)
		for {
			n, err := fns[1](in, sizes, eps)
			if err != nil {
				close(got)
				return
			}
			for _, size := range sizes[:n] {
				got <- size
			}
		}
	}()
	late := time.After(time.Minute)
	for i := range bufs {
		select {
		case size := <-got:
			if size != 1200 {
				t.Errorf("datagram %d has %d bytes", i, size)
			}
		case <-late:
			t.Fatalf("%d of %d datagrams came", i, len(bufs))
		}
	}
	s.sock.Close()
	l.group.Wait()
	l.Close()
	<-got
}
