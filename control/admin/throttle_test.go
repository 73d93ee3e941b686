package admin

import (
	"fmt"
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
