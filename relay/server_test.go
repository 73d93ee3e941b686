package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

func TestHostileFramesEndTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"unknown type":      {[]byte{0x7f, 0, 0}, "ended_connections/protocol"},
		"type zero":         {[]byte{0, 0, 0}, "ended_connections/protocol"},
		"oversized send":    {[]byte{byte(frame.Send), 0xff, 0xff}, "ended_connections/protocol"},
		"oversized open":    {[]byte{byte(frame.Open), 0xff, 0xff}, "ended_connections/protocol"},
		"short ping":        {[]byte{byte(frame.Ping), 0, 7}, "ended_connections/protocol"},
		"second hello":      {frame.AppendHello(nil, 1), "ended_connections/protocol"},
		"relay's type":      {frame.AppendDrain(nil, 0), "ended_connections/protocol"},
		"peer that is none": {append([]byte{byte(frame.Send), 0, 6}, "../..x"...), "ended_connections/protocol"},
		"cut in a frame":    {[]byte{byte(frame.Send), 0x05, 0x00, 'b'}, "ended_connections/lost"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Limits{}, func(t *testing.T, w *world) {
				a := w.connect("alice", true)
				a.write(c.in)
				if strings.HasSuffix(c.want, "lost") {
					a.conn.Close()
				}
				if !a.isEnded() {
					t.Fatal("still connected")
				}
				w.counted(c.want, 1)
				last := a.take()
				if n := len(last); strings.HasSuffix(c.want, "protocol") && (n == 0 || last[n-1].Type != frame.Note) {
					t.Errorf("not told why: %v", last)
				}
			})
		})
	}
}

func TestSlowReceiverSlowsNobody(t *testing.T) {
	limits := Limits{QueueBytes: 128 << 10, WriteTimeout: 5 * time.Second}
	bubble(t, limits, func(t *testing.T, w *world) {
		alice, carol := w.connect("alice", true), w.connect("carol", true)
		slow := w.connect("slow0", false) // never reads
		alice.open(w.ticket("alice", "slow0", time.Hour))
		alice.open(w.ticket("alice", "carol", time.Hour))
		alice.take()
		start := time.Now()
		payload := strings.Repeat("x", 1400)
		for i := range 300 {
			alice.send(slow, payload)
			alice.send(carol, payload)
			if i%20 == 0 {
				synctest.Wait() // carol reads as fast as she is sent to
			}
		}
		if n := len(carol.take()); n != 300 {
			t.Errorf("carol heard %d of 300", n)
		}
		if d := time.Since(start); d > patience { // the bubble's time passes only when all wait
			t.Errorf("alice waited %v for the slow receiver", d)
		}
		queued := w.srv.Stats().Counts["forwarded_frames"] - 300
		if most := uint64(2 * limits.QueueBytes / 1400); queued == 0 || queued > most {
			t.Errorf("%d frames wait for the slow receiver, at most %d fit", queued, most)
		}
		w.counted("dropped_frames/queue_full", 300-queued)
		time.Sleep(limits.WriteTimeout + lingerFor)
		synctest.Wait()
		w.counted("ended_connections/slow", 1)
		alice.hears(frame.AppendPeerGone(nil, slow.id))
	})
}

// A client that takes little but takes it all the time is not cut.
func TestThinLineIsKept(t *testing.T) {
	bubble(t, Limits{WriteTimeout: 5 * time.Second}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", false)
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.take()
		for range 150 { // 210 kB, four chunks
			alice.send(bob, strings.Repeat("x", 1400))
		}
		r := frame.NewReader(bob.conn)
		for n := 0; n < 151; n++ { // with the relay's Hello
			if _, _, err := r.Next(); err != nil {
				t.Fatalf("after %d frames: %v", n, err)
			}
			time.Sleep(100 * time.Millisecond) // 14 kB/s
		}
		w.counted("ended_connections/slow", 0)
	})
}

