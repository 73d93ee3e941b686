package tour

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"enclave/tui/theme"
)

// sideAt is the width from which the pane stands beside the screens and not below them.
const sideAt = 112

// Frame lays the pane out in w by h: body draws what is left of it.
func (m *Model) Frame(t theme.Theme, w, h int, body func(w, h int) string) string {
	switch {
	case m.left || h < 6:
		return body(w, h)
	case m.folded:
		return body(w, h-1) + "\n" + m.head(t, w)
	case w >= sideAt:
		side := min(w/3, 44)
		left := strings.Split(body(w-side-1, h), "\n")
		right := strings.Split(theme.Box(m.lines(t, side-2, h), side-2, h), "\n")
		for i := range left {
			left[i] += " │ " + right[i]
		}
		return strings.Join(left, "\n")
	}
	own := min(max(5, h/3), 10)
	if need := 1 + len(m.short(t, w, h)); need > own && own < h/2 {
		own++ // on a small screen that row is what shows how the step stands
	}
	return body(w, h-own) + "\n" + m.head(t, w) + "\n" + theme.Box(m.short(t, w, own-1), w, own-1)
}

// name is the step and where it stands among the others.
func (m *Model) name() string {
	return fmt.Sprintf("Tour %d/%d: %s", m.at+1, len(m.steps), m.steps[m.at].Title)
}

// head is the rule above the pane, or all of a folded one.
func (m *Model) head(t theme.Theme, w int) string {
	key := "ctrl+n skip"
	switch {
	case m.folded:
		key = "ctrl+t unfold"
	case m.done[m.at] && m.at+1 < len(m.steps):
		key = "✓ ctrl+n next"
	case m.done[m.at]:
		key = "✓ the end"
	}
	name := m.name()
	if over := ansi.StringWidth(name) + ansi.StringWidth(key) + 6 - w; over > 0 {
		name = theme.Fit(name, max(0, ansi.StringWidth(name)-over))
	}
	rule := max(0, w-ansi.StringWidth(name)-ansi.StringWidth(key)-6)
	return theme.Fit("─ "+t.Paint(theme.Title, name)+" "+strings.Repeat("─", rule)+" "+key+" ─", w)
}

// told is what was seen, wrapped.
func (m *Model) told(t theme.Theme, w int) []string {
	mark, tone := "· ", theme.Plain
	if m.sight.Done {
		mark, tone = "✓ ", theme.Good
	}
	var out []string
	switch {
	case m.busy == entering || m.queue == entering:
		out = append(out, "… the lab is made ready")
	case m.busy == acting:
		out = append(out, "… at work")
	}
	if err := cmp.Or(m.err, m.blind); err != nil {
		for i, l := range theme.Wrap(theme.Clean(err.Error()), w-2) {
			out = append(out, t.Paint(theme.Bad, mark2("✗ ", i)+l))
		}
	}
	for i, line := range m.sight.Lines {
		if i > 0 {
			mark = "  "
		}
		for j, l := range theme.Wrap(theme.Clean(line), w-2) {
			out = append(out, t.Paint(tone, mark2(mark, j)+l))
		}
	}
	return out
}

func mark2(mark string, line int) string {
	if line > 0 {
		return "  "
	}
	return mark
}

// does is the lab's key.
func (m *Model) does(t theme.Theme, w int) []string {
	if m.sight.Action == "" || m.busy == acting || m.busy == entering {
		return nil
	}
	var out []string
	for i, l := range theme.Wrap(theme.Clean("ctrl+g: "+m.sight.Action), w-2) {
		out = append(out, t.Paint(theme.Title, mark2("▸ ", i)+l))
	}
	return out
}

// short is the pane in few lines: once done, the figures matter more than what to do.
func (m *Model) short(t theme.Theme, w, h int) []string {
	told, does := m.told(t, w), m.does(t, w)
	if m.sight.Done {
		return append(told, does...)
	}
	do := theme.Wrap(m.steps[m.at].Do, w)
	room := h - len(does) - min(1, len(told))
	if len(do)+len(does)+len(told) > h {
		room-- // for the line that says how many are missing: how the step stands is not below it
	}
	do = do[:min(len(do), max(0, room))]
	return append(append(do, does...), told...)
}

// lines are the pane at its full height.
func (m *Model) lines(t theme.Theme, w, h int) []string {
	var out []string
	for _, l := range theme.Wrap(m.name(), w) {
		out = append(out, t.Paint(theme.Title, l))
	}
	out = append(out, "")
	out = append(out, theme.Wrap(m.steps[m.at].Do, w)...)
	out = append(out, "")
	if does := m.does(t, w); len(does) > 0 {
		out = append(append(out, does...), "")
	}
	out = append(out, m.told(t, w)...)
	foot := []string{"", ""}
	for i := range m.steps {
		mark := "·"
		switch {
		case i == m.at:
			mark = "▸"
		case m.done[i]:
			mark = "✓"
		}
		foot[0] += mark + " "
	}
	foot = append(foot[:1], "ctrl+n next   ctrl+p back", "ctrl+t fold   ctrl+x leave")
	if m.done[m.at] && m.at+1 < len(m.steps) {
		foot[1] = t.Paint(theme.Title, "ctrl+n next") + "   ctrl+p back"
	}
	for len(out)+len(foot) < h {
		out = append(out, "")
	}
	return append(out[:min(len(out), max(0, h-len(foot)))], foot...)
}
