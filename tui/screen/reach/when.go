package reach

import (
	"time"

	"enclave/tui/screen"
	"enclave/tui/theme"
)

// slider is the instant that is looked at: a stop, moved by hours, or one that was typed.
type slider struct {
	stop  int // 0 is now
	moved time.Duration
	fixed time.Time // typed; zero is none
}

// stops are the instants that t goes round, by the clock of the terminal.
var stops = [...]struct {
	name string
	at   func(now time.Time) time.Time
}{
	{"now", func(now time.Time) time.Time { return now }},
	{"tonight 22:00", func(now time.Time) time.Time { return next(now, 22, -1) }},
	{"Saturday 02:00", func(now time.Time) time.Time { return next(now, 2, time.Saturday) }},
}

// next is the next time that the clock shows an hour, on a weekday or, with -1, on any.
func next(now time.Time, hour int, day time.Weekday) time.Time {
	for i := range 9 {
		at := time.Date(now.Year(), now.Month(), now.Day()+i, hour, 0, 0, 0, now.Location())
		if at.After(now) && (day < 0 || at.Weekday() == day) {
			return at
		}
	}
	return now
}

func (s *slider) next() { *s = slider{stop: (s.stop + 1) % len(stops)} }

// move goes on by hours; what was now stands still then.
func (s *slider) move(now time.Time, by time.Duration) {
	if s.fixed.IsZero() && s.stop == 0 && s.moved == 0 {
		now = now.Truncate(time.Minute)
		s.fixed = now
	}
	if !s.fixed.IsZero() {
		s.fixed = s.fixed.Add(by)
		return
	}
	s.moved += by
}

// instant is what to ask for; zero is now.
func (s *slider) instant(now time.Time) time.Time {
	switch {
	case !s.fixed.IsZero():
		return s.fixed
	case s.stop == 0:
		return time.Time{}
	}
	return stops[s.stop].at(now).Add(s.moved)
}

// view names the stops, the one that counts in brackets, and the instant.
func (s *slider) view(st *screen.State) string {
	t, line := st.Theme, ""
	for i, stop := range stops {
		switch {
		case i == s.stop && s.fixed.IsZero():
			line += "[" + t.Paint(theme.Title, stop.name) + "]"
		default:
			line += " " + t.Paint(theme.Dim, stop.name) + " "
		}
	}
	at := s.instant(st.Now)
	if at.IsZero() {
		at = st.Now
	}
	return line + " │ " + at.In(st.Now.Location()).Format("Mon 2006-01-02 15:04")
}
