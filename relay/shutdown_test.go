package relay

import (
	"context"
	"testing"
	"time"

	"enclave/wire/frame"
	"enclave/wire/svid"
)

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
