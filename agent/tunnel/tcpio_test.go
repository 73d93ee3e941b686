package tunnel

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// connected is a connection from a to port 80 of b, and its other end.
func connected(t *testing.T, a, b *node) (client, server net.Conn) {
	t.Helper()
	l, err := b.ListenTCP(netip.AddrPortFrom(b.v4, 80))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if client, err = a.DialTCP(patience(t), netip.AddrPortFrom(b.v4, 80)); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestTCPDeadlines: a deadline ends calls that wait, in its own direction only, and a
// later one lets them go on.
func TestTCPDeadlines(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		client, server := connected(t, a, b)
		results := make(chan error)
		read := func() { _, err := client.Read(make([]byte, 1)); results <- err }
		client.SetReadDeadline(time.Now().Add(time.Hour))
		go read()
		client.SetReadDeadline(time.Unix(1, 0))
		if err := <-results; !isTimeout(err) {
			t.Fatalf("read after its deadline: %v", err)
		}
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatalf("write after the deadline of reads: %v", err)
		}
		client.SetReadDeadline(time.Time{})
		go read()
		server.Write([]byte("y"))
		if err := <-results; err != nil {
			t.Fatalf("read without a deadline: %v", err)
		}
		// Nobody reads at the server: both windows fill, and then a write waits.
		go func() {
			_, err := io.Copy(client, endless{})
			results <- err
		}()
		client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		if err := <-results; !isTimeout(err) {
			t.Fatalf("write after its deadline: %v", err)
		}
		client.SetDeadline(time.Unix(1, 0))
		if _, err := client.Write(nil); !isTimeout(err) {
			t.Fatalf("empty write after the deadline: %v", err)
		}
		client.SetDeadline(time.Time{})
		go read()
		client.Close()
		if err := <-results; err == nil {
			t.Fatal("a closed connection was read")
		}
	})
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestStreamsDoNotAllocate: bytes from a write to a read, over two stacks that hand each
// other their packets.
func TestStreamsDoNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("pools forget at random under the race detector")
	}
	var ends [2]*nic
	for i := range ends {
		n, err := newNIC([]netip.Addr{netip.AddrFrom4([4]byte{100, 64, 0, byte(1 + i)})}, 1420)
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = n
	}
	var carriers sync.WaitGroup
	defer carriers.Wait()
	for i, n := range ends {
		defer n.Close()
		carriers.Go(func() {
			bufs, sizes := make([][]byte, batchLen), make([]int, batchLen)
			whole := make([][]byte, batchLen)
			for i := range whole {
				whole[i] = make([]byte, 2000)
			}
			for {
				k, err := n.Read(whole, sizes, 0)
				for j := range k {
					bufs[j] = whole[j][:sizes[j]]
				}
				if err != nil {
					return
				}
				ends[1-i].Write(bufs[:k], 0)
			}
		})
	}
	at := netip.AddrPortFrom(ends[1].own[0], 80)
	l, err := ends[1].ListenTCP(at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := ends[0].DialTCP(patience(t), at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	out, in := make([]byte, 10_000), make([]byte, 10_000)
	once := func() {
		if _, err := client.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, in); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		once() // pools fill
	}
	if got := testing.AllocsPerRun(2000, once); got > 0 {
		t.Errorf("%v allocations a write and read", got)
	}
}
