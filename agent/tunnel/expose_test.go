package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"enclave/agent/proxy"
)

// overlay dials through a tunnel, as the agent does once it knows the address.
type overlay struct{ *node }

func (o overlay) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	return o.DialTCP(ctx, toAddrPort(at))
}

// A program on a's machine talks to a service on b's machine, by a forward and an
// expose: four connections, of which the two at the ends are the kernel's.
func TestForwardToExpose(t *testing.T) {
	onEach(t, func(t *testing.T, on stacks) {
		noLeaks(t)
		a, b := newPair(t, on)
		service, forward := listenLocal(t), listenLocal(t)
		exposed, err := b.ListenTCP(b.at(80))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		t.Cleanup(func() { cancel(); wg.Wait() })
		for l, r := range map[net.Listener]*proxy.Relay{
			exposed: {Dialer: new(net.Dialer), Target: service.Addr().String()},
			forward: {Dialer: overlay{a}, Target: b.at(80).String()},
		} {
			wg.Go(func() {
				if err := r.Run(ctx, l); err != nil {
					t.Error(err)
				}
			})
		}
		open := func() (client, server *net.TCPConn) {
			c, err := net.Dial("tcp", forward.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := service.Accept()
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range []net.Conn{c, s} {
				t.Cleanup(func() { x.Close() })
				x.SetDeadline(time.Now().Add(time.Minute))
			}
			return c.(*net.TCPConn), s.(*net.TCPConn)
		}

		client, server := open()
		io.WriteString(client, "question")
		client.CloseWrite()
		if got, err := io.ReadAll(server); string(got) != "question" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		io.WriteString(server, "answer")
		server.Close()
		if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}

		for range 5 { // a reset from either end crosses the overlay
			client, server = open()
			io.WriteString(server, "half")
			io.ReadFull(client, make([]byte, 4))
			server.SetLinger(0)
			server.Close()
			if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the client of a service that died: %v", err)
			}
			client, server = open()
			io.WriteString(client, "half")
			io.ReadFull(server, make([]byte, 4))
			client.SetLinger(0)
			client.Close()
			if _, err := io.ReadAll(server); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the service of a client that died: %v", err)
			}
		}
	})
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