func TestPings(t *testing.T) {
	bubble(t, Limits{PingEvery: 20 * time.Second}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		alice.write(frame.AppendPing(nil, [8]byte{1, 2, 3}))
		alice.hears(frame.AppendPong(nil, [8]byte{1, 2, 3}))
		bob.mu.Lock()
		bob.deaf = true
		bob.mu.Unlock()
		time.Sleep(5 * 20 * time.Second)
		if alice.isEnded() || !bob.isEnded() {
			t.Errorf("answering ended %t, silent ended %t", alice.isEnded(), bob.isEnded())
		}
		w.counted("ended_connections/idle", 1)
		time.Sleep(time.Hour)
		if alice.isEnded() {
			t.Error("idle but answering client was cut")
		}
	})
}

func TestCertificateEndClosesTheConnection(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		cert := w.svid(svid.System(w.org, "alice"), time.Hour+7*time.Second) // between two ticks
		alice := w.connectWith(cert, "alice", true)
		time.Sleep(time.Until(cert.Leaf.NotAfter) - time.Second)
		if alice.isEnded() {
			t.Fatal("ended early")
		}
		time.Sleep(time.Second)
		if !alice.isEnded() {
			t.Error("outlives its certificate")
		}
		w.counted("ended_connections/certificate", 1)
	})
}

// While it lingers to read the rest, a client that was cut has no say any more.
func TestCutClientSendsNothingMore(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		cert := w.svid(svid.System(w.org, "alice"), time.Hour)
		alice, bob := w.connectWith(cert, "alice", false), w.connect("bob00", true)
		bob.open(w.ticket("alice", "bob00", 2*time.Hour))
		bob.hears(opened(alice, true))
		// Alice reads no Hello, so the writer lingers; pings go unread the same way.
		w.srv.roster.clients[alice.id].cut(endCertificate, "")
		b, _ := frame.AppendSend(nil, bob.id, []byte("late"))
		alice.conn.SetWriteDeadline(time.Now().Add(lingerFor / 2))
		if _, err := alice.conn.Write(b); err == nil {
			t.Error("the relay still reads from a client that was cut")
		}
		time.Sleep(2 * lingerFor)
		bob.hears(frame.AppendPeerGone(nil, alice.id))
	})
}

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
func (l *exhausted) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
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

func TestSenderIsThrottled(t *testing.T) {
	bubble(t, Limits{Rate: 100 << 10, Burst: minBurst}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		bob.open(w.ticket("alice", "bob00", time.Hour))
		bob.take()
		start := time.Now()
		for range 200 { // 280 kB: 64 kB at once, the rest at 100 kB/s
			alice.send(bob, strings.Repeat("x", 1400))
		}
		if n := len(bob.take()); n < 40 || n > 199 {
			t.Errorf("%d frames passed at once", n)
		}
		time.Sleep(3 * time.Second)
		all := bob.take()
		if len(all) == 0 {
			t.Fatal("nothing more passed")
		}
		if d := all[len(all)-1].at.Sub(start); d < 1500*time.Millisecond || d > 2500*time.Millisecond {
			t.Errorf("280 kB at 100 kB/s took %v", d)
		}
		w.counted("forwarded_frames", 200) // slowed down, not dropped
	})
}

// A flood of frames for nobody is answered at a bounded rate.
func TestNoticesAreLimited(t *testing.T) {
	bubble(t, Limits{Notices: 1, NoticeBurst: 5}, func(t *testing.T, w *world) {
		alice := w.connect("alice", true)
		for range 100 {
			alice.send(&agent{id: frame.ID([]byte("zzzzz"))}, "x")
		}
		if n := len(alice.take()); n != 5 {
			t.Errorf("%d refusals for 100 frames, want 5", n)
		}
	})
}

