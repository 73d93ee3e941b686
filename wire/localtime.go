package wire

import (
	"fmt"
	"time"
	_ "time/tzdata" // a machine without zone files decides like any other
)

// LocalTimeLayout is how the time of a LocalTime is written: the minute that a wall
// clock shows.
const LocalTimeLayout = "2006-01-02T15:04"

// LocalTime is a time on the wall clock of a zone. It is what is kept where somebody
// means a clock on a wall; which instant that is follows the zone's rules, which change.
type LocalTime struct {
	Time string `json:"time"` // 2026-03-29T02:30
	Zone string `json:"tz"`   // IANA name
}

// String is the form that people read: 2026-03-29 02:30 Europe/London.
func (l LocalTime) String() string {
	if t, err := time.Parse(LocalTimeLayout, l.Time); err == nil {
		return t.Format("2006-01-02 15:04 ") + l.Zone
	}
	return l.Time + " " + l.Zone
}

// Instant is the first instant at which the clock shows the time or, where clocks were
// put forward past it, the first instant after the gap. Which names are zones is
// control/policy's to say.
func (l LocalTime) Instant() (time.Time, error) {
	loc, err := time.LoadLocation(l.Zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.60q is no IANA zone name", l.Zone)
	}
	return l.In(loc)
}

// In is Instant with the zone at hand.
func (l LocalTime) In(loc *time.Location) (time.Time, error) {
	shown, err := time.Parse(LocalTimeLayout, l.Time)
	if err != nil || shown.Format(LocalTimeLayout) != l.Time {
		return time.Time{}, fmt.Errorf("time %.40q: want a day and a minute that exist, YYYY-MM-DDTHH:MM", l.Time)
	}
	// Stretch by stretch of one offset, in the order of time: the first that shows it is
	// the first occurrence, and one that begins when it should be past follows a gap. Two
	// days are more than any offset.
	for from := shown.Add(-48 * time.Hour); ; {
		_, offset := from.In(loc).Zone()
		_, end := from.In(loc).ZoneBounds()
		if !end.IsZero() && !end.After(from) {
			// On the last day of a leap year package time may give a bound that has passed;
			// see zoneHours.steady in control/policy.
			end = from.Truncate(time.Hour).Add(time.Hour)
		}
		at := shown.Add(-time.Duration(offset) * time.Second)
		switch {
		case at.Before(from):
			return from.UTC(), nil
		case end.IsZero() || at.Before(end):
			return at.UTC(), nil
		}
		from = end
	}
}
