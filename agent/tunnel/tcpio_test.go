package tunnel

import (
	"bytes"
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

// TestWritesStayTogether: of two writers at once none gets into what the other writes.
func TestWritesStayTogether(t *testing.T) {
	noLeaks(t)
	a, b := newPair(t, stacks{Enclave})
	client, server := connected(t, a, b)
	const size = 4 << 20 // more than all buffers on the way hold
	var writers sync.WaitGroup
	defer writers.Wait()
	for i := range 2 {
		writers.Go(func() {
			if _, err := client.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Error(err)
			}
		})
	}
	got := make([]byte, 2*size)
	if _, err := io.ReadFull(server, got); err != nil {
		t.Fatal(err)
	}
	for i, c := range got {
		if c != got[i/size*size] {
			t.Fatalf("byte %d of %d is the other writer's", i%size, size)
		}
	}
}

// TestEmptyRead: a read of nothing neither waits nor fails, and takes nothing.
func TestEmptyRead(t *testing.T) {
	noLeaks(t)
	a, b := newPair(t, stacks{Enclave})
	client, server := connected(t, a, b)
	for _, data := range []string{"", "x"} {
		if _, err := server.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		if data != "" {
			client.(*TCPConn).AwaitRead()
		}
		if n, err := client.Read(nil); n != 0 || err != nil {
			t.Fatalf("with %q to read: %d, %v", data, n, err)
		}
	}
	if n, err := client.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Fatalf("then: %d, %v", n, err)
	}
}

// TestCloseEndsWriters: a write that waits for a peer who does not read ends with the
// connection, whoever ends it.
func TestCloseEndsWriters(t *testing.T) {
	noLeaks(t)
	for _, reset := range []bool{false, true} {
		a, b := newPair(t, stacks{Enclave})
		client, server := connected(t, a, b)
		results := make(chan error)
		for range 2 {
			go func() {
				_, err := io.Copy(client, endless{})
				results <- err
			}()
		}
		client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		for range 2 {
			if err := <-results; !isTimeout(err) {
				t.Fatal(err)
			}
		}
		client.SetWriteDeadline(time.Time{})
		for range 2 { // nothing moves any more
			go func() {
				_, err := client.Write(make([]byte, 8<<20))
				results <- err
			}()
		}
		if reset {
			server.(*TCPConn).SetLinger(0)
			server.Close()
		} else {
			client.Close()
		}
		for range 2 {
			if err := <-results; err == nil || isTimeout(err) {
				t.Fatalf("reset %t: %v", reset, err)
			}
		}
	}
}
