package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	th := newThrottle()
	for i := range failureBurst {
		if th.spent("a", now) {
			t.Fatalf("spent after %d failures", i)
		}
		th.take("a", now)
	}
	if !th.spent("a", now) || th.spent("b", now) {
		t.Fatal("want a refused and b not")
	}
	if th.spent("a", now.Add(failureEvery)) {
		t.Fatal("no try came back")
	}
}

func TestThrottleIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	th := newThrottle()
	for range failureBurst {
		th.take("offender", now)
	}
	for i := range 2 * maxThrottled {
		th.take(fmt.Sprint(i), now)
	}
	if len(th.buckets) > maxThrottled {
		t.Errorf("%d buckets", len(th.buckets))
	}
	if !th.spent("offender", now) {
		t.Error("strangers pushed the offender out")
	}
}

// TestFailuresCountBySubscriber: who has a /64 has no more tries than who has one address.
func TestFailuresCountBySubscriber(t *testing.T) {
	a := &authenticator{failures: newThrottle(), good: newRecent(), now: time.Now, lookup: func(context.Context, [32]byte) (*Principal, error) { return nil, errNoToken }}
	try := func(from string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = from
		r.Header.Set("Authorization", "Bearer enctok_wrong")
		_, p := a.identify(r)
		return p.Status
	}
	for i := range failureBurst {
		if got := try(fmt.Sprintf("[2001:db8:1:2::%x]:%d", i+1, 1000+i)); got != http.StatusUnauthorized {
			t.Fatalf("try %d: %d", i, got)
		}
	}
	if got := try("[2001:db8:1:2:ffff::1]:1"); got != http.StatusTooManyRequests {
		t.Errorf("another address of the same /64: %d", got)
	}
	if got := try("[2001:db8:1:3::1]:1"); got != http.StatusUnauthorized {
		t.Errorf("another /64: %d", got)
	}
}
