package systems

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

var columns = []theme.Column{{Head: "name", Min: 16, Max: 24}, {Head: "state", Min: 14}, {Head: "tags", Min: 12, Max: 30}, {Head: "address", Min: 15}, {Head: "last seen", Min: 9}, {Head: "id", Min: 5}, {Head: "nat", Min: 8, Max: 20}}

// View draws the table, or the details of one system.
func (m *Model) View(s *screen.State, w, h int) string {
	rows := m.seen(s)
	if m.detail && m.current() != nil {
		lines := m.details(s, m.current(), w)
		m.most, m.page = max(0, len(lines)-h), max(1, h-2)
		from := min(m.scroll.At, m.most)
		out := lines[from:]
		if from < m.most { // readable without colour: there is more below
			out = append(slices.Clone(out[:h-1]), s.Theme.Paint(theme.Dim, "  ↓ "+wire.Count(m.most-from+1, "more line")))
		}
		return theme.Box(out, w, h)
	}
	t := s.Theme
	lines := []string{m.top(s, len(rows), w)}
	widths := theme.Widths(columns, w-4)
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.Head
		if c.Head == orders[m.order].name {
			heads[i] += " ↓"
		}
	}
	lines = append(lines, t.Paint(theme.Dim, "    "+theme.Row(widths, heads...)))
	m.page = max(1, h-len(lines))
	from, to := m.list.Window(len(rows), m.page)
	lines[0] += m.list.Rest(len(rows))
	for i := from; i < to; i++ {
		lines = append(lines, m.row(s, rows[i], i == m.list.At, widths))
	}
	if len(rows) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "    "+none(s)))
	}
	return theme.Box(lines, w, h)
}

func none(s *screen.State) string {
	if len(s.Org.Systems) == 0 {
		return "no system has enrolled: make a key with \"enclave key create\""
	}
	return "nothing matches; esc clears the search"
}

// top is the line above the table: what is typed, or how many there are.
func (m *Model) top(s *screen.State, n, w int) string {
	t := s.Theme
	switch {
	case m.asking != "":
		line := m.asking + " of " + name(m.targets(s)) + ": "
		if m.wrong != "" {
			return theme.Fit(line+m.ask.View(t, min(24, w/3))+" "+t.Paint(theme.Bad, "✗ "+theme.Clean(m.wrong)), w)
		}
		return line + m.ask.View(t, max(1, w-len(line)))
	case m.search.Focused():
		return "search: " + m.search.View(t, w-8)
	}
	line := fmt.Sprintf("%d of %d", n, len(s.Org.Systems))
	if v := m.search.Value(); v != "" {
		line += "  search: " + theme.Clean(v)
	}
	if len(m.marked) > 0 {
		line += fmt.Sprintf("  %d marked", len(m.marked))
	}
	return line
}

func (m *Model) row(s *screen.State, sys *api.System, at bool, widths []int) string {
	cursor, mark := "  ", "  "
	if at {
		cursor = "▸ "
	}
	if m.marked[sys.ID] {
		mark = "✓ "
	}
	state := s.Theme.State(string(sys.State))
	name := theme.Clean(sys.Name)
	if at {
		name = s.Theme.Paint(theme.Chosen, theme.Fit(name, widths[0]))
	}
	return cursor + mark + theme.Row(widths, name, state, list(sys.Tags), sys.IPv4.String(), seen(sys, s.Now), theme.Clean(string(sys.ID)), theme.Clean(dash(sys.NAT)))
}

func seen(sys *api.System, now time.Time) string {
	switch {
	case sys.State == wire.Connected:
		return "now"
	case sys.LastSeen == nil:
		return "never"
	}
	return ago(now.Sub(*sys.LastSeen))
}

func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return wire.Count(int(d.Hours()/24), "day")
}

func list(tags []wire.Tag) string {
	words := make([]string, len(tags))
	for i, t := range tags {
		words[i] = string(t)
	}
	return dash(theme.Clean(strings.Join(words, ",")))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Click puts the cursor on a system.
func (m *Model) Click(_, y int, s *screen.State) bool {
	return !m.detail && !m.Typing() && m.list.Click(y-2, len(m.seen(s)))
}
