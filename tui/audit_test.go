package tui

import (
	"errors"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"enclave/tui/keys"
)

func TestTheTrailIsVerified(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "6", "V")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "● records 1 to 30 are as they were signed") || !strings.Contains(view, "2 details, whose hashes stay") {
		t.Errorf("not verified:\n%s", view)
	}
	s.audit[3].Actor = "mallory"
	press(m, "V")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "✗ the trail is not what was signed") || !strings.Contains(view, "record 3 was changed") {
		t.Errorf("not named:\n%s", view)
	}
	s.err = errors.New("the API does not answer")
	press(m, "V")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "nothing is proven; V tries again") {
		t.Errorf("not said:\n%s", view)
	}
	s.err = nil
	press(m, "esc")
	_, cmd := m.Update(keys.New("x", "V").Press())
	if view := ansi.Strip(m.View()); !strings.Contains(view, "reading record 0") || !strings.Contains(view, "esc stops it") {
		t.Errorf("not under way:\n%s", view)
	}
	run(m, cmd)
	press(m, "esc")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "following") {
		t.Errorf("esc does not go back:\n%s", view)
	}
}
