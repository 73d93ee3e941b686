package relay

import (
	"testing"
	"time"
)

// TestPace: below the rate nothing waits; above it, what is looked at is the rate.
func TestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	calm := pace{most: 200}
	for range 10_000 {
		if d := calm.read(now); d != 0 {
			t.Fatalf("15,000 a second wait %s", d)
		}
		now = now.Add(time.Second / 15_000)
	}
	flood := pace{most: 200}
	looked, until := 0, now.Add(time.Second)
	for now.Before(until) {
		looked++
		now = now.Add(time.Microsecond + flood.read(now))
	}
	if looked < 19_000 || looked > 20_200 {
		t.Errorf("%d of a flood looked at in a second; want 20,000", looked)
	}
	if d := flood.read(now.Add(-time.Hour)); d < 0 || d > paceEvery {
		t.Errorf("a clock that went back waits %s", d)
	}
}
