package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// newForward returns a client and the server's end of what a relay made of it.
func newForward(t *testing.T) (client *net.TCPConn, server net.Conn, stop func()) {
	t.Helper()
	noLeaks(t)
	target := listen(t)
	l := listen(t)
	r := &Relay{Dialer: new(net.Dialer), Target: target.Addr().String()}
	stop = start(t, func(ctx context.Context) error { return r.Run(ctx, l) })
	client = dial(t, l.Addr().String())
	return client, accepted(t, target), stop
}

func TestHalfClose(t *testing.T) {
	client, server, _ := newForward(t)
	long := strings.Repeat("0123456789", 50_000)
	go func() {
		io.WriteString(client, long)
		client.CloseWrite()
	}()
	if got, err := io.ReadAll(server); string(got) != long || err != nil {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	// The end of the request must not have ended the answer.
	io.WriteString(server, "answer")
	server.Close()
	if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestResetOfTargetReachesClient(t *testing.T) {
	client, server, _ := newForward(t)
	io.WriteString(server, "half a down")
	io.ReadFull(client, make([]byte, 11))
	abort(server)
	wantReset(t, client)
}

func TestResetOfClientReachesTarget(t *testing.T) {
	client, server, _ := newForward(t)
	io.WriteString(client, "half an up")
	io.ReadFull(server, make([]byte, 10))
	abort(client)
	wantReset(t, server)
}

// A reset that comes after one direction has ended in order must still pass.
func TestResetAfterHalfClose(t *testing.T) {
	client, server, _ := newForward(t)
	client.CloseWrite()
	if _, err := io.ReadAll(server); err != nil {
		t.Fatal(err)
	}
	abort(server)
	wantReset(t, client)
}

func TestStopResetsConnections(t *testing.T) {
	client, server, stop := newForward(t)
	io.WriteString(client, "x") // what has carried nothing may end like any other
	io.ReadFull(server, make([]byte, 1))
	stop()
	wantReset(t, client)
	wantReset(t, server)
}

func TestUnreachedTargetResetsClient(t *testing.T) {
	noLeaks(t)
	addr := startRelay(t, &Relay{Dialer: book{"db.enclave:22": "denied"}, Target: "db.enclave:22"})
	wantRefusal(t, addr)
}

// wantRefusal dials addr and wants a reset, which may come as early as the dial.
func wantRefusal(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, want a reset", err)
	}
}

func TestConnectionsBeyondTheLimitAreReset(t *testing.T) {
	noLeaks(t)
	target := listen(t)
	addr := startRelay(t, &Relay{Dialer: new(net.Dialer), Target: target.Addr().String(), Limits: Limits{Conns: 1}})
	first := dial(t, addr)
	server := accepted(t, target)
	wantRefusal(t, addr)
	// The first is not disturbed, and its place is free when it ends.
	io.WriteString(first, "x")
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	first.Close()
	io.ReadAll(server)
	server.Close()
	next := make(chan net.Conn)
	go func() {
		c, _ := target.Accept()
		next <- c
	}()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if c, err := net.Dial("tcp", addr); err == nil {
			defer c.Close()
		}
		select {
		case c := <-next:
			c.Close()
			return
		default:
		}
	}
	t.Fatal("the place of the first was never free again")
}

func isTimeout(err error) bool { return reasonOf(err) == TimedOut }

func TestRelayUDP(t *testing.T) {
	noLeaks(t)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Dialer: book{"dns.enclave:53": startEcho(t)}, Target: "dns.enclave:53"}
	start(t, func(ctx context.Context) error { return r.RunUDP(ctx, pc) })
	for _, text := range []string{"one", "two"} { // two clients: answers must not mix
		c, err := net.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, text)
		buf := make([]byte, 100)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != text {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
	}
}

func (f *flows[K]) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byKey)
}

// pipes is a dial function that records the far ends.
type pipes struct{ far chan net.Conn }

func (p pipes) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	p.far <- far
	return near, nil
}

func TestFlowEndsAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFlows(ctx, Limits{Idle: time.Minute}.withDefaults(), func(string, error) {})
		p := pipes{far: make(chan net.Conn, 1)}
		answers := make(chan string, 1)
		send := func(s string) {
			f.send("k", []byte(s), p.dial, func(_ net.Conn, b []byte) { answers <- string(b) })
		}
		go send("first")
		far := <-p.far
		buf := make([]byte, 10)
		n, _ := far.Read(buf)
		if string(buf[:n]) != "first" {
			t.Fatalf("read %q", buf[:n])
		}
		// An answer keeps the flow as a question does.
		time.Sleep(50 * time.Second)
		io.WriteString(far, "answer")
		if got := <-answers; got != "answer" {
			t.Fatal(got)
		}
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if f.count() != 1 {
			t.Fatal("the flow ended in the middle")
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if f.count() != 0 {
			t.Fatal("the flow did not end")
		}
		if _, err := far.Read(buf); err != io.EOF {
			t.Fatalf("the socket is open: %v", err)
		}
		cancel()
		f.wait()
	})
}

func TestFlowsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFlows(ctx, Limits{Flows: 2}.withDefaults(), func(int, error) {})
		dials := 0
		dial := func(ctx context.Context) (net.Conn, error) { dials++; <-ctx.Done(); return nil, ctx.Err() }
		for key := range 5 {
			for range 2 * pending {
				f.send(key, []byte("x"), dial, nil)
			}
			synctest.Wait()
		}
		if dials != 2 || len(f.byKey[0].waiting) != pending {
			t.Fatalf("%d flows, %d datagrams wait", dials, len(f.byKey[0].waiting))
		}
		cancel()
		f.wait()
	})
}

func TestUDPSendDoesNotAllocate(t *testing.T) {
	f := newFlows(t.Context(), Limits{}.withDefaults(), func(string, error) {})
	c, err := net.Dial("udp", startEcho(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := &flow{born: time.Now()}
	w.ready(c)
	f.byKey["k"] = w
	pkt := make([]byte, 1200)
	if n := testing.AllocsPerRun(100, func() { f.send("k", pkt, nil, nil) }); n != 0 {
		t.Fatalf("%v allocations for a datagram", n)
	}
}
