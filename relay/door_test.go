package relay

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

func TestWhoIsRefused(t *testing.T) {
	system := func(w *world) *tls.Certificate { return w.svid(svid.System(w.org, "alice"), time.Hour) }
	hello := frame.AppendHello(nil, 1)
	for name, c := range map[string]struct {
		cert func(*world) *tls.Certificate
		alpn string
		say  []byte
		want string
	}{
		"no certificate": {func(*world) *tls.Certificate { return nil }, frame.ALPN, hello, "handshake"},
		"a relay":        {func(w *world) *tls.Certificate { return w.svid(svid.Relay(w.org, "relay"), time.Hour) }, frame.ALPN, hello, "identity"},
		"other organisation": {func(w *world) *tls.Certificate {
			return w.svid(svid.System("01BX5ZZKBKACTAV9WEVGEMMVRZ", "alice"), time.Hour)
		}, frame.ALPN, hello, "handshake"},
		"expired": {func(w *world) *tls.Certificate { return w.svid(svid.System(w.org, "alice"), -time.Minute) }, frame.ALPN, hello, "handshake"},
		"other root": {func(w *world) *tls.Certificate {
			other := newWorld(w.t, Limits{})
			other.org = w.org
			return system(other)
		}, frame.ALPN, hello, "handshake"},
		"other protocol":  {system, "h2", hello, "handshake"},
		"no protocol":     {system, "", hello, "identity"},
		"no hello":        {system, frame.ALPN, frame.AppendPing(nil, [8]byte{1}), "hello"},
		"hello of zero":   {system, frame.ALPN, frame.AppendHello(nil, 0), "hello"},
		"HTTP":            {system, frame.ALPN, []byte("GET / HTTP/1.1\r\n\r\n"), "hello"},
		"silence":         {system, frame.ALPN, nil, "hello"},
		"newer is let in": {system, frame.ALPN, frame.AppendHello(nil, 9), ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Limits{Handshake: 3 * time.Second}, func(t *testing.T, w *world) {
				cfg := w.clientTLS(c.cert(w))
				cfg.NextProtos = nil
				if c.alpn != "" {
					cfg.NextProtos = []string{c.alpn}
				}
				conn := w.dial(cfg)
				go func() {
					conn.Write(c.say)
					var b [512]byte
					for {
						if _, err := conn.Read(b[:]); err != nil {
							return
						}
					}
				}()
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if st := w.srv.Stats(); c.want == "" && st.Clients != 1 || c.want != "" && st.Clients != 0 || st.Handshakes != 0 {
					t.Errorf("stats %+v", st)
				}
				if c.want != "" {
					w.counted("refused_connections/"+c.want, 1)
				}
			})
		})
	}
}

// TestAnyHandshakeIsJudged: a connection whose handshake was somebody else's, with other
// demands, is held to those of a relay.
func TestAnyHandshakeIsJudged(t *testing.T) {
	for name, spoil := range map[string]func(server, client *tls.Config){
		"no protocol":      func(s, c *tls.Config) { s.NextProtos, c.NextProtos = nil, nil },
		"another protocol": func(s, c *tls.Config) { s.NextProtos, c.NextProtos = []string{"h2"}, []string{"h2"} },
		"TLS 1.2": func(s, c *tls.Config) {
			s.MinVersion, c.MinVersion, s.MaxVersion = tls.VersionTLS12, tls.VersionTLS12, tls.VersionTLS12
		},
		"as it should be": func(s, c *tls.Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Limits{Handshake: 3 * time.Second}, func(t *testing.T, w *world) {
				server, client := svid.ServerConfig(w.trust(), w.srv.cfg.Identity, svid.ClientRequired), w.clientTLS(w.svid(svid.System(w.org, "alice"), time.Hour))
				server.NextProtos = []string{frame.ALPN}
				spoil(server, client)
				mine, theirs := net.Pipe()
				defer mine.Close()
				go w.srv.ServeConn(w.ctx, tls.Server(theirs, server))
				conn := tls.Client(mine, client)
				go io.Copy(io.Discard, conn)
				conn.Write(frame.AppendHello(nil, 1))
				synctest.Wait()
				if ok := w.srv.Stats().Clients == 1; ok != (name == "as it should be") {
					t.Errorf("let in: %v", ok)
				}
			})
		})
	}
}

