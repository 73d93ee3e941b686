package tui

import (
	"fmt"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
)

// help is what is known of the keys: it is made of the bindings that count now.
type help struct {
	open   bool
	scroll int
	most   int // lines that can be scrolled, as drawn last
}

// pressed scrolls; any other key closes.
func (h *help) pressed(k tea.KeyMsg) {
	l := screen.List{At: h.scroll}
	if h.open = h.most > 0 && l.Move(k, h.most+1, 8); h.open {
		h.scroll = l.At
	} else {
		h.scroll = 0
	}
}

func (m *Model) helpView(w, h int) string {
	t := m.state.Theme
	cell := func(b keys.Binding) string { return "  " + theme.Fit(b.Key(), 10) + " " + b.Does }
	left := []string{t.Paint(theme.Title, "On "+m.current().Name())}
	for _, b := range m.current().Keys() {
		if !b.Write || !m.state.ReadOnly {
			left = append(left, cell(b))
		}
	}
	right := []string{t.Paint(theme.Title, "Everywhere"), "  " + theme.Fit("1 to 9, 0", 10) + " a screen"}
	if over := len(m.screens) - 10; over > 0 {
		right = append(right, "  "+theme.Fit(fmt.Sprintf("alt+1 to %d", over), 10)+" one after those")
	}
	for _, b := range m.everywhere() {
		right = append(right, cell(b))
	}
	lines := beside(left, right, w)
	m.help.most = max(0, len(lines)-h)
	from := min(m.help.scroll, m.help.most)
	lines = lines[from:]
	if len(lines) > h {
		over := len(lines) - h + 1
		lines = append(lines[:h-1:h-1], t.Paint(theme.Dim, "  ↓ "+wire.Count(over, "more line")))
	}
	return theme.Box(lines, w, h)
}

// beside puts two lists side by side where both fit, else one below the other.
func beside(left, right []string, w int) []string {
	half, other := 0, 0
	for _, l := range left {
		half = max(half, ansi.StringWidth(l)+2)
	}
	for _, l := range right {
		other = max(other, ansi.StringWidth(l))
	}
	half = max(half, w*2/5)
	if half+other > w {
		return append(append(left, ""), right...)
	}
	var lines []string
	for i := range max(len(left), len(right)) {
		var a, b string
		if i < len(left) {
			a = left[i]
		}
		if i < len(right) {
			b = right[i]
		}
		lines = append(lines, theme.Fit(a, half)+b)
	}
	return lines
}
