package relay

import (
	"testing"
	"time"

	"golang.org/x/time/rate"

	"enclave/wire/frame"
)

func TestOneTicketServesBothDirections(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.hears(opened(bob, true))
		alice.send(bob, "one")
		alice.send(bob, "two")
		bob.hears(recv(alice, "one"), recv(alice, "two"))
		bob.send(alice, "three")
		alice.hears(recv(bob, "three"))
		w.counted("forwarded_frames", 3)
		w.counted("forwarded_bytes", 11)
		if st := w.srv.Stats(); st.Clients != 2 || st.Pairs != 1 || st.Handshakes != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// Without a ticket the answer must not tell whether the other is connected.
func TestRefusedWithoutATicket(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		nobody := &agent{id: frame.ID([]byte("zzzzz"))}
		alice.send(bob, "hello")
		alice.send(nobody, "hello")
		alice.hears(refused(bob.id, frame.NoTicket), refused(nobody.id, frame.NoTicket))
		bob.hears()
		w.counted("dropped_frames/no_ticket", 2)
		w.counted("forwarded_frames", 0)
	})
}

func TestTicketEndClosesThePair(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		raw := w.ticket("alice", "bob00", time.Minute)
		alice.open(raw)
		alice.hears(opened(bob, true))
		time.Sleep(time.Minute - time.Nanosecond)
		alice.send(bob, "in time")
		bob.hears(recv(alice, "in time"))
		time.Sleep(time.Nanosecond)
		alice.send(bob, "late")
		bob.hears()
		bob.send(alice, "late")
		alice.hears(refused(bob.id, frame.Expired))
		bob.hears(refused(alice.id, frame.NoTicket))
		alice.open(raw) // a ticket that ended opens nothing
		alice.hears(refused(frame.NoPeer, frame.Expired))
		// Renewed by the other side, it carries again; an older one takes nothing away.
		longer, shorter := w.ticket("alice", "bob00", time.Hour), w.ticket("alice", "bob00", time.Minute)
		bob.open(longer)
		bob.open(shorter)
		bob.hears(opened(alice, true), opened(alice, true))
		time.Sleep(30 * time.Minute)
		alice.send(bob, "again")
		bob.hears(recv(alice, "again"))
	})
}

func TestAStolenTicketOpensNothing(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		bob, eve := w.connect("bob00", true), w.connect("eve00", true)
		eve.open(w.ticket("alice", "bob00", time.Hour))
		eve.hears(refused(frame.NoPeer, frame.NotYours))
		eve.send(bob, "hello")
		eve.hears(refused(bob.id, frame.NoTicket))
		raw := w.ticket("bob00", "eve00", time.Hour)
		raw[len(raw)-1] ^= 1
		eve.open(raw)
		eve.open([]byte("ticket"))
		eve.hears(refused(frame.NoPeer, frame.BadTicket), refused(frame.NoPeer, frame.BadTicket))
		bob.hears()
		w.counted("tickets/not_yours", 1)
		w.counted("tickets/bad", 2)
		if eve.isEnded() {
			t.Error("a bad ticket ended the connection")
		}
	})
}

// The name a receiver sees is the certificate's. There is no field to lie in; what is
// left to try is a frame that only a relay sends, and another's name as one's own.
func TestNobodyCanForgeTheSource(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob, eve := w.connect("alice", true), w.connect("bob00", true), w.connect("eve00", true)
		eve.open(w.ticket("bob00", "eve00", time.Hour))
		eve.hears(opened(bob, true))
		eve.send(bob, string(recv(alice, "from alice"))) // a frame in a payload is a payload
		bob.hears(recv(eve, string(recv(alice, "from alice"))))
		eve.write(recv(alice, "from alice"))
		bob.hears(frame.AppendPeerGone(nil, eve.id))
		if !eve.isEnded() {
			t.Error("a client that sends Recv stays connected")
		}
		w.counted("ended_connections/protocol", 1)
	})
}

func TestPresence(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice := w.connect("alice", true)
		absent := &agent{id: frame.ID([]byte("bob00"))}
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.hears(opened(absent, false))
		alice.send(absent, "anyone?")
		alice.hears(frame.AppendPeerGone(nil, absent.id))
		w.counted("dropped_frames/peer_gone", 1)

		bob := w.connect("bob00", true)
		alice.hears(opened(bob, true))
		bob.hears()
		bob.send(alice, "here")
		alice.hears(recv(bob, "here"))

		// Either one's leaving is told to the other, whoever had the ticket.
		bob.conn.Close()
		alice.hears(frame.AppendPeerGone(nil, bob.id))
		bob = w.connect("bob00", true)
		alice.hears(opened(bob, true))
		alice.conn.Close()
		bob.hears(frame.AppendPeerGone(nil, alice.id))
		bob.send(alice, "still?")
		bob.hears(refused(alice.id, frame.NoTicket)) // the ticket went with its connection
		w.counted("ended_connections/left", 2)
		if st := w.srv.Stats(); st.Pairs != 0 || len(w.srv.roster.openers) != 0 {
			t.Errorf("%d pairs outlive their connection, %d are remembered", st.Pairs, len(w.srv.roster.openers))
		}
	})
}

// Presence is the pair's business: after the ticket's end nobody is told.
func TestPresenceEndsWithTheTicket(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		alice.open(w.ticket("alice", "bob00", time.Minute))
		alice.hears(opened(bob, true))
		time.Sleep(time.Minute)
		bob.conn.Close()
		alice.hears()
		w.connect("bob00", true)
		alice.hears()
	})
}