func TestShutdownTellsClientsFirst(t *testing.T) {
	bubble(t, Limits{DrainGrace: 5 * time.Second}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.take()
		start, done := time.Now(), make(chan error, 1)
		go func() { done <- w.srv.Shutdown(context.Background()) }()
		alice.hears(frame.AppendDrain(nil, 5*time.Second))
		bob.hears(frame.AppendDrain(nil, 5*time.Second))
		alice.send(bob, "meanwhile") // frames flow until the end
		bob.hears(recv(alice, "meanwhile"))
		if err := w.dial(w.clientTLS(w.svid(svid.System(w.org, "carol"), time.Hour))).HandshakeContext(w.ctx); err == nil {
			t.Error("a new client was let in")
		}
		w.counted("refused_connections/draining", 1)
		bob.conn.Close()
		if err := <-done; err != nil || time.Since(start) != 5*time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(start))
		}
		if !alice.isEnded() {
			t.Error("alice outlives the relay")
		}
		w.counted("ended_connections/shutdown", 1)
		w.counted("ended_connections/left", 1)
	})
}

func TestShutdownDoesNotWaitForNobody(t *testing.T) {
	bubble(t, Limits{DrainGrace: time.Hour}, func(t *testing.T, w *world) {
		alice, stuck := w.connect("alice", true), w.connect("stuck", false)
		start, done := time.Now(), make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() { done <- w.srv.Shutdown(ctx) }()
		alice.hears(frame.AppendDrain(nil, 10*time.Second)) // no more than ctx allows
		alice.conn.Close()
		<-done
		if d := time.Since(start); d > 10*time.Second+2*lingerFor {
			t.Errorf("took %v with one client stuck", d)
		}
		_ = stuck
		again := time.Now()
		if err := w.srv.Shutdown(t.Context()); err != nil || time.Since(again) != 0 {
			t.Errorf("second Shutdown: %v after %v", err, time.Since(again))
		}
	})
}

// ServeConn's context ends its connection without Shutdown.
func TestContextEndsConnections(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice := w.connect("alice", true)
		w.cancel()
		if !alice.isEnded() {
			t.Error("still connected")
		}
		w.counted("ended_connections/shutdown", 1)
	})
}

func TestValidateNamesEveryMistake(t *testing.T) {
	cfg := Config{Limits: Limits{Burst: 1, QueueBytes: 1, STUNTableBits: 60}}
	err := cfg.Validate()
	if err == nil || len(strings.Split(err.Error(), "\n")) != 5 {
		t.Errorf("%v", err)
	}
	// Run all the same, it refuses everybody rather than nobody.
	s := New(Config{})
	if _, _, err := svidVerifyWith(s); err == nil {
		t.Error("a relay without trust trusts")
	}
	if err := s.Serve(t.Context(), nopListener{}); err == nil {
		t.Error("Serve without an identity runs")
	}
}

func svidVerifyWith(s *Server) (wire.SystemID, any, error) {
	id, leaf, err := svid.Verify(nil, s.trust().Roots, s.org(), time.Now())
	return id.SystemID(), leaf, err
}

type nopListener struct{ net.Listener }

func (nopListener) Close() error { return nil }

func TestBufferGoesBackEmpty(t *testing.T) {
	l := Limits{}.orDefaults()
	q := newQueue(newPool(), &l)
	alice := &client{id: frame.ID([]byte("alice")), room: make(chan struct{}, 1)}
	if !q.control([]byte("abc")) || q.packet(alice, []byte("x")) != admitted {
		t.Fatal("refused")
	}
	b := q.take()
	if b.frames != 2 || !bytes.HasPrefix(b.b, []byte("abc")) {
		t.Errorf("%+v", b)
	}
	q.free(b)
	if len(b.b) != 0 || b.frames != 0 || q.take() != nil {
		t.Error("not empty")
	}
	q.maxFrames = 2
	for range 3 {
		q.packet(alice, []byte("x"))
	}
	if !q.control([]byte("xyz")) { // a full queue still takes a short answer
		t.Error("no reserve for control frames")
	}
	if b := q.take(); b.frames != 3 {
		t.Errorf("%d frames where two and an answer fit", b.frames)
	}
	q.close()
	if q.control([]byte("x")) {
		t.Error("a closed queue takes frames")
	}
}
