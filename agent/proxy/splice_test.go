package proxy

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// toldFirst is a connection on which a write meets the reset before a read does, and
// keeps what it has met to itself until release is closed.
type toldFirst struct {
	*net.TCPConn
	met     chan struct{} // closed once a write has failed
	once    sync.Once
	release chan struct{}
}

func (c *toldFirst) Write(b []byte) (int, error) {
	for {
		if n, err := c.TCPConn.Write(b); err != nil {
			c.once.Do(func() { close(c.met) })
			<-c.release
			return n, err
		}
	}
}

func (c *toldFirst) Read(b []byte) (int, error) {
	<-c.met
	return c.TCPConn.Read(b)
}

// TestAResetThatAWriteMeets: the read of the other direction sees the end of the data,
// and passes no regular end on.
func TestAResetThatAWriteMeets(t *testing.T) {
	noLeaks(t)
	ours, service := pipeTCP(t)
	src := &toldFirst{TCPConn: ours, met: make(chan struct{}), release: make(chan struct{})}
	program, theirs := pipeTCP(t)
	done := make(chan struct{})
	defer func() { close(src.release); <-done }()
	go func() {
		defer close(done)
		splice(t.Context(), theirs, src)
	}()
	abort(service)
	// Once: the program must not meet its own reset with a write either.
	io.WriteString(program, "more")
	program.SetReadDeadline(time.Now().Add(time.Minute))
	wantReset(t, program)
}

// TestWholeIsNoEndAfterAReset: nor does the transport of the HTTP proxy.
func TestWholeIsNoEndAfterAReset(t *testing.T) {
	ours, service := pipeTCP(t)
	c := &whole{Conn: ours}
	abort(service)
	for {
		if _, err := c.Write([]byte("more")); err != nil {
			break
		}
	}
	wantReset(t, c)

	ours, service = pipeTCP(t)
	io.WriteString(service, "all of it")
	service.Close()
	if got, err := io.ReadAll(&whole{Conn: ours}); string(got) != "all of it" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// pipeTCP returns the two ends of a connection of the kernel's.
func pipeTCP(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l := listen(t)
	a = dial(t, l.Addr().String())
	return a, accepted(t, l).(*net.TCPConn)
}

// BenchmarkIdleSplices says what a connection that carries nothing holds.
func BenchmarkIdleSplices(b *testing.B) {
	const conns = 200
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		var ends []net.Conn
		before := inUse()
		for range conns {
			program, a := pipeTCP(b)
			c, service := pipeTCP(b)
			ends = append(ends, program, service)
			wg.Go(func() { splice(ctx, a, c) })
			io.WriteString(program, "x")
			io.ReadFull(service, make([]byte, 1))
		}
		b.ReportMetric(float64(inUse()-before)/conns, "B/conn")
		cancel()
		wg.Wait()
		for _, c := range ends {
			c.Close()
		}
	}
}

// BenchmarkSplice carries a stream through two kernel sockets.
func BenchmarkSplice(b *testing.B) {
	program, a := pipeTCP(b)
	c, service := pipeTCP(b)
	done := make(chan struct{})
	go func() { defer close(done); splice(b.Context(), a, c) }()
	got := make(chan int64)
	go func() { n, _ := io.Copy(io.Discard, service); got <- n }()
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		program.Write(chunk)
		n += int64(len(chunk))
	}
	program.CloseWrite()
	if all := <-got; all != n {
		b.Errorf("%d bytes of %d", all, n)
	}
	service.Close()
	<-done
}

// inUse is what heap and stacks hold after collections, in bytes.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc + s.StackInuse)
}
