// Package explain asks why a flow passes or not, at any instant, and shows the whole
// chain and what would allow it.
package explain

import (
	"context"
	"errors"
	"fmt"
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
	input  screen.Input
	answer *api.Explanation
	asked  string
	err    error
	busy   bool
	scroll int
	most   int // lines that can be scrolled
}

// New makes the screen.
func New() *Model { return &Model{input: screen.NewInput("laptop web tcp/443 [8h or an instant]")} }

var (
	question = keys.New("ask a question", "/", "enter")
	again    = keys.New("ask it again, now", "a")
	accept   = keys.New("ask", "enter")
	back     = keys.New("back", "esc")
)

// Name of the screen.
func (*Model) Name() string { return "explain" }

// Keys of the answer, or of the question.
func (m *Model) Keys() []keys.Binding {
	if m.input.Focused() {
		return []keys.Binding{accept, back}
	}
	return append([]keys.Binding{question, again}, screen.Moves()...)
}

// Typing is so while a question is typed.
func (m *Model) Typing() bool { return m.input.Focused() }

type told struct {
	asked  string
	answer api.Explanation
	err    error
}

// Update follows keys and the answer.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case told:
		m.busy, m.err, m.scroll, m.asked, m.answer = false, msg.err, 0, msg.asked, nil
		if msg.err == nil {
			m.answer = &msg.answer
		}
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	if m.input.Focused() {
		switch {
		case back.Is(k):
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
		l := screen.List{At: m.scroll}
		l.Move(k, m.most+1, 10)
		m.scroll = l.At
	}
	return nil
}

func (m *Model) ask(s *screen.State) tea.Cmd {
	text := m.input.Value()
	if text == "" || m.busy {
		return nil
	}
	q, err := read(text, s.Now)
	if err != nil {
		m.err, m.answer = err, nil
		return nil
	}
	m.input.Blur()
	m.busy = true
	return screen.Call(func(ctx context.Context) tea.Msg {
		e, err := s.Client.Explain(ctx, q.from, q.to, q.proto, q.port, q.at)
		return told{text, e, err}
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
	case m.busy:
		top = append(top, "asking…")
	case m.err != nil:
		top = append(top, wrap(t, theme.Bad, "✗ "+theme.Clean(m.err.Error()), w)...)
		var p *api.Problem
		if errors.As(m.err, &p) && p.Hint != "" {
			top = append(top, theme.Wrap(theme.Clean(p.Hint), w)...)
		}
	case m.answer == nil:
		top = append(top, "", t.Paint(theme.Dim, "enter, then a sender, a receiver and a service: laptop web tcp/443"),
			t.Paint(theme.Dim, "a fourth word asks about another time: 8h, 2026-12-24T18:00:00Z"))
	}
	if m.answer == nil {
		return theme.Box(top, w, h)
	}
	lines := m.chain(s, w)
	m.most = max(0, len(lines)-(h-len(top)))
	m.scroll = min(m.scroll, m.most)
	return theme.Box(append(top, lines[m.scroll:]...), w, h)
}

func wrap(t theme.Theme, tone theme.Tone, text string, w int) []string {
	lines := theme.Wrap(text, w)
	for i := range lines {
		lines[i] = t.Paint(tone, lines[i])
	}
	return lines
}

func (m *Model) chain(s *screen.State, w int) []string {
	t, e := s.Theme, m.answer
	verdict := t.State("denied")
	if e.Allow {
		verdict = t.State("allowed")
	}
	lines := []string{fmt.Sprintf("%s  %s at %s", verdict, theme.Clean(m.asked), e.At.In(s.Now.Location()).Format("Mon 2006-01-02 15:04:05 MST"))}
	indent := func(by, text string) {
		for i, part := range theme.Wrap(theme.Clean(text), w-len(by)) {
			if i > 0 {
				by = strings.Repeat(" ", len(by))
			}
			lines = append(lines, by+part)
		}
	}
	indent("  ", e.Why)
	if len(e.Fixes) > 0 {
		lines = append(lines, "", t.Paint(theme.Title, "What would allow it"))
		for _, f := range e.Fixes {
			indent("  - ", f)
		}
	}
	lines = append(lines, "", t.Paint(theme.Title, "The chain"))
	last := wire.PolicyID("\x00")
	for _, step := range e.Chain {
		if step.Policy != last {
			last = step.Policy
			if step.Policy != "" {
				name := step.Name
				if name == "" {
					name = string(step.Policy)
				}
				lines = append(lines, "  policy "+theme.Clean(name))
			}
		}
		word, tone := "no", theme.Bad
		if step.OK {
			word, tone = "ok", theme.Good
		}
		head := fmt.Sprintf("    %s  %s ", word, theme.Fit(theme.Clean(step.Check), 9))
		from := len(lines)
		indent(head, step.Detail)
		lines[from] = strings.Replace(lines[from], word, t.Paint(tone, word), 1)
	}
	return lines
}