// TestStrangersGiveTheirDescriptors: when there are none left, whoever has not said who he
// is makes room for who comes next.
func TestStrangersGiveTheirDescriptors(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		stranger, theirs := net.Pipe()
		l := &exhausted{conn: theirs, out: make(chan struct{}), closed: make(chan struct{})}
		done := make(chan error)
		go func() { done <- w.srv.Serve(w.ctx, l) }()
		synctest.Wait() // he is in, and silent
		close(l.out)
		synctest.Wait()
		w.counted("refused_connections/handshakes_full", 1)
		if err := stranger.SetDeadline(time.Now()); err == nil {
			t.Error("the stranger stays")
		}
		w.cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// exhausted is a listener with one connection, and then one time without descriptors.
type exhausted struct {
	conn        net.Conn
	out, closed chan struct{}
	once        sync.Once
}

func (l *exhausted) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	if l.out != nil {
		<-l.out
		l.out = nil
		return nil, syscall.EMFILE
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *exhausted) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

func (l *exhausted) Addr() net.Addr { return &net.TCPAddr{} }

// A stranger who opens connections and says nothing must not take clients' places, nor keep
// them out: whoever has waited longest goes.
func TestSilentHandshakesHaveTheirOwnLimit(t *testing.T) {
	bubble(t, Limits{Handshakes: 2, Clients: 2, Handshake: 10 * time.Second}, func(t *testing.T, w *world) {
		w.dial(nil)
		time.Sleep(time.Second)
		w.dial(nil)
		synctest.Wait()
		w.connect("alice", true)
		w.counted("refused_connections/handshakes_full", 1)
		w.counted("refused_connections/handshake", 1) // the first
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.counted("refused_connections/handshake", 2)
		w.connect("bob00", true)
		third := w.connect("carol", true)
		if !third.isEnded() {
			t.Error("a third client was let in")
		}
		w.connect("alice", true) // taking one's own place is no third
		w.counted("refused_connections/clients_full", 1)
		w.counted("ended_connections/replaced", 1)
	})
}

func TestPerAddressLimit(t *testing.T) {
	l := Limits{PerAddress: 2}.orDefaults()
	d := newDoor()
	tcp := func(s string) netip.Prefix { return sourceOf(net.TCPAddrFromAddrPort(mustAddrPort(s))) }
	var in []*visitor
	for _, c := range []struct {
		addr string
		ok   bool
	}{
		{"192.0.2.1:1", true}, {"192.0.2.1:2", true}, {"192.0.2.1:3", false}, {"[::ffff:192.0.2.1]:4", false},
		{"192.0.2.2:1", true}, {"[2001:db8::1]:1", true}, {"[2001:db8::2]:1", true}, {"[2001:db8::3]:1", false}, {"[2001:db8:0:1::1]:1", true},
	} {
		v, ev := d.enter(tcp(c.addr), nil, &l)
		if (v != nil) != c.ok || (!c.ok && ev != refusedAddress) {
			t.Errorf("%s: %v, %v", c.addr, ev, v)
		}
		if v != nil {
			in = append(in, v)
		}
	}
	d.leave(in[0])
	if in[0], _ = d.enter(tcp("192.0.2.1:9"), nil, &l); in[0] == nil {
		t.Error("a place that was left is not free")
	}
	for _, v := range in {
		d.leave(v)
	}
	if len(d.bySource) != 0 || d.handshakes() != 0 {
		t.Errorf("left over: %v, %d", d.bySource, d.handshakes())
	}
}

// TestStrangersKeepNobodyOut: one source has its part of the handshakes, and beyond all
// places the oldest gives way; who has proved itself is left alone.
func TestStrangersKeepNobodyOut(t *testing.T) {
	l := Limits{Handshakes: 4 * sourceParts, PerAddress: 100}.orDefaults()
	d := newDoor()
	var cut []int
	from := func(n int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 32)
	}
	proved, _ := d.enter(from(0), func() { t.Error("a client was turned out") }, &l)
	d.proved(proved)
	for i := range 4 {
		if v, ev := d.enter(from(1), func() { cut = append(cut, i) }, &l); v == nil || ev != 0 {
			t.Fatal(i, ev)
		}
	}
	if v, ev := d.enter(from(1), nil, &l); v != nil || ev != refusedHandshakes {
		t.Errorf("one source has more than its part: %v", ev)
	}
	for i := range 4*sourceParts - 4 {
		d.enter(from(2+i), func() {}, &l)
	}
	if v, ev := d.enter(from(200), nil, &l); v == nil || ev != refusedHandshakes || !slices.Equal(cut, []int{0}) {
		t.Errorf("with all places taken: %v, cut %v", ev, cut)
	}
	if v, _ := d.enter(from(1), nil, &l); v == nil || !slices.Equal(cut, []int{0, 1}) {
		t.Errorf("who was turned out still counts: cut %v", cut)
	}
	if !d.room() || !slices.Equal(cut, []int{0, 1, 2}) || d.handshakes() != l.Handshakes-1 {
		t.Errorf("cut %v, %d wait", cut, d.handshakes())
	}
}

func svidVerifyWith(s *Server) (wire.SystemID, any, error) {
	id, leaf, err := svid.Verify(nil, s.trust().Roots, s.org(), time.Now())
	return id.SystemID(), leaf, err
}

// TestADoorCountsEachOnce: who proves itself, is turned out and leaves is one connection less
// and one handshake less, and those beside it still count.
func TestADoorCountsEachOnce(t *testing.T) {
	d, src := newDoor(), netip.MustParsePrefix("192.0.2.1/32")
	l := &Limits{PerAddress: 3, Handshakes: 2 * sourceParts}
	enter := func(want bool) *visitor {
		t.Helper()
		v, _ := d.enter(src, func() {}, l)
		if (v != nil) != want {
			t.Fatalf("let in: %t", !want)
		}
		return v
	}
	first, second := enter(true), enter(true)
	enter(false) // two handshakes are its part
	d.proved(first)
	d.proved(first)
	third := enter(true)
	enter(false)
	d.room() // the second goes
	enter(false)
	d.leave(second)
	d.leave(first)
	if s := d.bySource[src]; s == nil || s.all != 1 || s.waiting != 1 || d.handshakes() != 1 {
		t.Errorf("one is left of three: %+v", s)
	}
	d.leave(third)
	if len(d.bySource) != 0 || d.handshakes() != 0 || d.room() {
		t.Errorf("%d sources and %d handshakes are left", len(d.bySource), d.handshakes())
	}
}
