package link

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire/frame"
)

// TestRelayedDataWaitsForRoom: once in vain, then not at all until something was taken;
// and not beyond the end of the device.
func TestRelayedDataWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newBacklog(10)
		p := new(peer)
		b := make([]byte, 10)
		waited := func(want bool, d time.Duration, over <-chan struct{}) {
			t.Helper()
			began := time.Now()
			if got := q.add(p, b, over); got != want || time.Since(began) != d {
				t.Errorf("%t after %v, want %t after %v", got, time.Since(began), want, d)
			}
		}
		waited(true, 0, nil)
		waited(false, patience, nil)
		waited(false, 0, nil)
		q.drop()
		waited(true, 0, nil)
		go func() { time.Sleep(patience / 2); q.drop() }()
		waited(true, patience/2, nil)
		over := make(chan struct{})
		go func() { time.Sleep(patience / 4); close(over) }()
		waited(false, patience/4, over)
		waited(false, 0, over) // it is over: nobody is counted as stuck
		if q.stalled {
			t.Error("stalled by a device that ended")
		}
	})
}

// TestAllWhoWaitGetRoom: one take is room for as many as fit, not only for the first.
func TestAllWhoWaitGetRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newBacklog(40)
		q.add(new(peer), make([]byte, 40), nil)
		got := make(chan bool, 4)
		for range 4 {
			go func() { got <- q.add(new(peer), make([]byte, 10), nil) }()
		}
		synctest.Wait()
		q.drop()
		synctest.Wait()
		for range 4 {
			if !<-got {
				t.Error("one was left out")
			}
		}
		if w := q.take(); len(w.b) != 40 || len(w.from) != 4 {
			t.Errorf("%d bytes, %d packets", len(w.b), len(w.from))
		}
	})
}

// TestFramesInOrder: a batch is frames behind each other, and what does not fit is left
// to the caller.
func TestFramesInOrder(t *testing.T) {
	one := frame.HeaderLen + frame.PeerLen + 100
	q := newBacklog(3 * one)
	var bufs [][]byte
	for i := range 5 {
		bufs = append(bufs, bytes.Repeat([]byte{byte(i)}, 100))
	}
	id := frame.ID([]byte("bob00"))
	if n := q.frames(id, bufs, false); n != 3 {
		t.Fatal(n)
	}
	<-q.ready
	w := q.take()
	r := frame.NewReader(bytes.NewReader(w.b))
	for i := range 3 {
		typ, body, err := r.Next()
		if err != nil || typ != frame.Send {
			t.Fatal(typ, err)
		}
		if to, b, err := frame.ParsePacket(body); to != id || !bytes.Equal(b, bufs[i]) || err != nil {
			t.Errorf("packet %d: %v %v", i, to, err)
		}
	}
	if q.take() != nil {
		t.Error("something is left")
	}
	if n := q.frames(id, [][]byte{make([]byte, 1<<16)}, true); n != 0 {
		t.Error("took what no frame holds")
	}
}
