package relay

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire/frame"
)

func sender(id string, slot uint8) *client {
	return &client{id: frame.ID([]byte(id)), slot: slot, room: make(chan struct{}, 1)}
}

// However much one sender has in a queue, others find room, and equal parts.
func TestQueueIsShared(t *testing.T) {
	l := Limits{}.orDefaults()
	l.QueueFrames = 1 << 20
	q := newQueue(newPool(), &l)
	payload := make([]byte, 1400)
	fill := func(c *client) (n int) {
		for q.packet(c, payload) == admitted {
			n += len(payload)
		}
		return n
	}
	greedy, late, third := sender("greed", 1), sender("late0", 2), sender("third", 3)
	alone := fill(greedy)
	if alone < l.QueueBytes*3/4 || alone > l.QueueBytes*5/6 {
		t.Errorf("alone a sender fills %d of %d", alone, l.QueueBytes)
	}
	second := fill(late)
	if second < l.QueueBytes/10 {
		t.Errorf("beside one that came first there is room for %d", second)
	}
	if q.packet(third, payload) != admitted {
		t.Error("no room for one who comes new")
	}
	// From then on all have parts alike, frame by frame.
	q.free(q.take())
	got := map[*client]int{}
	for range 1000 {
		for _, c := range []*client{greedy, greedy, greedy, late, third} {
			if q.packet(c, payload) == admitted {
				got[c]++
			}
		}
	}
	for c, n := range got {
		if m := got[third]; n > m+m/4+2 || n < m-m/4-2 {
			t.Errorf("%v has %d frames, another %d", c.id, n, m)
		}
	}
}

// A receiver that takes what it gets loses nothing, however fast it is sent to.
func TestBackPressureBeforeLoss(t *testing.T) {
	bubble(t, Limits{QueueBytes: 128 << 10}, func(t *testing.T, w *world) {
		alice, bob := w.connect("alice", true), w.connect("bob00", true)
		alice.open(w.ticket("alice", "bob00", time.Hour))
		alice.take()
		one, _ := frame.AppendSend(nil, bob.id, []byte(strings.Repeat("x", 1400)))
		alice.write(repeat(one, 1000)) // ten times the queue
		if n := len(bob.take()); n != 1000 {
			t.Errorf("bob heard %d of 1000", n)
		}
		w.counted("forwarded_frames", 1000)
		w.counted("dropped_frames/queue_full", 0)
	})
}

// Who waits in vain waits once, is not told late, and leaves nothing behind.
func TestPatienceEnds(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, w *world) {
		l := Limits{}.orDefaults()
		q := newQueue(newPool(), &l)
		c := sender("alice", 1)
		for q.packet(c, make([]byte, 1400)) == admitted {
		}
		began := time.Now()
		if c.await(t.Context()) {
			t.Fatal("room without a take")
		}
		if d := time.Since(began); d != patience {
			t.Errorf("waited %v", d)
		}
		q.giveUp(c)
		if a := q.packet(c, make([]byte, 1400)); a != full || len(q.blocked) != 0 {
			t.Errorf("the second time: %v, %d wait", a, len(q.blocked))
		}
		q.free(q.take())
		for q.packet(c, make([]byte, 1400)) == admitted {
		}
		go func() { time.Sleep(patience / 2); q.free(q.take()) }()
		if !c.await(t.Context()) {
			t.Error("not told of the room")
		}
		if a := q.packet(c, make([]byte, 1400)); a != admitted {
			t.Error("no room after a take")
		}
		synctest.Wait()
	})
}
