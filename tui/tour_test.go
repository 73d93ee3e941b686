package tui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"enclave/tui/frame"
	"enclave/tui/keys"
	"enclave/tui/tour"
)

// guide is a lab of two steps; what it saw is set by the test.
type guide struct {
	sight tour.Sight
	err   error // of Enter and Act
	did   []string
}

func (*guide) Steps() []tour.Step {
	return []tour.Step{{Title: "see the mesh", Do: "Press 2 for the systems. laptop-dee has just enrolled and waits: move to it with the arrows, press a to approve it, then y."},
		{Title: "kill the relay", Do: "Two downloads from pod-1: one is direct, one is relayed. ctrl+g kills the relay; then starts it again."}}
}
func (g *guide) Enter(_ context.Context, step int) error {
	g.did = append(g.did, fmt.Sprint("enter ", step))
	return g.err
}
func (g *guide) Look(context.Context) (tour.Sight, error) { return g.sight, nil }
func (g *guide) Act(context.Context) error {
	g.did = append(g.did, "act")
	return g.err
}

// toured is a model with a tour that has begun.
func toured(t *testing.T, g *guide, o Options) *Model {
	t.Helper()
	m := model(lab(), o)
	m.tour = tour.New(g)
	run(m, m.tour.Begin())
	return m
}

var tourViews = map[string]struct {
	sight tour.Sight
	path  []string
}{
	"tour":        {tour.Sight{Lines: []string{"laptop-dee is pending.", "Peers that the 8 systems know of each other: 0."}}, []string{"2"}},
	"tour-done":   {tour.Sight{Done: true, Action: "kill the relay once more", Lines: []string{"Bytes again within 0.3 s of its start, on the same connection: 3832 kB.", "Silent in between: 4.0 s."}}, []string{"ctrl+n"}},
	"tour-act":    {tour.Sight{Action: "kill the relay", Lines: []string{"laptop-ana, direct: 1303 kB. laptop-ben, relayed: 1235 kB."}}, []string{"ctrl+n", "3"}},
	"tour-folded": {tour.Sight{}, []string{"ctrl+t"}},
	"tour-left":   {tour.Sight{}, []string{"ctrl+x"}},
	"tour-change": {tour.Sight{}, []string{"3", "d"}},
}

func TestTourFrames(t *testing.T) {
	for name, v := range tourViews {
		for _, size := range [][2]int{{60, 16}, {80, 24}, {120, 40}} {
			m := toured(t, &guide{sight: v.sight}, Options{})
			press(m, v.path...)
			frame.Golden(t, fmt.Sprintf("%s-%dx%d", name, size[0], size[1]), m, size[0], size[1])
		}
		m := toured(t, &guide{sight: v.sight}, Options{ASCII: true})
		press(m, v.path...)
		frame.Golden(t, name+"-ascii", m, 80, 24)
		m = toured(t, &guide{sight: v.sight}, Options{})
		press(m, v.path...)
		for w := 1; w < 140; w += 7 {
			for h := 1; h < 50; h += 5 {
				m.Update(tea.WindowSizeMsg{Width: w, Height: h})
				frame.Check(t, m.View(), w, h)
			}
		}
	}
}

func TestAStepIsDoneWhenTheLabSaysSo(t *testing.T) {
	g := &guide{sight: tour.Sight{Action: "kill the relay"}}
	m := toured(t, g, Options{})
	done := func() bool { return strings.Contains(ansi.Strip(m.View()), "✓ ctrl+n") }
	press(m, "2", "3", "ctrl+g", "enter", "esc")
	if done() {
		t.Fatal("done by keys alone")
	}
	g.sight = tour.Sight{Done: true, Lines: []string{"5.1 ms"}}
	run(m, m.tour.Tick())
	if !done() || !strings.Contains(ansi.Strip(m.View()), "5.1 ms") {
		t.Fatalf("not done though the lab says so:\n%s", ansi.Strip(m.View()))
	}
	press(m, "ctrl+n", "ctrl+n", "ctrl+p", "ctrl+x", "ctrl+n", "ctrl+x")
	if got := strings.Join(g.did, ", "); got != "enter 0, act, enter 1, enter 0, enter 0" {
		t.Errorf("the guide was asked: %s", got)
	}
}

