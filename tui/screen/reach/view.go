package reach

import (
	"fmt"
	"strings"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
)

// seen is the chart as it is filtered, made once an answer and filter.
func (m *Model) seen() *chart {
	if m.data == nil {
		return &chart{}
	}
	if m.view == nil || m.filters != m.filter.Value() {
		m.view, m.filters = m.data.filtered(m.filter.Value()), m.filter.Value()
	}
	return m.view
}

// View draws the slider, the map, and what the cell under the cursor says.
func (m *Model) View(s *screen.State, w, h int) string {
	t := s.Theme
	if m.why != nil {
		return theme.Box(m.why.View(s, w, h), w, h)
	}
	lines := []string{m.when.view(s), m.top(s, w)}
	switch {
	case m.err != nil:
		lines = append(lines, t.Paint(theme.Bad, "✗ "+theme.Clean(m.err.Error())+"; trying again"))
	case m.data == nil:
		lines = append(lines, "asking who reaches whom…")
	}
	if m.data == nil {
		return theme.Box(lines, w, h)
	}
	c := m.seen()
	m.rest = ""
	below := 2
	if h > 18 {
		below = 4
	} else if h-len(lines)-4 > len(c.rows) { // there is room to say what the signs mean
		below = 3
	}
	room := h - len(lines) - below
	if m.asLines {
		lines = append(lines, m.drawLines(s, c, w, room)...)
	} else {
		lines = append(lines, m.matrix(s, c, w, room)...)
	}
	lines[1] += m.rest
	lines = lines[:min(len(lines), h-below)]
	for len(lines) < h-below {
		lines = append(lines, "")
	}
	return theme.Box(append(lines, m.says(s, c, w, below)...), w, h)
}

// top is the line below the slider.
func (m *Model) top(s *screen.State, w int) string {
	t := s.Theme
	switch {
	case m.typing != nil:
		line := "at: " + m.typing.View(t, max(1, min(34, w-6)))
		if m.wrong != "" {
			line = "at: " + m.typing.View(t, 12) + " " + t.Paint(theme.Bad, "✗ "+theme.Clean(m.wrong))
		}
		return line
	case m.filter.Focused():
		return "filter: " + m.filter.View(t, w-8)
	case m.data == nil:
		return ""
	}
	c, what := m.seen(), "system"
	if m.asked.byTag {
		what = "tag"
	}
	line := fmt.Sprintf("%s to %d", wire.Count(len(c.rows), what), len(c.cols))
	if m.within != nil || m.asked.from != "" {
		line += ": " + theme.Clean(c.note) + ", esc goes back"
	}
	if v := m.filter.Value(); v != "" {
		line += "  filter: " + theme.Clean(v)
	}
	if c.more {
		line += t.Paint(theme.Warn, "  ! more than is shown: v groups by tag")
	}
	return line
}

const rowName = 18 // with the number before it

// matrix draws rows as senders, columns as receivers. The cell under the cursor stands in
// brackets; its row and column are named below.
func (m *Model) matrix(s *screen.State, c *chart, w, h int) []string {
	t := s.Theme
	if len(c.rows) == 0 || len(c.cols) == 0 {
		return []string{t.Paint(theme.Dim, "  nothing to show; esc clears the filter")}
	}
	cw := len(fmt.Sprint(len(c.cols))) + 1
	cw = max(cw, 3)
	from, to := m.col.Window(len(c.cols), max(1, (w-rowName-2)/cw))
	m.rest = m.col.RestAcross(len(c.cols))
	m.wide, m.first = cw, from
	var head strings.Builder
	head.WriteString(strings.Repeat(" ", rowName))
	for j := from; j < to; j++ {
		fmt.Fprintf(&head, "%*d ", cw-1, j+1)
	}
	lines := []string{t.Paint(theme.Dim, head.String())}
	m.page = max(1, h-1)
	a, b := m.row.Window(len(c.rows), m.page)
	m.rest = m.row.Rest(len(c.rows)) + m.rest
	for i := a; i < b; i++ {
		var line strings.Builder
		name := theme.Fit(fmt.Sprintf("%d %s", i+1, theme.Clean(c.rows[i].label)), rowName)
		if i == m.row.At {
			name = t.Paint(theme.Title, name)
		}
		line.WriteString(name)
		for j := from; j < to; j++ {
			glyph := m.glyph(s, c, i, j)
			if i == m.row.At && j == m.col.At {
				line.WriteString(strings.Repeat(" ", cw-3) + "[" + glyph + "]")
			} else {
				line.WriteString(strings.Repeat(" ", cw-2) + glyph + " ")
			}
		}
		lines = append(lines, line.String())
	}
	return lines
}

