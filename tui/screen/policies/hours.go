package policies

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"enclave/tui/screen"
	"enclave/wire"
)

var days = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

var (
	errHours = errors.New("want mon,tue 08:00-18:00 Europe/London")
	errZone  = errors.New("want a zone such as Europe/London")
)

// readHours reads windows, separated by semicolons; "never" in place of days is a window
// that is never open.
func readHours(p *wire.Policy, text string, _ *screen.State) error {
	p.ActiveHours = nil
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
	if n := len(p.ActiveHours); n > wire.MaxWindows {
		return fmt.Errorf("%d windows, at most %d", n, wire.MaxWindows)
	}
	return nil
}

// zone reports whether a name is an IANA zone. Paths and Local are none.
func zone(name string) bool {
	if name == "" || name == "Local" || strings.HasPrefix(name, "/") || strings.Contains(name, "..") {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

func window(text string) (wire.Window, error) {
	f := strings.Fields(text)
	if len(f) != 3 {
		return wire.Window{}, errHours
	}
	start, end, ok := strings.Cut(f[1], "-")
	w := wire.Window{Zone: f[2], Days: []string{}, Start: start, End: end}
	a, okA := clock(start)
	b, okB := clock(end)
	switch {
	case !ok || !okA || !okB || a == 24*60:
		return w, errHours
	case a == b:
		return w, errors.New("it ends when it starts")
	case !zone(w.Zone):
		return w, errZone
	case f[0] == "never":
		return w, nil
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

// hoursText writes windows as readHours reads them.
func hoursText(list wire.Windows) string {
	parts := make([]string, len(list))
	for i, w := range list {
		parts[i] = dayText(w.Days) + " " + w.Start + "-" + w.End + " " + w.Zone
	}
	return strings.Join(parts, "; ")
}

// dayText writes three days and more in a row as a range.
func dayText(list []string) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && slices.Index(days, list[j+1]) == slices.Index(days, list[j])+1 {
			j++
		}
		if j-i < 2 {
			parts, i = append(parts, list[i]), i+1
			continue
		}
		parts, i = append(parts, list[i]+"-"+list[j]), j+1
	}
	if len(parts) == 0 {
		return "never"
	}
	return strings.Join(parts, ",")
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