func TestTheTourSpeaksWhileAChangeIsShown(t *testing.T) {
	g := &guide{}
	m := toured(t, g, Options{})
	press(m, "3", "n", "text:half a name", "ctrl+t")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "ctrl+t unfold") || !strings.Contains(view, "half a name") {
		t.Errorf("the form or the tour is gone:\n%s", view)
	}
	g.err = errors.New("the lab is out of order")
	press(m, "ctrl+n")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "✗ the lab is out of order") {
		t.Errorf("nothing says so:\n%s", view)
	}
	g.err = nil
	press(m, "ctrl+x")
	if view := ansi.Strip(m.View()); strings.Contains(view, "Tour ") {
		t.Errorf("the tour was left and is there:\n%s", view)
	}
	press(m, "esc", "esc", ":", "text:tour", "enter")
	if view := ansi.Strip(m.View()); !strings.Contains(view, "Tour 2/2") {
		t.Errorf("the palette does not take the tour up again:\n%s", view)
	}
}

// TestAnswersOfAnEarlierStepAreDropped plays calls that come back late.
func TestAnswersOfAnEarlierStepAreDropped(t *testing.T) {
	g := &guide{sight: tour.Sight{Done: true, Lines: []string{"of the first step"}}}
	m := model(lab(), Options{})
	m.tour = tour.New(g)
	late := m.tour.Begin()
	press(m, "ctrl+n") // waits for the one under way
	if len(g.did) > 0 {
		t.Fatalf("two calls at once: %v", g.did)
	}
	msg := late()
	g.sight = tour.Sight{}
	_, cmd := m.Update(msg)
	if view := ansi.Strip(m.View()); strings.Contains(view, "of the first step") || strings.Contains(view, "✓") {
		t.Errorf("the second step shows what became of the first:\n%s", view)
	}
	run(m, cmd)
	if got := strings.Join(g.did, ", "); got != "enter 0, enter 1" {
		t.Errorf("the guide was asked: %s", got)
	}
}

func TestTheToursKeysCollideWithNone(t *testing.T) {
	m := toured(t, &guide{sight: tour.Sight{Action: "kill the relay"}}, Options{})
	for i, s := range m.screens {
		press(m, "esc", "esc", screenKey(i).Key())
		for _, p := range keys.Problems(m.everywhere(), s.Keys()) {
			t.Errorf("%s: %s", s.Name(), p)
		}
	}
	press(m, "3", "n")
	for _, p := range keys.Problems(m.everywhere(), (&proposal{}).keys()) {
		t.Errorf("proposal: %s", p)
	}
	for _, p := range keys.Problems(m.tour.Keys(), []keys.Binding{endKey}, m.current().Keys()) {
		t.Errorf("form: %s", p)
	}
}

// TestHowAStepStandsIsSeen on a small screen, whose pane cannot be scrolled, however much
// there is to say.
func TestHowAStepStandsIsSeen(t *testing.T) {
	for _, more := range []int{0, 1, 4, 20} {
		lines := []string{"laptop-dee is pending."}
		for i := range more {
			lines = append(lines, fmt.Sprintf("Figure %d: 3832 kB.", i))
		}
		for _, action := range []string{"", "kill the relay"} {
			for _, size := range [][2]int{{60, 16}, {80, 24}} {
				m := toured(t, &guide{sight: tour.Sight{Lines: lines, Action: action}}, Options{})
				m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
				if view := ansi.Strip(m.View()); !strings.Contains(view, "laptop-dee is pending.") || !strings.Contains(view, "Press 2") {
					t.Errorf("%v, %d more lines:\n%s", size, more, view)
				}
			}
		}
	}
}
