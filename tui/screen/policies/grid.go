package policies

import (
	"fmt"
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
)

// slots are the half hours of a day.
const slots = 48

// week is the half hours in which windows are open: a day from Monday, a slot from
// midnight. A window past midnight belongs to the day it starts on and falls on two.
type week [7][slots]bool

// weekOf draws windows. It is exact only if they begin and end at half hours.
func weekOf(windows wire.Windows) (on week, exact bool) {
	exact = true
	for _, w := range windows {
		start, _ := clock(w.Start)
		end, _ := clock(w.End)
		exact = exact && start%30 == 0 && end%30 == 0 && w.Zone == windows[0].Zone
		if end <= start {
			end += 24 * 60
		}
		for _, d := range w.Days {
			i := slices.Index(days, d)
			if i < 0 {
				continue
			}
			for m := start / 30; m*30 < end; m++ {
				on[(i+m/slots)%7][m%slots] = true
			}
		}
	}
	return on, exact
}

// windows writes the week as few windows: equal spans of several days are one.
func (on *week) windows(zone string) (out wire.Windows) {
	at := func(slot int) string { return fmt.Sprintf("%02d:%02d", slot/2, slot%2*30) }
	for d := range on {
		for from := 0; from < slots; {
			if !on[d][from] {
				from++
				continue
			}
			to := from
			for to < slots && on[d][to] {
				to++
			}
			w := wire.Window{Zone: zone, Start: at(from), End: at(to)}
			i := slices.IndexFunc(out, func(o wire.Window) bool { return o.Start == w.Start && o.End == w.End })
			if i < 0 {
				i, out = len(out), append(out, w)
			}
			out[i].Days = append(out[i].Days, days[d])
			from = to
		}
	}
	return out
}

// lines draws the week, a line a day and a cell each half hour.
func (on *week) lines(t theme.Theme, day, slot int) []string {
	lines := []string{"      0     3     6     9     12    15    18    21    24"}
	for d, name := range days {
		var b strings.Builder
		for i, v := range on[d] {
			cell := "·"
			if v {
				cell = "█"
			}
			if d == day && i == slot { // readable without colour: another glyph
				cell = "○"
				if v {
					cell = "●"
				}
				cell = t.Paint(theme.Chosen, cell)
			}
			b.WriteString(cell)
		}
		lines = append(lines, "  "+name+" "+b.String())
	}
	return lines
}

// grid edits hours by drawing them.
type grid struct {
	on        week
	zone      string
	day, slot int
	rounded   bool // what was there is finer than the grid
}

var (
	gridLeft  = keys.New("earlier", "left", "h")
	gridRight = keys.New("later", "right", "l")
	gridUp    = keys.New("day before", "up", "k")
	gridDown  = keys.New("next day", "down", "j")
	gridFlip  = keys.New("open or close this half hour", " ")
	gridSpan  = keys.New("the same as before, an hour on", "enter")
	gridCopy  = keys.New("copy this day to the next", "c")
	gridClear = keys.New("clear: always active", "x")
	gridTake  = keys.New("take these hours", "ctrl+s", "t")
	gridLeave = keys.New("leave the hours as they were", "esc")
)

func newGrid(windows wire.Windows) *grid {
	g := &grid{zone: "UTC", slot: 16}
	if len(windows) > 0 {
		g.zone = windows[0].Zone
	}
	on, exact := weekOf(windows)
	g.on, g.rounded = on, !exact
	return g
}

func (g *grid) keys() []keys.Binding {
	return []keys.Binding{gridFlip, gridSpan, gridCopy, gridClear, gridTake, gridLeave, gridLeft, gridRight, gridUp, gridDown}
}

// update follows a key; done says that the grid closes, and take that its hours count.
func (g *grid) update(k tea.KeyMsg) (done, take bool) {
	switch {
	case gridLeave.Is(k):
		return true, false
	case gridTake.Is(k):
		return true, true
	case gridLeft.Is(k):
		g.slot = (g.slot + slots - 1) % slots
	case gridRight.Is(k):
		g.slot = (g.slot + 1) % slots
	case gridUp.Is(k):
		g.day = (g.day + 6) % 7
	case gridDown.Is(k):
		g.day = (g.day + 1) % 7
	case gridFlip.Is(k):
		g.on[g.day][g.slot] = !g.on[g.day][g.slot]
		g.slot = min(g.slot+1, slots-1)
	case gridSpan.Is(k):
		v := g.slot == 0 || g.on[g.day][g.slot-1]
		for range 2 {
			g.on[g.day][g.slot] = v
			g.slot = min(g.slot+1, slots-1)
		}
	case gridCopy.Is(k):
		next := (g.day + 1) % 7
		g.on[next], g.day = g.on[g.day], next
	case gridClear.Is(k):
		g.on = week{}
	}
	return false, false
}

func (g *grid) view(s *screen.State) []string {
	t := s.Theme
	day, at := days[g.day], fmt.Sprintf("%02d:%02d", g.slot/2, g.slot%2*30)
	lines := []string{t.Paint(theme.Title, "Hours") + "  " + theme.Clean(g.zone) + "  at " + day + " " + at}
	lines = append(lines, g.on.lines(t, g.day, g.slot)...)
	switch w := g.on.windows(g.zone); {
	case len(w) == 0:
		lines = append(lines, t.Paint(theme.Dim, "  nothing is marked: always active"))
	case len(w) > wire.MaxWindows:
		lines = append(lines, t.Paint(theme.Bad, fmt.Sprintf("  ✗ %d windows, at most %d", len(w), wire.MaxWindows)))
	default:
		lines = append(lines, "  "+theme.Clean(hoursText(w)))
	}
	if g.rounded {
		lines = append(lines, t.Paint(theme.Warn, "  ! these hours are finer than half an hour, or of several zones: taking the grid changes them"))
	}
	return lines
}
