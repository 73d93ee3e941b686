package control

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"enclave/control/enrol"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

func TestRatesComeBackAndAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := newRates(time.Second, 3)
	for i := range 3 {
		if r.spent("a", now) || !r.take("a", now) {
			t.Fatalf("spent after %d", i)
		}
	}
	if !r.spent("a", now) || r.take("a", now) || r.spent("b", now) {
		t.Fatal("want a refused and b not")
	}
	if !r.take("a", now.Add(time.Second)) {
		t.Error("nothing came back")
	}
	now = now.Add(time.Second)
	for i := range 2 * maxRated {
		r.take(fmt.Sprint(i), now)
	}
	if len(r.held) > maxRated {
		t.Errorf("%d callers are remembered", len(r.held))
	}
	if !r.spent("a", now) {
		t.Error("strangers made an offender forgotten")
	}
}

// TestWrongSecretsAreThrottled guesses until it is told to wait, without ever taking
// the turn of those that may change something.
func TestWrongSecretsAreThrottled(t *testing.T) {
	w := newWorld(t)
	key := w.key(automatic("mesh"))
	h := w.srv.hub
	if err := h.take(t.Context()); err != nil { // whoever wants it would wait for ever
		t.Fatal(err)
	}
	m := w.machine()
	throttled := false
	for range 12 {
		_, p := m.tryEnrol(m.request(string(enrol.NewSecret()), "guess"))
		if p == nil || p.Code != api.CodeKeyUnknown && p.Status != http.StatusTooManyRequests {
			t.Fatalf("a wrong secret: %+v", p)
		}
		throttled = p.Status == http.StatusTooManyRequests
	}
	if !throttled {
		t.Error("guessing goes on for ever")
	}
	h.give()
	// From another address a right one is taken.
	w.srv.limits.strays = newRates(time.Second, 10)
	m.enrol(key.Secret, "a")
	if _, p := m.tryEnrol(m.request(key.Secret, "a")); p != nil {
		t.Errorf("asked again: %+v", p)
	}
}

// TestAgentsAreLimited floods: the others do not hear of it, and what was said is kept.
func TestAgentsAreLimited(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		a, b, fa, _ := pairOf(t, w)
		code := func(path string, body any) int {
			if p := a.call("POST", path, body, nil); p != nil {
				return p.Status
			}
			return 0
		}
		count := func(n int, path string, body func(i int) any) (refused int) {
			for i := range n {
				if c := code(path, body(i)); c == http.StatusTooManyRequests {
					refused++
				} else if c != 0 {
					t.Fatalf("%s: status %d", path, c)
				}
			}
			return refused
		}
		reach := func(i int) any {
			return wire.Report{Applied: fa.Map.Revision, Reach: &wire.Reach{NAT: []string{"easy", "hard"}[i%2]}}
		}
		if n := count(50, wire.PathReport, reach); n == 0 {
			t.Error("reach may change without end")
		}
		if st := w.srv.hub.Status(0); len(st.Waiting) > 1 {
			t.Errorf("what a refused report acknowledged does not count: %+v", st)
		}
		time.Sleep(time.Minute)
		if n := count(1, wire.PathReport, reach); n != 0 {
			t.Error("refused for ever")
		}
		if n := count(20, wire.PathRenew, func(int) any { return wire.RenewRequest{Now: time.Now()} }); n == 0 {
			t.Error("renewals without end")
		}
		time.Sleep(10 * time.Minute)
		connects := func(m *machine, n int) (refused int) {
			for range n {
				resp, err := m.c.Get("https://" + w.addr + wire.PathStream)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Body.Close(); resp.StatusCode == http.StatusTooManyRequests {
					refused++
				}
			}
			return refused
		}
		if n := connects(a, 40); n == 0 {
			t.Error("connections without end")
		}
		if n := connects(b, 1); n != 0 {
			t.Error("another's connections are refused too")
		}
		time.Sleep(10 * time.Minute)
		if n := connects(a, 1); n != 0 {
			t.Error("its connections are refused for ever")
		}
		if n := count(450, wire.PathReport, func(int) any { return wire.Report{Applied: fa.Map.Revision} }); n == 0 {
			t.Error("messages without end")
		}
	})
}
