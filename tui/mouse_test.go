package tui

import (
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// click presses the left button where a text is drawn.
func click(t *testing.T, m *Model, text string) {
	t.Helper()
	for y, line := range strings.Split(ansi.Strip(m.View()), "\n") {
		if i := strings.Index(line, text); i >= 0 {
			_, cmd := m.Update(tea.MouseMsg{X: ansi.StringWidth(line[:i]), Y: y, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
			run(m, cmd)
			m.View()
			return
		}
	}
	t.Fatalf("no %q in\n%s", text, ansi.Strip(m.View()))
}

func TestTheMouseDoesWhatKeysDo(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	want := func(text string) {
		t.Helper()
		if view := ansi.Strip(m.View()); !strings.Contains(view, text) {
			t.Errorf("no %q in\n%s", text, view)
		}
	}
	click(t, m, "3 policies")
	want("[3 policies]")
	click(t, m, "Backups")
	want("▸ Backups")
	click(t, m, "Backups") // again: enter
	want("somebody disabled it")
	press(m, "esc", "c")
	click(t, m, "hours")
	want("▸ hours")
	click(t, m, "2 systems")
	want("[3 policies]") // a form is left by its keys
	press(m, "esc")
	click(t, m, "2 systems")
	click(t, m, "old")
	want("▸   old")
	_, cmd := m.Update(tea.MouseMsg{Button: tea.MouseButtonWheelUp, Action: tea.MouseActionPress})
	run(m, cmd)
	want("▸   db") // three lines up
	click(t, m, "5 flows")
	click(t, m, "laptop-ana")
	want("▸ laptop-ana")
	click(t, m, "7 map")
	click(t, m, "●")
	want("laptop-ana → pod-1")
	click(t, m, "●")
	want("The chain")
	click(t, m, "8 keys")
	click(t, m, "spent")
	want("▸ spent")
	click(t, m, "6 audit")
	click(t, m, "auth.deny")
	want("Record 29")
	for x := range 100 { // nothing breaks wherever it is
		for y := range 30 {
			m.Update(tea.MouseMsg{X: x, Y: y, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
			m.View()
		}
	}
	if len(s.did) > 0 {
		t.Errorf("did %q", s.did)
	}
}
