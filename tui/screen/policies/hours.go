package policies

import (
	"errors"
	"slices"
	"strings"
	"time"

	"enclave/wire"
)

var days = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

var errHours = errors.New("want mon,tue 08:00-18:00 Europe/London")

// readHours reads windows, separated by semicolons.
func readHours(p *wire.Policy, text string, _ time.Time) error {
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ";") {
		w, err := window(part)
		if err != nil {
			return err
		}
		p.ActiveHours = append(p.ActiveHours, w)
	}
	return nil
}

func window(text string) (wire.Window, error) {
	f := strings.Fields(text)
	if len(f) != 3 {
		return wire.Window{}, errHours
	}
	start, end, ok := strings.Cut(f[1], "-")
	w := wire.Window{Zone: f[2], Start: start, End: end}
	a, okA := clock(start)
	b, okB := clock(end)
	switch {
	case !ok || !okA || !okB || a == 24*60:
		return w, errHours
	case a == b:
		return w, errors.New("it ends when it starts")
	}
	if _, err := time.LoadLocation(w.Zone); err != nil || w.Zone == "Local" {
		return w, errors.New("want a zone such as Europe/London")
	}
	for part := range strings.SplitSeq(f[0], ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		i, j := slices.Index(days, from), slices.Index(days, to)
		if i < 0 || j < 0 {
			return w, errHours
		}
		for {
			if !slices.Contains(w.Days, days[i]) {
				w.Days = append(w.Days, days[i])
			}
			if i == j {
				break
			}
			i = (i + 1) % len(days)
		}
	}
	return w, nil
}

// clock reads HH:MM, two digits each, up to 24:00, in minutes.
func clock(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	n := 0
	for i, weight := range [...]int{600, 60, 0, 10, 1} {
		if i == 2 {
			continue
		}
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n += int(s[i]-'0') * weight
	}
	return n, n <= 24*60 && s[3] < '6'
}

// week draws windows as a grid: a line a day, two cells an hour, each half an hour. A
// window past midnight belongs to the day it starts on and is drawn where it falls.
func week(windows wire.Windows) []string {
	var on [7][48]bool
	zone := ""
	for _, w := range windows {
		zone = w.Zone
		start, _ := clock(w.Start)
		end, _ := clock(w.End)
		if end <= start {
			end += 24 * 60
		}
		for _, d := range w.Days {
			i := slices.Index(days, d)
			if i < 0 {
				continue
			}
			for m := start / 30; m*30 < end; m++ {
				on[(i+m/48)%7][m%48] = true
			}
		}
	}
	lines := []string{"  " + zone, "      0           6           12          18          24"}
	for i, d := range days {
		var b strings.Builder
		for _, v := range on[i] {
			if v {
				b.WriteRune('█')
			} else {
				b.WriteRune('·')
			}
		}
		lines = append(lines, "  "+d+" "+b.String())
	}
	return lines
}
