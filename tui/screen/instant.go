package screen

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Instant reads a time ahead of now: a duration (8h, 7d) or RFC 3339.
func Instant(text string, now time.Time) (time.Time, error) {
	at, err := AnyInstant(text, now)
	if err == nil && !at.After(now) {
		return at, fmt.Errorf("%s is in the past", text)
	}
	return at, err
}

// AnyInstant is Instant for a time that may be past.
func AnyInstant(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n <= 36_500 { // a century
			return now.Add(time.Duration(n) * 24 * time.Hour).UTC().Truncate(time.Second), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%q: want a duration (8h, 7d) or an instant (2026-12-24T18:00:00Z)", text)
	}
	return at.UTC(), nil
}
