package link

import (
	"bytes"
	"testing"
	"time"

	"enclave/wire"
)

// initiationOf is what the first message of a handshake looks like from outside.
func initiationOf(name string) []byte {
	b := make([]byte, initiationLen)
	b[0] = initiation
	copy(b[4:], name)
	return b
}

// responseTo is what answers it, by the index that both carry.
func responseTo(init []byte) []byte {
	b := make([]byte, responseLen)
	b[0] = response
	copy(b[8:12], init[4:8])
	return b
}

// stamp gives a message of a handshake the first MAC for its receiver.
func stamp(b []byte, to wire.WireGuardKey) {
	m := newMACs(to)
	end := len(b) - len(m.sum)
	m.h.Reset()
	m.h.Write(b[:end-len(m.sum)])
	m.h.Sum(b[:end-len(m.sum)])
}

func (n *node) sendRaw(b []byte) {
	n.w.t.Helper()
	if b[0] == initiation || b[0] == response {
		stamp(b, n.other().keys.WireGuard)
	}
	ep, err := n.ParseEndpoint(n.other().keys.WireGuard.String())
	if err == nil {
		err = n.Send([][]byte{b}, ep)
	}
	if err != nil {
		n.w.t.Fatal(err)
	}
}

func TestCrossingInitiationsLeaveOne(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		low, high := w.alice, w.bob
		if bytes.Compare(low.keys.WireGuard[:], high.keys.WireGuard[:]) > 0 {
			low, high = high, low
		}
		stands, yields, later := initiationOf("stands"), initiationOf("yields"), initiationOf("later")
		low.sendRaw(stands)
		high.sendRaw(yields)
		time.Sleep(100 * time.Millisecond)
		if high.heard(stands) != 1 || low.heard(yields) != 0 {
			t.Errorf("the lower key's came %d times, the other's %d; want 1 and 0", high.heard(stands), low.heard(yields))
		}
		high.sendRaw(responseTo(stands))
		time.Sleep(100 * time.Millisecond)
		high.sendRaw(later)
		time.Sleep(100 * time.Millisecond)
		if low.heard(later) != 1 {
			t.Error("once answered, an initiation of the other side was dropped")
		}
	})
}

func TestInitiationIsRepeated(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		first := initiationOf("first")
		w.alice.sendRaw(first)
		time.Sleep(10 * time.Second)
		if n := w.bob.heard(first); n != 1+len(repeatAt) {
			t.Errorf("without an answer it was sent %d times, want %d", n, 1+len(repeatAt))
		}
		answered := initiationOf("answered")
		w.alice.sendRaw(answered)
		time.Sleep(100 * time.Millisecond)
		w.bob.sendRaw(responseTo(answered))
		time.Sleep(10 * time.Second)
		if n := w.bob.heard(answered); n != 1 {
			t.Errorf("answered, it was sent %d times", n)
		}
		// With no way at first it leaves as soon as there is one.
		w.frozen.Store(true)
		peer := w.bob.keys
		w.alice.SetPeers(nil)
		peer.Reach = wire.Reach{}
		w.bob.SetPeers(nil) // or its pings would tell where it is
		w.alice.SetPeers([]Peer{peer})
		late := initiationOf("late")
		w.alice.sendRaw(late)
		time.Sleep(time.Second)
		if w.bob.heard(late) != 0 {
			t.Fatal("it found a way that is not there")
		}
		peer.Reach = w.bob.Reach()
		alice := w.alice.keys
		alice.Reach = w.alice.Reach()
		w.bob.SetPeers([]Peer{alice})
		w.alice.SetPeers([]Peer{peer})
		time.Sleep(300 * time.Millisecond)
		if w.bob.heard(late) == 0 {
			t.Error("not sent when there was a way")
		}
	})
}

func TestKeepingAnInitiationAllocatesNothing(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		p, b := w.alice.peers["bob00"], initiationOf("x")
		if n := testing.AllocsPerRun(100, func() {
			p.shake.keep(w.alice.Link, b, true)
			w.alice.glare(p, b)
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestAnswerIsGivenAgain(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		ask := initiationOf("\x01\x02\x03\x04 asks")
		answer := responseTo(ask)
		w.alice.sendRaw(ask)
		time.Sleep(100 * time.Millisecond)
		w.bob.sendRaw(answer)
		time.Sleep(twinFor) // the first may have been lost behind the link
		w.alice.sendRaw(ask)
		time.Sleep(100 * time.Millisecond)
		if got := w.alice.heard(answer); got != 2 || w.bob.heard(ask) != 1 {
			t.Errorf("asked twice, the answer came %d times, and WireGuard was asked %d times; want 2 and 1", got, w.bob.heard(ask))
		}
		time.Sleep(repeatFor)
		w.alice.sendRaw(ask)
		time.Sleep(100 * time.Millisecond)
		if got := w.alice.heard(answer); got != 2 {
			t.Errorf("an old answer was given again")
		}
	})
}

// TestSecondCopiesAreKeptFromTheDevice: two at once could both pass its check for replays.
func TestSecondCopiesAreKeptFromTheDevice(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		ask := initiationOf("\x01\x02\x03\x04 asks")
		for _, b := range [][]byte{ask, responseTo(initiationOf("\x05\x06\x07\x08"))} {
			w.alice.sendRaw(b)
			w.alice.sendRaw(b)
			time.Sleep(100 * time.Millisecond)
			if n := w.bob.heard(b); n != 1 {
				t.Errorf("type %d came twice, and the device had it %d times", b[0], n)
			}
		}
		changed := bytes.Clone(ask)
		changed[initiationLen-1]++ // whoever saw one go by must not be able to keep it out
		w.alice.sendRaw(changed)
		time.Sleep(twinFor)
		w.alice.sendRaw(ask)
		time.Sleep(100 * time.Millisecond)
		if w.bob.heard(changed) != 1 || w.bob.heard(ask) < 2 {
			t.Errorf("another message came %d times, the same after %v %d times", w.bob.heard(changed), twinFor, w.bob.heard(ask))
		}
	})
}

// TestWhoAnswersAsksNoMore: WireGuard has forgotten its initiation when it answers one.
func TestWhoAnswersAsksNoMore(t *testing.T) {
	run(t, "easy", "easy", 1, func(w *world) {
		w.until(5*time.Second, "direct", w.direct)
		ours, theirs := initiationOf("\x01\x02\x03\x04 ours"), initiationOf("\x05\x06\x07\x08 theirs")
		w.alice.sendRaw(ours)
		time.Sleep(100 * time.Millisecond)
		w.bob.sendRaw(theirs)
		time.Sleep(100 * time.Millisecond)
		w.alice.sendRaw(responseTo(theirs))
		time.Sleep(10 * time.Second)
		if n := w.bob.heard(ours); n != 1 {
			t.Errorf("an initiation that nobody waits for any more came %d times", n)
		}
	})
}
