package tui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/wire"
)

func TestTheMapAnswersAtAnInstant(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "7", "down", "right", "right", "right")
	want := func(what ...string) {
		t.Helper()
		view := ansi.Strip(m.View())
		for _, w := range what {
			if !strings.Contains(view, w) {
				t.Errorf("no %q in\n%s", w, view)
			}
		}
	}
	want("laptop-ana → pod-1", "tcp/80 by Kubernetes, rule 1", "[●]")
	press(m, "t", "t")
	want("[Saturday 02:00]", "Sat 2026-03-28 02:00", "nothing may be opened then; enter says why", "[·]")
	press(m, "[")
	want("Sat 2026-03-28 01:00")
	press(m, "@", "text:yesterday", "enter")
	want("✗ \"yesterday\"")
	clear(m)
	press(m, "text:3d", "enter")
	want("Mon 2026-03-30 10:00")
	press(m, "n", "[")
	want("Fri 2026-03-27 09:00")
	press(m, "n", "/", "text:pods", "enter")
	want("3 systems to 3", "filter: pods")
	press(m, "esc", "/", "text:developers > web", "enter")
	want("1 system to 1")
	press(m, "esc", "enter", "esc")
}

// TestTheMapOfACrowd groups 2,000 systems by tag, and a cell leads on to its systems.
func TestTheMapOfACrowd(t *testing.T) {
	s := lab()
	one := s.org.Systems[0]
	for i := range 2000 {
		one.ID, one.Name = wire.SystemID(fmt.Sprintf("s%04d", i)), fmt.Sprintf("host-%d", i)
		s.org.Systems = append(s.org.Systems, one)
	}
	m := model(s, Options{})
	press(m, "7", "down", "right", "right")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "3 tags to 4") || !strings.Contains(view, "developers (900) → pods (1000)") {
		t.Errorf("not by tag:\n%s", view)
	}
	press(m, "enter")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "2001 systems to 1: developers → pods") {
		t.Errorf("no systems:\n%s", view)
	}
	began := time.Now()
	for range 20 {
		m.Update(tea.KeyMsg{Type: tea.KeyDown})
		m.View()
	}
	t.Logf("a key and a frame: %s", time.Since(began)/20)
	press(m, "esc")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "3 tags to 4") {
		t.Errorf("esc does not go back:\n%s", view)
	}
}
