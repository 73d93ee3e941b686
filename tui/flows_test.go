package tui

import (
	"errors"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

func TestAFlowIsCutByHand(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "5", "/", "text:laptop", "enter", "c")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "No policy changes: what is still allowed may be opened again") {
		t.Errorf("not warned:\n%s", view)
	}
	press(m, "y")
	if len(s.did) != 1 || s.did[0] != "cut [laptop-ana pod-1] 100.64.0.2:80" {
		t.Fatalf("did %q", s.did)
	}
	// What was denied has no flow to cut.
	press(m, "esc", "v", "c", "y")
	if len(s.did) != 1 {
		t.Fatalf("did %q", s.did)
	}
	press(m, "/", "text:introduces", "enter")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "1 of 2 kinds of packets denied") || strings.Contains(view, "no rule") {
		t.Errorf("not found:\n%s", view)
	}
	s.err = errors.New("the API does not answer")
	press(m, "tick")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "no policy") || !strings.Contains(view, "the API does not answer; trying again") {
		t.Errorf("lost what was read:\n%s", view)
	}
}

func TestTheCursorStaysOnItsFlow(t *testing.T) {
	s := lab()
	m := model(s, Options{})
	press(m, "5", "down") // laptop-ana, the second by name
	press(m, "s", "s")    // the first by bytes
	press(m, "c", "y")
	if len(s.did) != 1 || !strings.Contains(s.did[0], "laptop-ana") {
		t.Fatalf("did %q", s.did)
	}
}
