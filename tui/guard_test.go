package tui

import (
	"bytes"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
)

// faulty is a screen that panics where it is told to.
type faulty struct {
	screen.Screen
	update, view bool
}

func (f *faulty) Update(tea.Msg, *screen.State) tea.Cmd {
	if f.update {
		panic("in Update")
	}
	return nil
}

func (f *faulty) View(*screen.State, int, int) string {
	if f.view {
		panic("in View")
	}
	return ""
}

func (*faulty) Name() string         { return "faulty" }
func (*faulty) Keys() []keys.Binding { return nil }
func (*faulty) Typing() bool         { return false }

// TestAPanicEndsTheProgramInOrder: in Update, in View, and in a command inside a batch.
func TestAPanicEndsTheProgramInOrder(t *testing.T) {
	for where, f := range map[string]*faulty{"in Update": {update: true}, "in View": {view: true}, "in a command": {}} {
		m := model(lab(), Options{})
		m.screens[0] = f
		fell := new(fall)
		p := tea.NewProgram(guarded{m, fell}, tea.WithContext(t.Context()), tea.WithoutSignalHandler(), tea.WithInput(&bytes.Buffer{}), tea.WithOutput(&bytes.Buffer{}))
		fell.quit = p.Quit
		if where == "in a command" {
			m.state.Client = nil // a nil call, in a command of the batch that Init returns
		} else {
			go p.Send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("1")})
		}
		if _, err := p.Run(); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		if fell.err == nil || !strings.Contains(string(fell.err.Stack), "tui") || (where != "in a command" && !strings.Contains(fell.err.Error(), where)) {
			t.Errorf("%s: caught %v", where, fell.err)
		}
	}
}

// TestKeysThatComeTogetherAreTakenOneByOne: over a slow line they do. A paste is none.
func TestKeysThatComeTogetherAreTakenOneByOne(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	_, cmd := m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3d")})
	run(m, cmd)
	if m.current().Name() != "policies" || m.change == nil {
		t.Errorf("on %s, a change is shown: %v", m.current().Name(), m.change != nil)
	}
	_, cmd = m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("y"), Paste: true})
	run(m, cmd)
	if len(s.did) > 0 {
		t.Errorf("a paste did %v", s.did)
	}
}
