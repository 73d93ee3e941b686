package agent

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// TestRenewal at half life, give or take a tenth; the new identity is kept and shown.
func TestRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		began := time.Now()
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		var when []time.Duration
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			when = append(when, time.Since(began))
			return wire.RenewResponse{Now: time.Now(), SVID: b.org.svid("system", string(me), b.keys.Identity, time.Now()), Roots: b.org.ca.Roots()}, nil
		})
		b.start(t)
		after(30 * time.Hour)
		half := 12*time.Hour - 2*time.Minute - 30*time.Second // the certificate begins 5 min back
		if len(when) != 2 || when[0] < half*9/10 || when[0] > half*11/10+time.Second {
			t.Fatalf("renewed after %v, want first about %v", when, half)
		}
		if b.count(wire.PathStream) != 1 {
			t.Error("the stream did not outlive the renewal")
		}
		leaf := b.cert.Load().Leaf
		if st := b.stored(t); !slices.Equal(st.SVID[0], leaf.Raw) || time.Until(leaf.NotAfter) < 12*time.Hour {
			t.Errorf("stored SVID is not the one shown, which ends %s", leaf.NotAfter)
		}
		if !b.Status().SVIDUntil.Equal(leaf.NotAfter) {
			t.Error("status shows another end")
		}
	})
}

// TestSleptPastExpiry: an agent whose SVID has ended renews with it before anything
// else, and says so while that fails.
func TestSleptPastExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		st := b.org.enrolled(time.Now())
		after(48 * time.Hour)
		b = newBench(t, b.script, st)
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		var mended atomic.Bool
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			if !mended.Load() {
				return nil, &api.Problem{Status: 400, Code: api.CodeClockSkew, Title: "clocks differ too much"}
			}
			return wire.RenewResponse{SVID: b.org.svid("system", string(me), b.keys.Identity, time.Now())}, nil
		})
		b.start(t)
		after(time.Minute)
		s := b.Status()
		if b.count(wire.PathStream) != 0 || !strings.Contains(s.Control.Error, "clock is off") ||
			len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "ended") || !strings.Contains(s.Warnings[0], "clocks differ") {
			t.Fatalf("%d streams, status %+v", b.count(wire.PathStream), s)
		}
		mended.Store(true)
		after(backoffMost)
		b.wantState(t, api.AgentRunning)
		if w := b.Status().Warnings; len(w) != 0 {
			t.Errorf("warnings %v", w)
		}
		b.cancel()
		<-b.done
	})
}

// TestRenewalFailsAtTheStart: past half its life and not renewed, an SVID still counts,
// and the stream is followed with it.
func TestRenewalFailsAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		after(13 * time.Hour)
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			return nil, &api.Problem{Status: 400, Code: api.CodeClockSkew, Title: "clocks differ too much"}
		})
		b.start(t)
		after(time.Minute)
		b.wantState(t, api.AgentRunning)
		if w := b.Status().Warnings; b.count(wire.PathRenew) == 0 || len(w) != 1 || !strings.Contains(w[0], "ends") {
			t.Errorf("warnings %v", w)
		}
	})
}

// TestBadRenewalIsNotUsed: an SVID of another key or a foreign root changes nothing.
func TestBadRenewalIsNotUsed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.onStream(steadyStream(mapOf(1, time.Time{}), time.Hour))
		n := 0
		b.on(wire.PathRenew, func([]byte) (any, *api.Problem) {
			chain := b.org.enrolled(time.Now()).SVID
			if n++; n%2 == 0 {
				chain = newOrg(t, time.Now()).svid("system", string(me), b.keys.Identity, time.Now())
			}
			return wire.RenewResponse{SVID: chain}, nil
		})
		before := b.cert.Load()
		b.start(t)
		after(14 * time.Hour)
		if b.cert.Load() != before || n < 2 {
			t.Fatalf("after %d answers another certificate is shown", n)
		}
		b.wantState(t, api.AgentRunning)
		if w := b.Status().Warnings; len(w) != 1 || !strings.Contains(w[0], "not renewed yet") {
			t.Errorf("warnings %v", w)
		}
	})
}
