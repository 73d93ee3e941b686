package tui

import (
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire/find"
)

// palette finds an action by its words. It is made of the bindings, so it knows each.
type palette struct {
	input screen.Input
	list  screen.List
}

// action is one line of the palette.
type action struct {
	text   string
	screen int
	press  *keys.Binding // nil only goes to the screen
}

var (
	runAction = keys.New("do it", "enter")
	closeIt   = keys.New("close", "esc")
)

func newPalette() *palette {
	p := &palette{input: screen.NewInput("what do you want to do?")}
	p.input.Focus()
	return p
}

// actions lists what fits what is typed.
func (m *Model) actions() []action {
	var out []action
	add := func(a action) {
		if t := (find.Thing{Names: []string{a.text}}); t.Found(m.palette.input.Value()) {
			out = append(out, a)
		}
	}
	for i, s := range m.screens {
		add(action{text: s.Name(), screen: i})
	}
	for i, s := range m.screens {
		for _, b := range s.Keys() {
			if b.Quiet || b.Write && m.state.ReadOnly {
				continue
			}
			add(action{text: s.Name() + ": " + b.Does, screen: i, press: &b})
		}
	}
	for _, b := range m.everywhere() {
		add(action{text: b.Does, screen: m.at, press: &b})
	}
	return out
}

func (m *Model) chosen(k tea.KeyMsg) tea.Cmd {
	list := m.actions()
	switch {
	case closeIt.Is(k):
		m.palette = nil
	case runAction.Is(k):
		at := m.palette.list.At
		m.palette = nil
		if at >= len(list) {
			return nil
		}
		a := list[at]
		cmd := m.show(a.screen)
		if a.press != nil {
			cmd = tea.Batch(cmd, m.pressed(a.press.Press()))
		}
		return cmd
	case k.Type == tea.KeyUp || k.Type == tea.KeyDown:
		m.palette.list.Move(k, len(list), 5)
	default:
		m.palette.input.Update(k)
		m.palette.list.At = 0
	}
	return nil
}

func (m *Model) paletteView(w, h int) string {
	t := m.state.Theme
	list := m.actions()
	from, to := m.palette.list.Window(len(list), h-1)
	rest := m.palette.list.Rest(len(list)) // at the right end, away from what is typed
	lines := []string{": " + m.palette.input.View(t, max(1, w-2-ansi.StringWidth(rest))) + rest}
	for i := from; i < to; i++ {
		a := list[i]
		key := screenKey(a.screen).Key()
		if a.press != nil {
			key = a.press.Key()
		}
		line := "  " + theme.Fit(a.text, w-16) + " " + t.Paint(theme.Dim, key)
		if i == m.palette.list.At {
			line = "▸ " + t.Paint(theme.Chosen, theme.Fit(a.text, w-16)) + " " + t.Paint(theme.Dim, key)
		}
		lines = append(lines, line)
	}
	if len(list) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  no action has these words"))
	}
	return theme.Box(lines, w, h)
}
