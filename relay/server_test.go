package relay

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
