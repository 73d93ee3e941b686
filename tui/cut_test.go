package tui

import (
	"fmt"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/wire"
)

// TestNothingIsCutInSilence: a list, a map or details that are longer than the screen say so.
func TestNothingIsCutInSilence(t *testing.T) {
	s := lab()
	one, policy := s.org.Systems[0], s.org.Policies[0]
	for i := range 40 {
		one.ID, one.Name = wire.SystemID(fmt.Sprintf("x%04d", i)), fmt.Sprintf("host-%d", i)
		policy.ID, policy.Name = wire.PolicyID(one.ID), one.Name
		policy.Notes = strings.Repeat("a note of several words ", 30)
		s.org.Systems, s.org.Policies = append(s.org.Systems, one), append(s.org.Policies, policy)
	}
	for path, want := range map[string]string{
		"2": "↓ 30", "3": "↓ 29", "6": "↓ 15", ":": "↓ ", "3 down down down down down enter": "more lines",
	} {
		m := model(s, Options{})
		m.Update(tea.WindowSizeMsg{Width: 60, Height: 20})
		press(m, strings.Fields(path)...)
		if view := ansi.Strip(m.View()); !strings.Contains(view, want) {
			t.Errorf("%s: no %q in\n%s", path, want, view)
		}
	}
	// what lies above is told, too, and details scroll to their end
	m := model(s, Options{})
	m.Update(tea.WindowSizeMsg{Width: 60, Height: 20})
	press(m, "6", "end")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "↑ 15") || strings.Contains(view, "↓") {
		t.Errorf("at the end:\n%s", view)
	}
	press(m, "3", "end", "enter", "pgdown", "pgdown", "pgdown")
	if view := ansi.Strip(m.View()); strings.Contains(view, "more line") || !strings.Contains(view, "several words") {
		t.Errorf("the end of the details:\n%s", view)
	}
	press(m, "up") // another policy is seen from its beginning
	if view := ansi.Strip(m.View()); !strings.Contains(view, "more line") {
		t.Errorf("the beginning of the next details:\n%s", view)
	}
}
