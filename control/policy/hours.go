package policy

import (
	"fmt"
	"slices"
	"time"

	"enclave/wire"
)

const (
	daySeconds  = 24 * 60 * 60
	weekSeconds = 7 * daySeconds

	// maxYears bounds the search for an edge. Only windows of several zones that
	// relieve each other under every offset their zones ever have are searched so long.
	maxYears = 100
)

var dayNames = [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// span is a part of a week on the wall clock, in seconds since Monday 00:00; hi is
// excluded.
type span struct{ lo, hi int }

// zoneHours are the windows of one zone, merged: sorted spans that do not touch.
type zoneHours struct {
	loc   *time.Location
	spans []span
}

// hours is when a policy counts: at an instant at which any zone's wall clock reads
// inside its spans. Nil is always.
type hours []zoneHours

// compileHours merges windows that Validate has passed.
func compileHours(ws wire.Windows, zone func(string) (*time.Location, error)) (hours, error) {
	if len(ws) == 0 {
		return nil, nil
	}
	h := make(hours, 0, 1)
	for _, w := range ws {
		i := slices.IndexFunc(h, func(z zoneHours) bool { return z.loc.String() == w.Zone })
		if i < 0 {
			loc, err := zone(w.Zone)
			if err != nil {
				return nil, err
			}
			i, h = len(h), append(h, zoneHours{loc: loc})
		}
		h[i].spans = append(h[i].spans, windowSpans(w)...)
	}
	for i := range h {
		h[i].spans = mergeSpans(h[i].spans)
	}
	return h, nil
}

// windowSpans lays a window out over the week. One that wraps past midnight belongs
// to the day it starts on; past Sunday it goes on at the beginning of the week.
func windowSpans(w wire.Window) (out []span) {
	start, _ := parseClock(w.Start)
	end, _ := parseClock(w.End)
	if end < start {
		end += daySeconds
	}
	for _, d := range w.Days {
		day := slices.Index(dayNames[:], d) * daySeconds
		lo, hi := day+start, day+end
		if hi > weekSeconds {
			out = append(out, span{0, hi - weekSeconds})
			hi = weekSeconds
		}
		if lo < hi {
			out = append(out, span{lo, hi})
		}
	}
	return out
}

func mergeSpans(in []span) []span {
	slices.SortFunc(in, func(a, b span) int { return a.lo - b.lo })
	out := in[:0]
	for _, s := range in {
		if n := len(out); n > 0 && s.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			continue
		}
		out = append(out, s)
	}
	return out
}

// parseClock reads HH:MM, two digits each, up to 24:00, as seconds since midnight.
func parseClock(s string) (int, error) {
	if len(s) == 5 && s[2] == ':' && isDigits(s[:2]) && isDigits(s[3:]) {
		h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
		if m < 60 && (h < 24 || (h == 24 && m == 0)) {
			return h*3600 + m*60, nil
		}
	}
	return 0, fmt.Errorf("time %.20q: want HH:MM, two digits each", s)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// active reports whether some window contains t. The wall clock alone decides, so a
// skipped hour is never active and a repeated hour is active twice.
func (h hours) active(t time.Time) bool {
	if h == nil {
		return true
	}
	for i := range h {
		if h[i].contains(h[i].wall(t)) {
			return true
		}
	}
	return false
}

// change returns the first instant after t at which active differs from what it is
// at t; zero is never. Between two changes of an offset every wall clock runs straight,
// so each such stretch costs one look at the week however long it is.
func (h hours) change(t time.Time) time.Time {
	if h.constant() {
		return time.Time{}
	}
	was := h.active(t)
	for limit := t.AddDate(maxYears, 0, 0); t.Before(limit); {
		var steady time.Time // until here all offsets are what they are at t
		for i := range h {
			steady = sooner(steady, h[i].steady(t))
		}
		if d := h.toEdge(t, was); d < weekSeconds {
			edge := time.Unix(t.Unix()+int64(d), 0)
			if steady.IsZero() || edge.Before(steady) {
				return edge.UTC()
			}
		}
		if steady.IsZero() {
			break
		}
		if t = steady.UTC(); h.active(t) != was {
			return t
		}
	}
	return time.Time{}
}

// constant reports whether h is always or never, whatever clocks do.
func (h hours) constant() bool {
	some := false
	for i := range h {
		if len(h[i].spans) > 0 {
			some = true
			if h[i].spans[0] == (span{0, weekSeconds}) {
				return true
			}
		}
	}
	return !some
}

// toEdge is the number of seconds from t until h flips, if no offset changes before;
// a week or more is never.
func (h hours) toEdge(t time.Time, was bool) int {
	if !was {
		d := weekSeconds
		for i := range h {
			if n := len(h[i].spans); n > 0 {
				w := h[i].wall(t)
				next := h[i].spans[h[i].find(w)%n].lo
				d = min(d, (next-w+weekSeconds)%weekSeconds)
			}
		}
		return d
	}
	for d := 0; ; { // from the end of one span to that of the next
		on := false
		for i := range h {
			w := (h[i].wall(t) + d) % weekSeconds
			if j := h[i].find(w); j < len(h[i].spans) && h[i].spans[j].lo <= w {
				d, on = d+h[i].spans[j].hi-w, true
			}
		}
		if !on || d >= weekSeconds {
			return d
		}
	}
}

// steady returns the instant until which the offset is surely what it is at t.
func (z *zoneHours) steady(t time.Time) time.Time {
	_, end := t.In(z.loc).ZoneBounds()
	// Where a zone's table ends and its rule takes over, package time takes each year
	// for 365 days long, and on the last day of a leap year gives a bound that has
	// passed. No rule changes clocks on that day; an hour at a time is safe.
	if !end.IsZero() && !end.After(t) {
		return t.Truncate(time.Hour).Add(time.Hour)
	}
	return end
}

// wall is the second of the week that the zone's clock shows at t.
func (z *zoneHours) wall(t time.Time) int {
	_, offset := t.In(z.loc).Zone()
	const thursday = 3 * daySeconds // the day of 1970-01-01
	w := (t.Unix() + int64(offset) + thursday) % weekSeconds
	if w < 0 {
		w += weekSeconds
	}
	return int(w)
}

// find returns the index of the first span that ends after w.
func (z *zoneHours) find(w int) int {
	lo, hi := 0, len(z.spans)
	for lo < hi {
		if m := (lo + hi) / 2; z.spans[m].hi <= w {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

func (z *zoneHours) contains(w int) bool {
	i := z.find(w)
	return i < len(z.spans) && z.spans[i].lo <= w
}
