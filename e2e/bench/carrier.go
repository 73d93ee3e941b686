package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"enclave/wire"
	"enclave/wire/frame"
)

// Carrier is a server that carries packets between clients on TLS, and its frames. All
// carriers are driven by one and the same client: records of burst packets, written as
// fast as they are taken, and read into large buffers.
type Carrier struct {
	Name string
	// Serve runs the server until ctx ends, in a process of its own.
	Serve func(ctx context.Context, l net.Listener, side *RelaySide) error
	// Join takes client i from the end of the TLS handshake to where it may send. Client
	// i+1 receives what an even i sends. Nothing but packets may come after it.
	Join func(c *tls.Conn, i int, ticket []byte) error
	// Append appends the frame of a packet from client i.
	Append func(b []byte, i int, payload []byte) []byte
	// Next returns the size of the frame at the start of b and whether it is a packet; 0
	// when it is not all there.
	Next func(b []byte) (size int, packet bool)
	ALPN string
}

const (
	carried = 1420 // bytes of a packet
	burst   = 11   // of them in one TLS record, as an agent's writer batches them
)

func clientID(i int) wire.SystemID { return wire.SystemID(fmt.Sprintf("c%04d", i)) }

func peerOf(i int) frame.ID { return frame.ID([]byte(clientID(i ^ 1))) }

// ours is the product's relay.
func ours() Carrier {
	return Carrier{Name: "relay", ALPN: frame.ALPN,
		Serve: func(ctx context.Context, l net.Listener, side *RelaySide) error {
			s, err := side.server()
			if err != nil {
				return err
			}
			err = s.Serve(ctx, l)
			return errors.Join(err, s.Shutdown(context.Background()))
		},
		Join: func(c *tls.Conn, _ int, ticket []byte) error {
			b, err := frame.AppendOpen(frame.AppendHello(nil, frame.Version), ticket)
			if err != nil {
				return err
			}
			if _, err := c.Write(b); err != nil {
				return err
			}
			for _, want := range []frame.Type{frame.Hello, frame.Opened} {
				head := make([]byte, frame.HeaderLen)
				if _, err := io.ReadFull(c, head); err != nil {
					return err
				}
				if _, err := io.ReadFull(c, make([]byte, int(head[1])<<8|int(head[2]))); err != nil {
					return err
				}
				if frame.Type(head[0]) != want {
					return fmt.Errorf("relay sent %v, want %v", frame.Type(head[0]), want)
				}
			}
			return nil
		},
		Append: func(b []byte, i int, payload []byte) []byte {
			b, _ = frame.AppendSend(b, peerOf(i), payload) // fits
			return b
		},
		Next: nextFrame,
	}
}

func nextFrame(b []byte) (int, bool) {
	if len(b) < frame.HeaderLen {
		return 0, false
	}
	n := frame.HeaderLen + int(b[1])<<8 + int(b[2])
	if len(b) < n {
		return 0, false
	}
	return n, frame.Type(b[0]) == frame.Recv || frame.Type(b[0]) == frame.Send
}

// splice copies bytes from one TLS connection to another: no frames, no names, no
// tickets, no queue and no loss, and nobody whom a slow receiver could hold up but its
// only sender. No relay on TLS can do with less.
func splice() Carrier {
	c := ours()
	c.Name, c.ALPN = "plain splice", ""
	c.Join = func(c *tls.Conn, i int, _ []byte) error {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	c.Serve = func(ctx context.Context, l net.Listener, side *RelaySide) error {
		cert, err := side.Certificate()
		if err != nil {
			return err
		}
		cfg := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true}
		defer context.AfterFunc(ctx, func() { l.Close() })()
		var mu sync.Mutex
		waiting := map[int]*tls.Conn{}
		for {
			raw, err := l.Accept()
			if err != nil {
				return nil
			}
			go func() {
				c := tls.Server(raw, cfg)
				var who [1]byte
				if _, err := io.ReadFull(c, who[:]); err != nil {
					return
				}
				i := int(who[0])
				mu.Lock()
				other := waiting[i^1]
				if delete(waiting, i^1); other == nil {
					waiting[i] = c
				}
				mu.Unlock()
				_, _ = c.Write(who[:])
				if other == nil {
					return
				}
				from, to := c, other
				if i%2 == 1 {
					from, to = other, c
				}
				_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 64<<10))
				from.Close()
				to.Close()
			}()
		}
	}
	return c
}

// load is what came of pouring through a carrier.
type load struct {
	perCore float64 // packets delivered for a second of the server's processor time
	rate    float64 // delivered a second
	lost    float64 // part of what was sent
}

// overload pours packets through pairs of clients, each as fast as it is taken.
func overload(ctx context.Context, c *Carrier, o *organisation, server host, addr string, pairs int, each time.Duration) (load, error) {
	conns := make([]*tls.Conn, 2*pairs)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.NetConn().Close()
			}
		}
	}()
	for i := range conns {
		i ^= 1 // who receives comes first
		cfg, err := o.client(clientID(i))
		if err != nil {
			return load{}, err
		}
		if c.ALPN != "" {
			cfg.NextProtos = []string{c.ALPN}
		}
		raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return load{}, err
		}
		conns[i] = tls.Client(raw, cfg)
		_ = raw.SetDeadline(time.Now().Add(each + 20*time.Second))
		if err := conns[i].HandshakeContext(ctx); err != nil {
			return load{}, err
		}
		if err := c.Join(conns[i], i, o.ticket(clientID(i), clientID(i^1))); err != nil {
			return load{}, fmt.Errorf("client %d: %w", i, err)
		}
	}
	var sent, came atomic.Int64
	var clients sync.WaitGroup
	for i, conn := range conns {
		if i%2 == 0 {
			clients.Go(func() { send(c, conn, i, &sent) })
		} else {
			clients.Go(func() { receive(c, conn, &came) })
		}
	}
	time.Sleep(each / 4)
	cpu, err := server.do(ctx, &job{Do: doProcessor})
	if err != nil {
		return load{}, err
	}
	s, n, began := sent.Load(), came.Load(), time.Now()
	time.Sleep(each)
	s, n = sent.Load()-s, came.Load()-n
	took := time.Since(began)
	after, err := server.do(ctx, &job{Do: doProcessor})
	if err != nil {
		return load{}, err
	}
	for i := range conns {
		conns[i].NetConn().Close()
	}
	clients.Wait()
	if n == 0 {
		return load{}, fmt.Errorf("%s delivered nothing", c.Name)
	}
	return load{perCore: float64(n) / (after.Values[0] - cpu.Values[0]), rate: float64(n) / took.Seconds(),
		lost: max(0, 1-float64(n)/float64(s))}, nil
}

func send(c *Carrier, conn *tls.Conn, i int, sent *atomic.Int64) {
	payload := make([]byte, carried)
	var b []byte
	for range burst {
		b = c.Append(b, i, payload)
	}
	for {
		if _, err := conn.Write(b); err != nil {
			return
		}
		sent.Add(burst)
	}
}

func receive(c *Carrier, conn *tls.Conn, came *atomic.Int64) {
	buf := make([]byte, 256<<10)
	have := 0
	for {
		n, err := conn.Read(buf[have:])
		have += n
		at, packets := 0, 0
		for {
			size, packet := c.Next(buf[at:have])
			if size == 0 {
				break
			}
			if at += size; packet {
				packets++
			}
		}
		have = copy(buf, buf[at:have])
		came.Add(int64(packets))
		if err != nil {
			return
		}
	}
}
