// Package explain asks why a flow passes or not, at any instant, and shows the whole
// chain and what would allow it.
package explain

import (
	"context"
	"errors"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// Model is the screen. The question stays when the answer comes or fails.
type Model struct {
	input screen.Input
	why   *screen.Why // what was asked and answered last; nil is nothing
	wrong error       // with the question that is typed
}

// New makes the screen.
func New() *Model { return &Model{input: screen.NewInput("laptop web tcp/443 [8h or an instant]")} }

var (
	question = keys.New("ask a question", "/", "enter")
	again    = keys.New("ask it again, now", "a")
	accept   = keys.New("ask", "enter")
)

// Name of the screen.
func (*Model) Name() string { return "explain" }

// Keys of the answer, or of the question.
func (m *Model) Keys() []keys.Binding {
	if m.input.Focused() {
		return []keys.Binding{accept, screen.Back}
	}
	return append([]keys.Binding{question, again}, screen.Moves()...)
}

// Typing is so while a question is typed.
func (m *Model) Typing() bool { return m.input.Focused() }

type told struct {
	of     *screen.Why
	answer api.Explanation
	err    error
}

// Update follows keys and the answer.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case told:
		msg.of.Told(msg.answer, msg.err)
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	if m.input.Focused() {
		switch {
		case screen.Back.Is(k):
			m.input.Blur()
		case accept.Is(k):
			return m.ask(s)
		default:
			m.input.Update(k)
		}
		return nil
	}
	switch {
	case question.Is(k):
		m.input.Focus()
	case again.Is(k):
		return m.ask(s)
	default:
		if m.why != nil {
			m.why.Move(k)
		}
	}
	return nil
}

func (m *Model) ask(s *screen.State) tea.Cmd {
	text := m.input.Value()
	if text == "" {
		return nil
	}
	q, err := read(text, s.Now)
	if m.wrong = err; err != nil {
		return nil
	}
	m.input.Blur()
	why := screen.NewWhy(text)
	m.why = why
	return screen.Call(func(ctx context.Context) tea.Msg {
		e, err := s.Client.Explain(ctx, q.from, q.to, q.proto, q.port, q.at)
		return told{why, e, err}
	})
}

type asking struct {
	from, to string
	proto    wire.Proto
	port     uint16
	at       time.Time // zero is now
}

// read reads "laptop web tcp/443 8h".
func read(text string, now time.Time) (q asking, err error) {
	f := strings.Fields(text)
	if len(f) < 3 || len(f) > 4 {
		return q, errors.New("want FROM TO PROTOCOL/PORT and, if not now, a time: laptop web tcp/443 8h")
	}
	proto, ports, has := strings.Cut(f[2], "/")
	q.from, q.to = f[0], f[1]
	if q.proto, err = wire.ParseProto(proto); err != nil {
		return q, err
	}
	if has {
		list, err := wire.ParsePorts(ports)
		if err != nil {
			return q, err
		}
		if len(list) != 1 || list[0].Lo != list[0].Hi {
			return q, errors.New("ask about one port at a time")
		}
		q.port = list[0].Lo
	}
	if len(f) == 4 {
		q.at, err = screen.AnyInstant(f[3], now)
	}
	return q, err
}

// View draws the question, the verdict, and the chain.
func (m *Model) View(s *screen.State, w, h int) string {
	t := s.Theme
	top := []string{"why? " + m.input.View(t, w-5)}
	switch {
	case m.wrong != nil:
		for _, l := range theme.Wrap("✗ "+theme.Clean(m.wrong.Error()), w) {
			top = append(top, t.Paint(theme.Bad, l))
		}
	case m.why == nil:
		top = append(top, "", t.Paint(theme.Dim, "enter, then a sender, a receiver and a service: laptop web tcp/443"),
			t.Paint(theme.Dim, "a fourth word asks about another time: 8h, 2026-12-24T18:00:00Z"))
	default:
		top = append(top, m.why.View(s, w, h-1)...)
	}
	return theme.Box(top, w, h)
}
