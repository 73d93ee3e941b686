package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

func open(t testing.TB, w *world) (src, dst *client) {
	t.Helper()
	mk := func(id wire.SystemID) *client {
		fid, _ := frame.IDOf(id)
		return &client{srv: w.srv, id: fid, queue: newQueue(w.srv.pool, &w.srv.limits), sending: rate.NewLimiter(rate.Inf, 0), notices: rate.NewLimiter(0, 0)}
	}
	src, dst = mk("alice"), mk("bob00")
	now := time.Now()
	w.srv.roster.join(src, 10, now)
	w.srv.roster.join(dst, 10, now)
	w.srv.roster.open(src, dst.id, now.Add(time.Hour), 10, now)
	return src, dst
}

// drained takes what waits, as the writer does.
func drained(q *queue) {
	if b := q.take(); b != nil {
		q.free(b)
	}
}

func TestForwardDoesNotAllocate(t *testing.T) {
	src, dst := open(t, newWorld(t, Limits{}))
	body := append([]byte("bob00"), make([]byte, 1420)...)
	refusedBody := append([]byte("zzzzz"), make([]byte, 1420)...)
	if n := testing.AllocsPerRun(1000, func() {
		now := time.Now()
		for range 10 {
			if err := src.handle(context.Background(), frame.Send, body, now); err != nil {
				t.Fatal(err)
			}
			if err := src.handle(context.Background(), frame.Send, refusedBody, now); err != nil {
				t.Fatal(err)
			}
		}
		drained(&dst.queue)
	}); n != 0 {
		t.Errorf("%v allocations for twenty frames", n)
	}
}

// BenchmarkForward is the relay's own part of a frame: no TLS, no sockets.
func BenchmarkForward(b *testing.B) {
	src, dst := open(b, newWorld(b, Limits{}))
	body := append([]byte("bob00"), make([]byte, 1420)...)
	b.ReportAllocs()
	b.SetBytes(1420)
	for i := 0; b.Loop(); i++ {
		if err := src.handle(context.Background(), frame.Send, body, time.Now()); err != nil {
			b.Fatal(err)
		}
		if i%64 == 63 {
			drained(&dst.queue)
		}
	}
}

const burst = 11 // full packets in one TLS record, as an agent's writer batches them

// BenchmarkRelay and BenchmarkSplice carry the same bytes over loopback from one TLS
// connection to another; the splice knows no frames, no tickets and no queue. The
// sender stays within what a queue holds, so that nothing is dropped.
func BenchmarkRelay(b *testing.B) {
	w := newWorld(b, Limits{Rate: 1e12, Burst: 1 << 30, QueueBytes: 4 << 20, QueueFrames: 1 << 20})
	alice, _, r := w.pair(w.serve())
	one, _ := frame.AppendSend(nil, frame.ID([]byte("bob00")), make([]byte, 1420))
	batch := repeat(one, burst)
	carry(b, alice, batch, func() error {
		for range burst {
			if typ, _, err := r.Next(); err != nil || typ != frame.Recv {
				return fmt.Errorf("%v: %w", typ, err)
			}
		}
		return nil
	})
	if n := w.srv.Stats().Counts["dropped_frames/queue_full"]; n != 0 {
		b.Errorf("%d frames dropped", n)
	}
}

func BenchmarkSplice(b *testing.B) {
	w := newWorld(b, Limits{})
	l, err := tls.Listen("tcp", "127.0.0.1:0", w.srv.tlsConfig())
	if err != nil {
		b.Fatal(err)
	}
	var ends sync.WaitGroup
	defer ends.Wait()
	defer l.Close()
	ends.Go(func() {
		var ends [2]net.Conn
		for i := range ends {
			c, err := l.Accept()
			if err != nil || c.(*tls.Conn).Handshake() != nil {
				return
			}
			defer c.Close()
			ends[i] = c
		}
		io.Copy(ends[0], ends[1])
	})
	dial := func(id wire.SystemID) *tls.Conn {
		c, err := tls.Dial("tcp", l.Addr().String(), w.clientTLS(w.svid(svid.System(w.org, id), time.Hour)))
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	bob := dial("bob00")
	defer bob.Close()
	alice := dial("alice")
	defer alice.Close()
	one, _ := frame.AppendSend(nil, frame.ID([]byte("bob00")), make([]byte, 1420))
	batch, in := repeat(one, burst), make([]byte, burst*len(one))
	carry(b, alice, batch, func() error {
		_, err := io.ReadFull(bob, in)
		return err
	})
}

func repeat(b []byte, n int) (out []byte) {
	for range n {
		out = append(out, b...)
	}
	return out
}

// carry writes batches with at most window of them on the way.
func carry(b *testing.B, to net.Conn, batch []byte, receive func() error) {
	const window = 64
	slots, done := make(chan struct{}, window), make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if err := receive(); err != nil {
				done <- err
				return
			}
			<-slots
		}
		done <- nil
	}()
	for range b.N {
		slots <- struct{}{}
		if _, err := to.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	frames := float64(b.N * burst)
	b.ReportMetric(frames/b.Elapsed().Seconds(), "frames/s")
	b.ReportMetric(frames*1420*8/b.Elapsed().Seconds()/1e9, "Gbit/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdleClient reports what a client that has nothing to say costs, both ends
// of its connection together, beside what TLS alone costs for the same two ends.
func BenchmarkIdleClient(b *testing.B) {
	const clients = 400
	ids := func(i int) wire.SystemID { return wire.SystemID(fmt.Sprintf("c%04d", i)) }
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for b.Loop() {
		w := newWorld(b, Limits{})
		cert := make([]*tls.Config, clients)
		for i := range cert {
			cert[i] = w.clientTLS(w.svid(svid.System(w.org, ids(i)), time.Hour))
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", w.srv.tlsConfig())
		if err != nil {
			b.Fatal(err)
		}
		var both []net.Conn
		before := inUse()
		for i := range clients {
			accepted := make(chan net.Conn)
			go func() {
				c, err := l.Accept()
				if err == nil {
					c.(*tls.Conn).Handshake()
				}
				accepted <- c
			}()
			c, err := tls.Dial("tcp", l.Addr().String(), cert[i])
			if err != nil {
				b.Fatal(err)
			}
			both = append(both, c, <-accepted)
		}
		plain := float64(inUse()-before) / clients
		for _, c := range both {
			c.Close()
		}
		both = nil
		l.Close()

		addr := w.serve()
		before = inUse()
		for i := range clients {
			w.callWith(addr, cert[i])
		}
		relayed := float64(inUse()-before) / clients
		b.ReportMetric(relayed/1024, "kB/client")
		b.ReportMetric(plain/1024, "kB/TLS-alone")
	}
}
