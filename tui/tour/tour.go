// Package tour is the guided tour of the demo: a pane beside the screens that says what to
// do next, with which keys, and what came of it.
//
// It knows neither the lab nor what its steps mean: both are behind Guide, which cli hands
// in. A step is done when the Guide has seen its effect, never because a key was pressed.
// Calls of the Guide are commands, one at a time; what comes in while one is under way
// waits for it.
package tour

import (
	"context"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
)

// Step is one thing to do.
type Step struct {
	Title string
	Do    string // what to do with which keys, in two lines or so
}

// Sight is how a step stands.
type Sight struct {
	Done   bool
	Action string   // what Act does now; empty is nothing
	Lines  []string // what was seen, with figures; the most telling first
}

// Guide is the lab behind the tour. Its calls never overlap.
type Guide interface {
	Steps() []Step
	// Enter makes the lab ready for a step, from whatever state it is in.
	Enter(ctx context.Context, step int) error
	// Look says how the entered step stands. It is called twice a second and is quick.
	Look(ctx context.Context) (Sight, error)
	// Act does what has no key in a real enclave, such as killing a relay.
	Act(ctx context.Context) error
}

// patience bounds a call of the Guide: paths may have to be found anew.
const patience = 45 * time.Second

// Model is the pane.
type Model struct {
	guide  Guide
	steps  []Step
	at     int
	done   []bool
	sight  Sight
	err    error // of what was done
	blind  error // of the last look
	folded bool
	left   bool
	busy   kind // what is under way
	turn   int  // counts entered steps: an answer of an earlier one is dropped
	queue  kind // what is next
}

// kind is a call of the Guide.
type kind int

const (
	idle kind = iota
	looking
	acting
	entering
)

// New makes the tour; Begin starts it.
func New(g Guide) *Model {
	steps := g.Steps()
	return &Model{guide: g, steps: steps, done: make([]bool, len(steps))}
}

// The bindings. They work whatever is on top, hence no letters.
var (
	next  = keys.New("tour: next step, or skip this one", "ctrl+n")
	prev  = keys.New("tour: step before", "ctrl+p")
	fold  = keys.New("tour: fold or unfold", "ctrl+t")
	leave = keys.New("tour: leave it, or take it up again", "ctrl+x")
)

// act is what only a lab can do; the pane says what it is right now.
func (m *Model) act() keys.Binding {
	does := "tour: do it in the lab"
	if m.sight.Action != "" {
		does = "tour: " + m.sight.Action
	}
	return keys.New(does, "ctrl+g")
}

// Keys are the bindings that count now.
func (m *Model) Keys() []keys.Binding {
	if m.left {
		return []keys.Binding{leave}
	}
	return []keys.Binding{m.act(), next, prev, fold, leave}
}

// Answer is what a call of the Guide came to. The root hands it back.
type Answer struct {
	what  kind
	turn  int
	sight Sight
	err   error
}

// Begin enters the first step.
func (m *Model) Begin() tea.Cmd { return m.want(entering) }

// Tick looks again, if there is something to look at.
func (m *Model) Tick() tea.Cmd {
	if m.left || m.busy != idle {
		return nil
	}
	return m.call(looking)
}

// want starts a call, or has it wait for the one under way.
func (m *Model) want(what kind) tea.Cmd {
	if m.busy != idle {
		m.queue = max(m.queue, what)
		return nil
	}
	return m.call(what)
}

func (m *Model) call(what kind) tea.Cmd {
	if what == entering {
		m.turn++
		m.sight, m.err, m.blind = Sight{}, nil, nil
	}
	m.busy = what
	g, at, turn := m.guide, m.at, m.turn
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		a := Answer{what: what, turn: turn}
		switch what {
		case entering:
			a.err = g.Enter(ctx, at)
		case acting:
			a.err = g.Act(ctx)
		}
		if a.err == nil {
			a.sight, a.err = g.Look(ctx)
		}
		return a
	}
}

// Update takes an answer.
func (m *Model) Update(a Answer) tea.Cmd {
	m.busy = idle
	if a.turn == m.turn && m.queue != entering {
		if m.blind = a.err; a.what != looking {
			m.err, m.blind = a.err, nil
		}
		if a.err == nil {
			m.sight = a.sight
			m.done[m.at] = m.done[m.at] || a.sight.Done
		}
	}
	if what := m.queue; what != idle {
		m.queue = idle
		return m.call(what)
	}
	return nil
}

// Pressed follows a key and reports whether it was one of the tour's.
func (m *Model) Pressed(k tea.KeyMsg) (tea.Cmd, bool) {
	switch {
	case leave.Is(k):
		m.left = !m.left
		if !m.left {
			m.folded = false
			return m.want(entering), true
		}
	case m.left:
		return nil, false
	case fold.Is(k):
		m.folded = !m.folded
	case next.Is(k):
		return m.step(1), true
	case prev.Is(k):
		return m.step(-1), true
	case m.act().Is(k):
		if m.sight.Action == "" || m.busy > looking || m.queue != idle {
			return nil, true
		}
		return m.want(acting), true
	default:
		return nil, false
	}
	return nil, true
}

func (m *Model) step(by int) tea.Cmd {
	to := m.at + by
	if to < 0 || to >= len(m.steps) {
		return nil
	}
	m.at, m.folded = to, false
	return m.want(entering)
}
