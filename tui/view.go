package tui

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// The least a frame can be drawn in; below it there is only a sentence.
const leastW, leastH = 30, 8

// View draws the frame: screens, body, hints, status.
func (m *Model) View() string {
	t := m.state.Theme
	if m.w < leastW || m.h < leastH {
		return t.Screen(theme.Box([]string{"too small: 60x16 shows all"}, m.w, m.h))
	}
	w, h := m.w, m.h-3
	body := ""
	if m.tour != nil {
		body = m.tour.Frame(t, w, h, m.body)
	} else {
		body = m.body(w, h)
	}
	return t.Screen(strings.Join([]string{m.tabs(w), body, m.hints(w), m.status(w)}, "\n"))
}

// body is what is on top.
func (m *Model) body(w, h int) string {
	m.bodyW, m.bodyH = w, h
	switch {
	case m.change != nil:
		return m.changeView(w, h)
	case m.palette != nil:
		return m.paletteView(w, h)
	case m.help.open:
		return m.helpView(w, h)
	case !m.state.Loaded && !alone(m.current()):
		return theme.Box(m.waiting(w), w, h)
	}
	return m.current().View(&m.state, w, h)
}

// alone reports whether a screen shows something where the organisation cannot be read: a
// locked state can only be unlocked.
func alone(s screen.Screen) bool {
	a, ok := s.(interface{ Alone() bool })
	return ok && a.Alone()
}

// waiting is the body before the first reading.
func (m *Model) waiting(w int) []string {
	err := m.state.Line.Err
	if err == nil {
		return []string{"reading…"}
	}
	head := "The server has not answered yet; trying again every second."
	if refused(err) {
		head = "The server answers, and refuses; trying again every second."
	}
	return append([]string{head, ""}, theme.Wrap(failure(m.state.Theme, err)[0], w)...)
}

// refused is whether a server has answered err because of who asks.
func refused(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden)
}

// tabs names the screens; the brackets say which one is on top. Where not all fit, those
// that are furthest from it are left out, at the end that an ellipsis stands at.
func (m *Model) tabs(w int) string {
	if line := m.tabLine(0, len(m.screens)); ansi.StringWidth(line) <= w {
		return theme.Fit(line, w)
	}
	from, to := m.at, m.at+1
	for grown := true; grown; {
		grown = false
		if to < len(m.screens) && ansi.StringWidth(m.tabLine(from, to+1)) <= w-2 {
			to, grown = to+1, true
		}
		if from > 0 && ansi.StringWidth(m.tabLine(from-1, to)) <= w-2 {
			from, grown = from-1, true
		}
	}
	line := m.tabLine(from, to)
	if from > 0 {
		line = "…" + line
	}
	if to < len(m.screens) {
		line = theme.Fit(line, min(w-1, ansi.StringWidth(line))) + "…"
	}
	return theme.Fit(line, w)
}

// label is a screen's name, with its digit where it has one of its own.
func (m *Model) label(i int) string {
	if key := screenKey(i).Key(); len(key) == 1 {
		return key + " " + m.screens[i].Name()
	}
	return m.screens[i].Name()
}

// tabLine names screens [from, to), those with a digit of their own by it.
func (m *Model) tabLine(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		switch {
		case i == m.at:
			b.WriteByte('[')
		case i == m.at+1 && i > from:
			b.WriteByte(']')
		default:
			b.WriteByte(' ')
		}
		name := m.label(i)
		if i == m.at {
			name = m.state.Theme.Paint(theme.Title, name)
		}
		b.WriteString(name)
	}
	if m.at == to-1 {
		b.WriteByte(']')
	} else {
		b.WriteByte(' ')
	}
	return b.String()
}

// hints are what was just said, else the first bindings that fit.
func (m *Model) hints(w int) string {
	t := m.state.Theme
	switch {
	case m.said.Err != nil:
		return theme.Fit(t.Paint(theme.Bad, "✗ "+theme.Clean(m.said.Err.Error())), w)
	case m.said.Text != "":
		return theme.Fit("● "+theme.Clean(m.said.Text), w)
	}
	var parts []string
	for _, b := range m.active() {
		if b.Quiet || b.Write && m.state.ReadOnly {
			continue
		}
		parts = append(parts, b.Key()+" "+strings.SplitN(b.Does, ",", 2)[0])
	}
	line := ""
	for _, p := range parts {
		if len(line)+len(p)+2 > w {
			continue
		}
		if line != "" {
			line += "  "
		}
		line += p
	}
	return t.Paint(theme.Dim, theme.Fit(line, w))
}

// active are the bindings that count now, those of what is on top first.
func (m *Model) active() []keys.Binding {
	switch {
	case m.change != nil:
		return m.change.keys()
	case m.palette != nil:
		return []keys.Binding{runAction, closeIt}
	case m.help.open:
		return []keys.Binding{keys.New("scrolls", "down"), keys.New("or any other key closes", "esc")}
	case m.current().Typing():
		return m.current().Keys()
	}
	return append([]keys.Binding{helpKey, commandKey, quitKey}, m.current().Keys()...)
}

// status tells the connection first, then how far the revision has come.
func (m *Model) status(w int) string {
	t, r := m.state.Theme, &m.state.Org.Revision
	var line string
	switch {
	case refused(m.state.Line.Err):
		line = t.Paint(theme.Bad, "✗ "+reason(m.state.Line.Err)+": the server refuses, trying again")
	case m.state.Line.Err != nil && m.state.Loaded:
		line = t.Paint(theme.Bad, fmt.Sprintf("✗ no answer for %.0fs, trying again", m.state.Now.Sub(m.state.Line.Since).Seconds()))
	case m.state.Line.Err != nil:
		line = t.Paint(theme.Bad, "✗ no answer, trying again")
	case !m.state.Loaded:
		line = "· connecting"
	case m.trail != nil:
		line = t.Paint(theme.Warn, "○ live without the audit trail: "+reason(m.trail))
	default:
		line = t.Paint(theme.Good, "● live")
	}
	if m.state.Loaded {
		line += fmt.Sprintf(" │ revision %d", r.Revision)
		up := 0
		for i := range m.state.Org.Systems {
			if m.state.Org.Systems[i].State == wire.Connected {
				up++
			}
		}
		if r.Applied {
			line += fmt.Sprintf(" │ acknowledged by all of %d", up)
			if r.Away > 0 {
				line += t.Paint(theme.Warn, fmt.Sprintf(" │ %d away may have older maps", r.Away))
			}
		} else {
			line += t.Paint(theme.Warn, fmt.Sprintf(" │ %d of %d have yet to acknowledge", len(r.Waiting), up))
		}
	}
	if m.state.ReadOnly {
		line += " │ read-only"
	}
	return theme.Fit(line, w)
}

func reason(err error) string {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return "it broke off"
}

func (m *Model) changeView(w, h int) string {
	t, p := m.state.Theme, m.change
	head := p.Title + "?"
	if p.busy || p.err != nil {
		head = p.Title
	}
	var lines []string
	for _, l := range p.lines(t) {
		lines = append(lines, theme.Wrap(l, w)...)
	}
	from := min(p.scroll.At, max(0, len(lines)-(h-2)))
	return theme.Box(append([]string{t.Paint(theme.Title, theme.Clean(head)), ""}, lines[from:]...), w, h)
}
