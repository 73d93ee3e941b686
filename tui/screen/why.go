package screen

import (
	"errors"
	"fmt"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
)

// Why is an explanation that is asked for and then scrolled.
type Why struct {
	asked  string
	answer *api.Explanation
	err    error
	scroll int
	most   int // lines that can be scrolled
}

// NewWhy begins with what was asked.
func NewWhy(asked string) *Why { return &Why{asked: asked} }

// Told takes the answer.
func (y *Why) Told(e api.Explanation, err error) {
	y.err, y.answer = err, nil
	if err == nil {
		y.answer = &e
	}
}

// Move scrolls.
func (y *Why) Move(k tea.KeyMsg) bool {
	l := List{At: y.scroll}
	moved := l.Move(k, y.most+1, 10)
	y.scroll = l.At
	return moved
}

// View draws the verdict and the chain, or what became of the question.
func (y *Why) View(s *State, w, h int) []string {
	t := s.Theme
	switch {
	case y.err != nil:
		lines := theme.Wrap("✗ "+theme.Clean(y.err.Error()), w)
		for i := range lines {
			lines[i] = t.Paint(theme.Bad, lines[i])
		}
		var p *api.Problem
		if errors.As(y.err, &p) && p.Hint != "" {
			lines = append(lines, theme.Wrap(theme.Clean(p.Hint), w)...)
		}
		return lines
	case y.answer == nil:
		return []string{"asking about " + theme.Clean(y.asked) + "…"}
	}
	lines := y.chain(s, w)
	y.most = max(0, len(lines)-h)
	y.scroll = min(y.scroll, y.most)
	return lines[y.scroll:]
}

func (y *Why) chain(s *State, w int) []string {
	t, e := s.Theme, y.answer
	verdict := t.State("denied")
	if e.Allow {
		verdict = t.State("allowed")
	}
	lines := []string{fmt.Sprintf("%s  %s at %s", verdict, theme.Clean(y.asked), e.At.In(s.Now.Location()).Format("Mon 2006-01-02 15:04:05 MST"))}
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