func (m *Model) glyph(s *screen.State, c *chart, i, j int) string {
	t, from, to := s.Theme, c.rows[i], c.cols[j]
	cell := c.cells[[2]string{from.id, to.id}]
	switch {
	case cell == nil && from == to && !m.asked.byTag:
		return "-"
	case cell == nil:
		return t.Paint(theme.Dim, "·")
	case cell.may[0].behind != "":
		return t.Paint(theme.Good, "→")
	}
	for k := range cell.may {
		if cell.may[k].all() {
			return t.Paint(theme.Warn, "█")
		}
	}
	return t.Paint(theme.Good, "●")
}

// says tells what the cell under the cursor means, in n lines.
func (m *Model) says(s *screen.State, c *chart, w, n int) []string {
	t := s.Theme
	from, to, cell := m.chosen(c)
	legend := t.Paint(theme.Dim, "● some ports  █ everything  → through a gateway  · nothing")
	if from == nil {
		return append(make([]string, n-1), legend)
	}
	size := func(n *node) string {
		if !m.asked.byTag || n.gateway {
			return theme.Clean(n.label)
		}
		return fmt.Sprintf("%s (%d)", theme.Clean(n.label), n.size)
	}
	lines := []string{t.Paint(theme.Title, size(from)+" → "+size(to))}
	switch {
	case cell == nil && from == to && !m.asked.byTag:
		lines = append(lines, "  one and the same")
	case cell == nil && m.asked.byTag:
		lines = append(lines, "  no policy that is active then names the one as sender, the other as receiver")
	case cell == nil:
		lines = append(lines, "  nothing may be opened then; enter says why")
	default:
		for i := range cell.may {
			a := &cell.may[i]
			text := "  " + a.what()
			if a.behind != "" {
				text += " to " + a.behind
			}
			text += " by " + theme.Clean(a.by)
			if a.some != "" {
				text += t.Paint(theme.Warn, "  ! "+a.some)
			}
			lines = append(lines, text)
		}
	}
	most := n
	if n > 2 {
		most = n - 1
	}
	if len(lines) > most {
		over := len(lines) - most
		lines = lines[:most]
		lines[most-1] = theme.Fit(lines[most-1], max(1, w-16)) + fmt.Sprintf("  and %d more", over)
	}
	for len(lines) < most {
		lines = append(lines, "")
	}
	if n > 2 {
		lines = append(lines, legend)
	}
	return lines
}

// drawLines draws the graph: a sender, then what it may open and where.
func (m *Model) drawLines(s *screen.State, c *chart, w, h int) []string {
	t, all := s.Theme, c.lines()
	if len(all) == 0 {
		return []string{t.Paint(theme.Dim, "  nobody may open anything then")}
	}
	m.page = max(1, h/2)
	// A head stands before the first line of each sender, so fewer lines fit than rows.
	from, to := m.line.Window(len(all), max(1, h-2))
	for draw := from; ; draw++ {
		lines, end := m.someLines(s, c, draw, to, w, h)
		if end > m.line.At || draw >= m.line.At {
			m.rest = screen.Rest(draw, len(all)-end)
			return lines
		}
	}
}

// someLines draws those from from on, before to, of which h lines have room; end is the
// first that is left out.
func (m *Model) someLines(s *screen.State, c *chart, from, to, w, h int) (lines []string, end int) {
	t, all := s.Theme, c.lines()
	for i := from; i < to; i++ {
		l := &all[i]
		head := i == from || all[i-1].from != l.from
		if room := h - len(lines); room < 1 || head && room < 2 && i > from {
			return lines, i
		}
		if head {
			lines = append(lines, t.Paint(theme.Title, theme.Clean(l.from.label)))
		}
		cursor, branch := "  ", "├─ "
		if i == m.line.At {
			cursor = "▸ "
		}
		if i+1 == len(all) || all[i+1].from != l.from {
			branch = "└─ "
		}
		names := make([]string, 0, 8)
		for _, n := range l.to[:min(len(l.to), 8)] {
			names = append(names, theme.Clean(n.label))
		}
		text := strings.Join(names, ", ")
		if more := len(l.to) - len(names); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		what, policy, _ := strings.Cut(l.what, " by ")
		lines = append(lines, cursor+branch+theme.Fit(what+" → "+text, max(20, w-5-min(34, w/3)))+" "+t.Paint(theme.Dim, theme.Clean(policy)))
	}
	return lines, to
}

// Click puts the cursor on a cell.
func (m *Model) Click(x, y int, _ *screen.State) bool {
	c := m.seen()
	j := m.first + (x-rowName)/max(m.wide, 1)
	if m.why != nil || m.asLines || m.Typing() || x < rowName || j >= len(c.cols) {
		return false
	}
	again := m.col.At == j
	if y < 3 || y-3 >= m.page {
		return false
	}
	m.col.At = j
	return m.row.Click(y-3, len(c.rows)) && again
}
