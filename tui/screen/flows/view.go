package flows

import (
	"fmt"
	"net/netip"
	"strconv"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

var (
	columns = []theme.Column{{Head: "from", Min: 13, Max: 22}, {Head: "to", Min: 13, Max: 22}, {Head: "service", Min: 9, Max: 16}, {Head: "policy", Min: 14, Max: 36}, {Head: "bytes", Min: 8}, {Head: "since", Min: 8}}
	refusal = []theme.Column{{Head: "from", Min: 11, Max: 15}, {Head: "to", Min: 11, Max: 15}, {Head: "service", Min: 9, Max: 11}, {Head: "why", Min: 18, Max: 42}, {Head: "count", Min: 6}, {Head: "last", Min: 8}, {Head: "at", Min: 12, Max: 22}}
)

// View draws what flows, what was denied, or one of these.
func (m *Model) View(s *screen.State, w, h int) string {
	if m.denied {
		return theme.Box(m.viewDenied(s, w, h), w, h)
	}
	t, rows := s.Theme, m.flows()
	if m.detail && m.list.At < len(rows) {
		return theme.Box(m.scroll.Cut(flowDetails(s, rows[m.list.At], w), h), w, h)
	}
	widths := theme.Widths(columns, w-2)
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.Head
		if c.Head == orders[m.order].name {
			heads[i] += " ↓"
		}
	}
	lines := []string{top(m, s, &m.live, len(rows), wire.Plural(m.live.total, "live flow"), w), t.Paint(theme.Dim, "  "+theme.Row(widths, heads...))}
	m.page = max(1, h-len(lines))
	from, to := m.list.Window(len(rows), m.page)
	lines[0] += m.list.Rest(len(rows))
	for i := from; i < to; i++ {
		f := rows[i]
		lines = append(lines, cursor(i == m.list.At)+theme.Row(widths, theme.Clean(f.Names[0]), theme.Clean(f.Names[1]), service(f.Proto, f.Dst.Port()),
			by(f), size(f.Bytes), f.Since.In(s.Now.Location()).Format("15:04:05")))
	}
	if m.live.loaded && len(rows) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  nothing flows; v shows what was denied"))
	}
	return theme.Box(lines, w, h)
}

func (m *Model) viewDenied(s *screen.State, w, h int) []string {
	t, rows := s.Theme, m.denials()
	if m.detail && m.list.At < len(rows) {
		return m.scroll.Cut(deniedDetails(s, rows[m.list.At], w), h)
	}
	widths := theme.Widths(refusal, w-2)
	lines := []string{top(m, s, &m.refused, len(rows), wire.Plural(m.refused.total, "kind")+" of packets denied of late", w), t.Paint(theme.Dim, "  "+theme.Row(widths, "from", "to", "service", "why", "count", "last", "at"))}
	m.page = max(1, h-len(lines))
	from, to := m.list.Window(len(rows), m.page)
	lines[0] += m.list.Rest(len(rows))
	for i := from; i < to; i++ {
		d := rows[i]
		lines = append(lines, cursor(i == m.list.At)+theme.Row(widths, who(d.Names[0], d.Src), who(d.Names[1], d.Dst.Addr()), service(d.Proto, d.Dst.Port()),
			t.Paint(theme.Bad, "✗")+" "+theme.Clean(d.Reason), strconv.FormatUint(d.Count, 10), d.Last.In(s.Now.Location()).Format("15:04:05"), theme.Clean(d.AtName)))
	}
	if m.refused.loaded && len(rows) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  nothing was denied; v shows what flows"))
	}
	return lines
}

// top is the line above a table.
func top[T any](m *Model, s *screen.State, of *table[T], n int, what string, w int) string {
	t := s.Theme
	switch {
	case m.search.Focused():
		return "search: " + m.search.View(t, w-8)
	case of.err != nil:
		return t.Paint(theme.Bad, "✗ "+theme.Clean(of.err.Error())+"; trying again")
	case !of.loaded:
		return "asking the agents…"
	}
	line := fmt.Sprintf("%d of %d %s", n, of.total, what)
	if v := m.search.Value(); v != "" {
		line += "  search: " + theme.Clean(v)
	}
	return line
}

func cursor(at bool) string {
	if at {
		return "▸ "
	}
	return "  "
}

// by is what allows a flow.
func by(f *api.LiveFlow) string {
	if f.PolicyName == "" {
		return "each added the other"
	}
	return fmt.Sprintf("%s, rule %d", theme.Clean(f.PolicyName), f.Rule+1)
}

// who is a system's name, or an address that is no system's.
func who(name string, a netip.Addr) string {
	if name == "" {
		return a.String()
	}
	return theme.Clean(name)
}

func flowDetails(s *screen.State, f *api.LiveFlow, w int) []string {
	l := lines{t: s.Theme, w: w}
	l.title(theme.Clean(f.Names[0]) + " → " + theme.Clean(f.Names[1]) + " " + service(f.Proto, f.Dst.Port()))
	l.add("from", f.Src.String())
	l.add("to", f.Dst.String())
	l.add("allowed by", by(f))
	l.add("run", theme.Clean(f.Run))
	l.add("since", f.Since.In(s.Now.Location()).Format("2006-01-02 15:04:05")+", "+s.Now.Sub(f.Since).Round(1e9).String())
	l.add("bytes", fmt.Sprintf("%s (%d)", size(f.Bytes), f.Bytes))
	l.add("told by", theme.Clean(f.Names[1])+", the receiving end")
	return l.all
}

func deniedDetails(s *screen.State, d *api.Denied, w int) []string {
	l := lines{t: s.Theme, w: w}
	l.title(s.Theme.State("denied") + "  " + who(d.Names[0], d.Src) + " → " + who(d.Names[1], d.Dst.Addr()) + " " + service(d.Proto, d.Dst.Port()))
	way := "going out"
	if d.Inbound {
		way = "coming in"
	}
	l.add("why", theme.Clean(d.Reason))
	l.add("refused at", theme.Clean(d.AtName)+", "+way)
	l.add("from", d.Src.String())
	if d.Name == "" {
		l.add("to", d.Dst.String())
	} else {
		l.add("to", theme.Clean(d.Name)+", which stands for nobody there")
	}
	l.add("count", strconv.FormatUint(d.Count, 10))
	l.add("first", d.First.In(s.Now.Location()).Format("2006-01-02 15:04:05"))
	l.add("last", d.Last.In(s.Now.Location()).Format("2006-01-02 15:04:05"))
	l.add("", "screen 4 explains what would allow it")
	return l.all
}

// lines are names with their values, wrapped.
type lines struct {
	t   theme.Theme
	w   int
	all []string
}

func (l *lines) title(s string) { l.all = append(l.all, l.t.Paint(theme.Title, s)) }

func (l *lines) add(name, value string) {
	if value == "" {
		return
	}
	for i, part := range theme.Wrap(value, l.w-14) {
		if i > 0 {
			name = ""
		}
		l.all = append(l.all, "  "+l.t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
	}
}

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

// size writes bytes in their largest binary unit.
func size(n uint64) string {
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for v >= 1024 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	return fmt.Sprintf("%.3g %s", v, units[0])
}

// Click puts the cursor on a flow or a denial.
func (m *Model) Click(_, y int, _ *screen.State) bool {
	n := len(m.flows())
	if m.denied {
		n = len(m.denials())
	}
	return !m.detail && !m.Typing() && m.list.Click(y-2, n)
}
