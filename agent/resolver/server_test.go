package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"enclave/wire"
	"enclave/wire/names"
)

// datagrams is a socket that has a fixed list to read and keeps what is written.
type datagrams struct {
	mu   sync.Mutex
	in   []datagram
	out  []datagram
	done chan struct{}
	once sync.Once
}

type datagram struct {
	msg  []byte
	peer netip.AddrPort
}

func (d *datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.in) == 0 {
		return 0, nil, net.ErrClosed
	}
	next := d.in[0]
	d.in = d.in[1:]
	return copy(b, next.msg), net.UDPAddrFromAddrPort(next.peer), nil
}

func (d *datagrams) WriteTo(b []byte, to net.Addr) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = append(d.out, datagram{append([]byte(nil), b...), to.(*net.UDPAddr).AddrPort()})
	return len(b), nil
}

func (d *datagrams) Close() error                     { d.once.Do(func() { close(d.done) }); return nil }
func (d *datagrams) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (d *datagrams) SetDeadline(time.Time) error      { return nil }
func (d *datagrams) SetReadDeadline(time.Time) error  { return nil }
func (d *datagrams) SetWriteDeadline(time.Time) error { return nil }

// TestTheStubAnswersItsOwnSystemAlone: what a peer asks stays unanswered.
func TestTheStubAnswersItsOwnSystemAlone(t *testing.T) {
	self, other := netip.MustParseAddrPort("100.64.0.9:4000"), netip.MustParseAddrPort("100.64.0.1:4000")
	msg := question("web.enclave.", dnsmessage.TypeA, nil)
	pc := &datagrams{in: []datagram{{msg, other}, {msg, self}, {msg, other}}, done: make(chan struct{})}
	s := New(Config{View: view, Local: func(a netip.Addr) bool { return a == self.Addr() }})
	if err := s.ServeUDP(t.Context(), pc); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if len(pc.out) != 1 || pc.out[0].peer != self {
		t.Errorf("answered %+v", pc.out)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
	for from, want := range map[netip.AddrPort]bool{self: true, other: false} {
		near, far := net.Pipe()
		l := &callers{in: make(chan net.Conn, 1)}
		l.in <- &caller{near, from}
		ended := make(chan error)
		go func() { ended <- s.ServeTCP(t.Context(), l) }()
		far.Write(framed)
		if _, err := far.Read(make([]byte, 2)); (err == nil) != want {
			t.Errorf("over TCP, from %s: %v", from, err)
		}
		far.Close()
		close(l.in)
		<-ended
	}
}

// callers is a listener whose connections come from where the test says.
type callers struct{ in chan net.Conn }

func (l *callers) Accept() (net.Conn, error) {
	if c, ok := <-l.in; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *callers) Close() error   { return nil }
func (l *callers) Addr() net.Addr { return &net.TCPAddr{} }

type caller struct {
	net.Conn
	from netip.AddrPort
}

func (c *caller) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }

func serve(t *testing.T, v func() *names.View, d Dialer) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skip(err)
	}
	s := New(Config{View: v, Dialer: d})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.ServeUDP(ctx, pc); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := s.ServeTCP(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return l.Addr().String()
}

// TestGoResolver: Go's own resolver is a client of the stub, over both transports.
func TestGoResolver(t *testing.T) {
	var mu sync.Mutex
	current := view()
	addr := serve(t, func() *names.View { mu.Lock(); defer mu.Unlock(); return current }, dialer(func(network, _ string) (func([]byte) []byte, error) {
		if network == "tcp" {
			return answering(200, nil), nil
		}
		return answering(0, func(m *dnsmessage.Message) { m.Truncated = true }), nil
	}))
	for _, force := range []string{"", "tcp"} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			if force != "" {
				network = force
			}
			return d.DialContext(ctx, network, addr)
		}}
		if got, err := r.LookupHost(t.Context(), "web.enclave."); err != nil || len(got) != 2 {
			t.Errorf("web.enclave: %v, %v", got, err)
		}
		var e *net.DNSError
		if got, err := r.LookupHost(t.Context(), "no.enclave."); !errors.As(err, &e) || !e.IsNotFound {
			t.Errorf("no.enclave: %v, %v", got, err)
		}
		if got, err := r.LookupHost(t.Context(), "example.com."); !errors.As(err, &e) || !e.IsTemporary || e.IsNotFound {
			t.Errorf("example.com: %v, %v", got, err)
		}
		if got, err := r.LookupNetIP(t.Context(), "ip4", "nas.lan."); err != nil || len(got) != 200 {
			t.Errorf("nas.lan: %d, %v", len(got), err)
		}
	}
	mu.Lock()
	current = names.New("enclave", wire.DNS{}, nil) // the last policy has ended
	mu.Unlock()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}}
	if got, err := r.LookupHost(t.Context(), "web.enclave."); err == nil {
		t.Errorf("after the end: %v", got)
	}
}

// TestManyOnOneConnection: a TCP connection may ask again, and one that says nonsense
// is closed.
func TestManyOnOneConnection(t *testing.T) {
	addr := serve(t, view, nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	msg := question("web.enclave.", dnsmessage.TypeA, nil)
	for range 3 {
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
		raw, err := readTCP(c, MaxAnswer)
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(raw); err != nil || len(m.Answers) != 1 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	c.Write([]byte{0xff, 0xff, 0})
	if _, err := readTCP(c, MaxAnswer); err == nil {
		t.Error("a question of 65,535 bytes is read")
	}
}

// BenchmarkServer: questions a second over a real UDP socket, one client that waits for
// each answer, beside a server that sends the same bytes back.
func BenchmarkServer(b *testing.B) {
	msg := question("web.enclave.", dnsmessage.TypeA, edns(1232))
	run := func(b *testing.B, serve func(net.PacketConn)) {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			b.Skip(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); serve(pc) }()
		defer func() { pc.Close(); <-done }()
		c, err := net.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, udpSize)
		b.ReportAllocs()
		for b.Loop() {
			c.Write(msg)
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	}
	b.Run("stub", func(b *testing.B) {
		v := view()
		s := New(Config{View: func() *names.View { return v }})
		run(b, func(pc net.PacketConn) { s.ServeUDP(context.Background(), pc) })
	})
	b.Run("echo", func(b *testing.B) {
		run(b, func(pc net.PacketConn) {
			buf := make([]byte, udpSize)
			for {
				n, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				pc.WriteTo(buf[:n], from)
			}
		})
	})
}

// TestUnknownNamesAreTold: those of our zones that nobody has, and no other.
func TestUnknownNamesAreTold(t *testing.T) {
	v := names.New("enclave", wire.DNS{}, nil)
	var told []string
	s := New(Config{View: func() *names.View { return v }, Unknown: func(name string) { told = append(told, name) }})
	for _, name := range []string{"payroll.enclave.", "www.example.com.", "enclave."} {
		var q Query
		if out, _ := s.answer(&q, question(name, dnsmessage.TypeA, nil), nil); len(out) == 0 {
			t.Errorf("%s is not answered", name)
		}
	}
	if len(told) != 1 || told[0] != "payroll.enclave" {
		t.Errorf("told of %q", told)
	}
}
