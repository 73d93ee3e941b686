package systems

import (
	"fmt"
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
		return theme.Box(details(s, m.current(), w), w, h)
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
	return cursor + mark + theme.Row(widths, name, state, list(sys.Tags), sys.IPv4.String(), seen(sys, s.Now), string(sys.ID), theme.Clean(dash(sys.NAT)))
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
	return fmt.Sprintf("%d days", int(d.Hours()/24))
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

// details are everything that is known of one system.
func details(s *screen.State, sys *api.System, w int) []string {
	t := s.Theme
	var lines []string
	add := func(name, value string) {
		for i, part := range theme.Wrap(value, w-14) {
			if i > 0 {
				name = ""
			}
			lines = append(lines, "  "+t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
		}
	}
	at := func(v *time.Time) string {
		if v == nil || v.IsZero() {
			return "-"
		}
		return v.In(s.Now.Location()).Format("2006-01-02 15:04:05")
	}
	lines = append(lines, t.Paint(theme.Title, theme.Clean(sys.Name))+"  "+t.State(string(sys.State)))
	add("id, kind", string(sys.ID)+", "+theme.Clean(sys.Kind))
	add("tags", list(sys.Tags))
	add("addresses", sys.IPv4.String()+", "+sys.IPv6.String())
	add("host", theme.Clean(dash(sys.Host.Hostname)+", "+dash(sys.Host.Platform)))
	add("seen from", theme.Clean(dash(sys.SeenFrom)+", NAT "+dash(sys.NAT)+", relay "+dash(string(sys.Relay))))
	add("applied", fmt.Sprintf("revision %d of %d", sys.Applied, s.Org.Revision.Revision))
	expires := at(sys.ExpiresAt)
	if sys.ExpiresLocal != nil {
		expires = sys.ExpiresLocal.String()
	}
	if sys.ExpiresAt != nil && sys.ExpiryAction != "" {
		expires += ", then " + string(sys.ExpiryAction)
	}
	add("expires", expires)
	add("enrolled", at(&sys.EnrolledAt)+" with key "+dash(string(sys.Key)))
	add("connected", at(sys.ConnectedAt))
	for _, mark := range sys.Trust {
		add("trust", theme.Clean(mark.Requirement)+" until "+at(&mark.Until))
	}
	var sends, receives []string
	for i := range s.Org.Policies {
		p := &s.Org.Policies[i]
		word := theme.Clean(p.Name) + " (" + p.State + ")"
		if carries(sys.Tags, p.SenderTags) {
			sends = append(sends, word)
		}
		if carries(sys.Tags, p.ReceiverTags) {
			receives = append(receives, word)
		}
	}
	add("sends by", dash(strings.Join(sends, "; ")))
	add("receives by", dash(strings.Join(receives, "; ")))
	if sys.Notes != "" {
		add("notes", theme.Clean(sys.Notes))
	}
	return lines
}

func carries(a, b []wire.Tag) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}
