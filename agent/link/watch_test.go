package link

import (
	"testing"
	"time"
)

func TestSlept(t *testing.T) {
	now := time.Now()
	wall := func(d time.Duration) time.Time { return now.Add(d).Round(0) } // without a monotonic reading
	for _, tt := range []struct {
		what        string
		before, now time.Time
		want        bool
	}{
		{"the next look", now, now.Add(watchEvery), false},
		{"a busy machine", now, now.Add(5 * time.Second), false},
		{"a clock that goes on in sleep", now, now.Add(time.Minute), true},
		{"a wall clock that jumped", now.Round(0), wall(time.Hour), true},
		{"a wall clock that was put back", now.Round(0), wall(-time.Hour), false},
	} {
		if got := slept(tt.before, tt.now); got != tt.want {
			t.Errorf("%s: slept %v", tt.what, got)
		}
	}
}
