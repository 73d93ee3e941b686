package tools

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestProgressIsToldSeldom reads an answer that comes in single bytes.
func TestProgressIsToldSeldom(t *testing.T) {
	const size = 1 << 20
	var told []int64
	r := &counted{from: iotest.OneByteReader(strings.NewReader(strings.Repeat("x", size))), told: func(p Phase, n int64) {
		if p != Receiving {
			t.Errorf("phase %s", p)
		}
		told = append(told, n)
	}}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if len(told) == 0 || len(told) > 8 || told[0] != firstTold || told[len(told)-1] != size {
		t.Errorf("told %v", told)
	}
}

// TestFebruaryHas29DaysInLeapYears holds the pattern against the calendar.
func TestFebruaryHas29DaysInLeapYears(t *testing.T) {
	for day, want := range map[string]bool{"2024-02-29": true, "2023-02-29": false, "1900-02-29": false, "2000-02-29": true, "2100-02-29": false,
		"0004-02-29": true, "0000-02-29": true, "9996-02-29": true, "9998-02-29": false, "2023-02-28": true, "2024-02-30": false} {
		if got, _ := keeps("date", day); got != want {
			t.Errorf("%s: %v", day, got)
		}
		if got, _ := keeps("date-time", day+"T12:00:00Z"); got != want {
			t.Errorf("%sT12:00:00Z: %v", day, got)
		}
	}
}
