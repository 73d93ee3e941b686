package policy

import "time"

// An end is the instant at which something stops counting; the zero Time is never.

// over reports whether end has come at now. Ends are exclusive: at the instant itself
// it is over.
func over(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

// sooner returns the end that comes first.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// later returns the end that comes last.
func later(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	if a.Before(b) {
		return b
	}
	return a
}

// plain strips the monotonic reading and the zone, so that equal instants are equal
// values and a copy that travels compares the same.
func plain(t time.Time) time.Time { return t.Round(0).UTC() }
