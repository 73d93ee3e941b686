package tui

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/tui/screen"
)

// wheel is how many lines one notch of the wheel moves.
const wheel = 3

// mouse follows the wheel and clicks. It adds nothing to the keys: the wheel is up and
// down, a click puts the cursor on a row or a screen on top, and one on the row under the
// cursor is enter.
func (m *Model) mouse(e tea.MouseMsg) tea.Cmd {
	if e.Action != tea.MouseActionPress {
		return nil
	}
	switch e.Button {
	case tea.MouseButtonWheelUp:
		return m.turned(tea.KeyUp)
	case tea.MouseButtonWheelDown:
		return m.turned(tea.KeyDown)
	case tea.MouseButtonLeft:
		return m.clicked(e.X, e.Y)
	}
	return nil
}

func (m *Model) turned(k tea.KeyType) tea.Cmd {
	n := wheel
	if m.help.open {
		if m.help.most == 0 {
			return nil
		}
	} else if m.change == nil && m.palette == nil && m.current().Typing() {
		n = 1
	}
	var cmds []tea.Cmd
	for range n {
		cmds = append(cmds, m.pressed(tea.KeyMsg{Type: k}))
	}
	return tea.Batch(cmds...)
}

func (m *Model) clicked(x, y int) tea.Cmd {
	if m.change != nil || m.palette != nil || m.help.open {
		return nil
	}
	if y == 0 {
		if i := m.tabAt(x); i >= 0 && !m.current().Typing() {
			return m.show(i)
		}
		return nil
	}
	c, ok := m.current().(screen.Clicker)
	if !ok || x >= m.bodyW || y > m.bodyH || !m.state.Loaded {
		return nil
	}
	if c.Click(x, y-1, &m.state) {
		return m.pressed(tea.KeyMsg{Type: tea.KeyEnter})
	}
	return nil
}

// tabAt is the screen whose name is drawn at x, or -1.
func (m *Model) tabAt(x int) int {
	line, from, at := ansi.Strip(m.tabs(m.w)), 0, -1
	for i := range m.screens {
		label := m.label(i)
		j := strings.Index(line[from:], label)
		if j < 0 {
			continue
		}
		from += j
		if ansi.StringWidth(line[:from]) > x {
			break
		}
		at = i
		from += len(label)
	}
	return at
}