func TestNewestConnectionWins(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		bob.open(w.ticket("alice", "bob00", time.Hour))
		alice.open(w.ticket("alice", "bob00", time.Hour))
		bob.take()
		second := w.connect("alice", true)
		if !alice.isEnded() || second.isEnded() {
			t.Fatalf("old ended %t, new ended %t", alice.isEnded(), second.isEnded())
		}
		last := alice.take()
		if n := len(last); n == 0 || last[n-1].Type != frame.Note {
			t.Errorf("the old one was not told why: %v", last)
		}
		bob.hears(opened(second, true)) // and no peer-gone: it is here
		bob.send(second, "to the new one")
		second.hears(recv(bob, "to the new one"))
		w.counted("ended_connections/replaced", 1)
		if st := w.srv.Stats(); st.Clients != 2 || st.Pairs != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestPairsAreLimited(t *testing.T) {
	bubble(t, Limits{Pairs: 2}, func(t *testing.T, w *world) {
		alice := w.connect("alice", true)
		b, c, d := &agent{id: frame.ID([]byte("bbbbb"))}, &agent{id: frame.ID([]byte("ccccc"))}, &agent{id: frame.ID([]byte("ddddd"))}
		alice.open(w.ticket("alice", "bbbbb", time.Minute))
		alice.open(w.ticket("alice", "ccccc", time.Hour))
		alice.open(w.ticket("alice", "ccccc", 2*time.Hour)) // again is not another
		alice.open(w.ticket("alice", "ddddd", time.Hour))
		alice.hears(opened(b, false), opened(c, false), opened(c, false), refused(d.id, frame.TooMany))
		time.Sleep(time.Minute) // the first has ended and makes room
		alice.open(w.ticket("alice", "ddddd", time.Hour))
		alice.hears(opened(d, false))
		w.counted("tickets/too_many", 1)
		if st := w.srv.Stats(); st.Pairs != 2 {
			t.Errorf("%d pairs", st.Pairs)
		}
	})
}

// TestAReplacedConnectionOpensNothing: what it says after its end leaves nothing behind
// that no end would take away.
func TestAReplacedConnectionOpensNothing(t *testing.T) {
	now := time.Now()
	r, alice := newRoster(), frame.ID([]byte("alice"))
	old, fresh := &client{id: alice}, &client{id: alice}
	r.join(old, 9, now)
	r.join(fresh, 9, now)
	if _, ok := r.open(old, frame.ID([]byte("bob00")), now.Add(time.Hour), 9, now); ok {
		t.Error("it opens a pair")
	}
	r.leave(fresh, now)
	if clients, pairs := r.size(); clients != 0 || pairs != 0 || len(r.openers) != 0 {
		t.Errorf("%d clients and %d pairs are left, %v", clients, pairs, r.openers)
	}
}

// TestARosterTellsWhoMayKnow: of who comes and goes, each once, and nobody whose ticket has
// ended; and who has gone leaves nothing behind.
func TestARosterTellsWhoMayKnow(t *testing.T) {
	now := time.Now()
	r, limits := newRoster(), Limits{QueueBytes: 1 << 10, QueueFrames: 100}
	pool := newPool()
	make := func(id string) *client {
		return &client{id: frame.ID([]byte(id)), queue: newQueue(pool, &limits), notices: rate.NewLimiter(rate.Inf, 1)}
	}
	heard := func(c *client) (n int) {
		if w := c.queue.take(); w != nil {
			n = w.frames
			c.queue.free(w)
		}
		return n
	}
	open := func(c *client, peer *client, until time.Duration) {
		t.Helper()
		if _, ok := r.open(c, peer.id, now.Add(until), 9, now); !ok {
			t.Fatalf("%s opens no pair", c.id)
		}
	}
	alice, bob, carol, dave := make("alice"), make("bob00"), make("carol"), make("dave0")
	for _, c := range []*client{bob, carol, dave} {
		if _, ok := r.join(c, 4, now); !ok {
			t.Fatalf("%s does not get in", c.id)
		}
	}
	open(bob, alice, time.Hour)
	open(carol, alice, time.Hour)
	open(dave, alice, time.Minute)
	r.join(alice, 4, now)
	if b, c, d := heard(bob), heard(carol), heard(dave); b != 1 || c != 1 || d != 1 {
		t.Errorf("of who comes, %d, %d and %d are told; each holds a ticket", b, c, d)
	}
	open(alice, bob, time.Hour) // both have presented it
	open(alice, dave, time.Minute)
	r.leave(alice, now.Add(time.Minute))
	if b, c, d := heard(bob), heard(carol), heard(dave); b != 1 || c != 1 || d != 0 {
		t.Errorf("of who goes, %d, %d and %d are told; the last one's ticket has ended", b, c, d)
	}
	if _, ok := r.join(alice, 3, now); ok {
		t.Error("more get in than may")
	}
	for _, c := range []*client{bob, carol, dave} {
		r.leave(c, now)
	}
	if clients, pairs := r.size(); clients != 0 || pairs != 0 || len(r.openers) != 0 {
		t.Errorf("%d clients and %d pairs are left, %v", clients, pairs, r.openers)
	}
	r.close()
	if _, ok := r.join(alice, 4, now); ok {
		t.Error("who comes while all are told to leave gets in")
	}
}
