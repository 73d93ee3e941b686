package wire

import (
	"testing"
	"time"
)

func TestLocalTimesFollowTheWallClock(t *testing.T) {
	for _, c := range []struct{ time, zone, want string }{
		{"2026-12-24T18:00", "Europe/Berlin", "2026-12-24T17:00:00Z"},
		{"2026-07-01T18:00", "Europe/Berlin", "2026-07-01T16:00:00Z"},
		{"2026-03-29T00:59", "Europe/London", "2026-03-29T00:59:00Z"},
		{"2026-03-29T01:30", "Europe/London", "2026-03-29T01:00:00Z"}, // skipped: the end of the gap
		{"2026-03-29T02:30", "Europe/London", "2026-03-29T01:30:00Z"},
		{"2026-10-25T01:30", "Europe/London", "2026-10-25T00:30:00Z"}, // repeated: the first
		{"2026-10-25T02:00", "Europe/London", "2026-10-25T02:00:00Z"},
		{"2026-04-05T01:45", "Australia/Lord_Howe", "2026-04-04T14:45:00Z"}, // half an hour is repeated
		{"2011-12-30T12:00", "Pacific/Apia", "2011-12-30T10:00:00Z"},        // a day that never was
		{"2028-12-31T23:59", "America/New_York", "2029-01-01T04:59:00Z"},    // the last day of a leap year
		{"2096-12-31T23:59", "Europe/Dublin", "2096-12-31T23:59:00Z"},
		{"2026-01-01T00:00", "UTC", "2026-01-01T00:00:00Z"},
	} {
		at, err := LocalTime{c.time, c.zone}.Instant()
		if err != nil || at.Format(time.RFC3339) != c.want {
			t.Errorf("%s %s: %v, %v; want %s", c.time, c.zone, at, err, c.want)
		}
	}
	for _, c := range []LocalTime{{"2026-02-30T10:00", "UTC"}, {"2026-02-03 10:00", "UTC"}, {"2026-02-03T10:00:00", "UTC"}, {"2026-02-03T24:00", "UTC"},
		{"", "UTC"}, {"2026-02-03T10:00", "Mars/Olympus"}, {"2026-02-03T10:00", "../etc/passwd"}} {
		if at, err := c.Instant(); err == nil {
			t.Errorf("%+v is %v, want an error", c, at)
		}
	}
}

// The reference looks at every minute of four days.
func TestLocalTimesAgreeWithLookingAtTheClock(t *testing.T) {
	for _, zone := range []string{"Europe/London", "America/Caracas", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "America/St_Johns"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for day := time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2013; day = day.AddDate(0, 0, 1) {
			for _, minutes := range []int{0, 59, 90, 150, 185, 12 * 60} {
				shown := day.Add(time.Duration(minutes) * time.Minute)
				got, err := LocalTime{shown.Format(LocalTimeLayout), zone}.In(loc)
				if err != nil {
					t.Fatal(err)
				}
				text := shown.Format(LocalTimeLayout)
				// Nothing before shows it or a later time, and got shows it or lies behind
				// a gap.
				if s := got.In(loc).Format(LocalTimeLayout); s < text {
					t.Errorf("%s %s: at %v the clock shows only %s", text, zone, got, s)
				}
				if s := got.Add(-time.Minute).In(loc).Format(LocalTimeLayout); s >= text {
					t.Errorf("%s %s: a minute before %v the clock shows %s already", text, zone, got, s)
				}
			}
		}
	}
}

func FuzzLocalTime(f *testing.F) {
	f.Add("2026-03-29T01:30", "Europe/London")
	f.Add("0001-01-01T00:00", "Asia/Kathmandu")
	f.Add("9999-12-31T23:59", "Pacific/Kiritimati")
	f.Fuzz(func(t *testing.T, text, zone string) {
		l := LocalTime{text, zone}
		at, err := l.Instant()
		if err == nil && at.IsZero() {
			return // the first minute of the calendar
		}
		if err == nil && at.Sub(mustParse(t, text)).Abs() > 49*time.Hour {
			t.Errorf("%+v is %v", l, at)
		}
		_ = l.String()
	})
}

func mustParse(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(LocalTimeLayout, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
