package tui

import (
	"context"
	"errors"
	"fmt"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire/api"
)

// proposal is a change before it is made: a dry run first, what it would do, and then
// the change if a person says so.
type proposal struct {
	screen.Propose
	dry    bool // the dry run, or its result, is what is shown
	busy   bool
	impact api.Impact
	done   int // steps that were made
	err    error
	scroll screen.List
}

// answer is what became of a proposal's run.
type answer struct {
	of     *proposal
	impact api.Impact
	done   int
	err    error
}

var (
	doIt  = keys.Writes("make the change", "y")
	leave = keys.New("leave everything as it is", "n", "esc")
	retry = keys.New("try again", "r")
)

func (p *proposal) keys() []keys.Binding {
	switch {
	case p.busy:
		return []keys.Binding{leave}
	case p.err != nil:
		return []keys.Binding{retry, leave}
	}
	return append([]keys.Binding{doIt, leave}, screen.Moves()...)
}

// run is the command for the dry run, or for what is left of the change.
func (p *proposal) run() tea.Cmd {
	p.busy, p.err = true, nil
	dry, from, steps := p.dry, p.done, p.Steps
	return func() tea.Msg {
		out := answer{of: p, done: from}
		for i := from; i < len(steps); i++ {
			ctx, cancel := context.WithTimeout(context.Background(), screen.Patience)
			impact, err := steps[i](ctx, dry)
			cancel()
			if err != nil {
				out.err = err
				return out
			}
			merge(&out.impact, &impact)
			if !dry {
				out.done++
			}
		}
		return out
	}
}

// merge adds what one more step would do.
func merge(sum, one *api.Impact) {
	sum.Gained = append(sum.Gained, one.Gained...)
	sum.Lost = append(sum.Lost, one.Lost...)
	sum.GainedCount += one.GainedCount
	sum.LostCount += one.LostCount
	sum.Introduced = append(sum.Introduced, one.Introduced...)
	sum.Forgotten = append(sum.Forgotten, one.Forgotten...)
	sum.Flows = append(sum.Flows, one.Flows...)
	// Steps may concern the same systems: the one of which the least is known speaks for all.
	if a, most := one.Asked, sum.Asked; a != nil && (most == nil || a.Concerned-a.Answered > most.Concerned-most.Answered) {
		sum.Asked = a
	}
	sum.Tests = append(sum.Tests, one.Tests...)
	sum.Warnings = append(sum.Warnings, one.Warnings...)
}

func (m *Model) decided(k tea.KeyMsg) tea.Cmd {
	p := m.change
	switch {
	case leave.Is(k):
		if p.busy && !p.dry {
			m.said = screen.Say{Text: "left while it was being made: look whether it was"}
		}
		m.change = nil
	case p.busy:
	case p.err != nil && retry.Is(k):
		return p.run()
	case p.err == nil && doIt.Is(k):
		p.dry = false
		return p.run()
	default:
		p.scroll.Move(k, len(p.lines(m.state.Theme)), 5)
	}
	return nil
}

func (m *Model) answered(a answer) tea.Cmd {
	p := a.of
	p.busy, p.err, p.done = false, a.err, a.done
	if p.dry {
		p.impact = a.impact
		return nil
	}
	m.dirty = true
	if p.err != nil {
		return nil
	}
	if m.change == p {
		m.change = nil
	}
	m.said = screen.Say{Text: p.Done}
	if p.Then != nil {
		_, cmd := m.Update(p.Then)
		return cmd
	}
	return nil
}

// lines say what the change would do.
func (p *proposal) lines(t theme.Theme) []string {
	var out []string
	if p.Warn != "" {
		out = append(out, t.Paint(theme.Warn, "! "+p.Warn), "")
	}
	for _, l := range p.What {
		out = append(out, "  "+theme.Clean(l))
	}
	if len(p.What) > 0 {
		out = append(out, "")
	}
	switch {
	case p.busy && p.dry:
		return append(out, "asking the server what it would do…")
	case p.busy:
		return append(out, fmt.Sprintf("making the change… %d of %d", p.done, len(p.Steps)))
	case p.err != nil:
		if p.done > 0 {
			out = append(out, fmt.Sprintf("%d of %d are done; then:", p.done, len(p.Steps)))
		}
		return append(out, failure(t, p.err)...)
	}
	i := &p.impact
	if i.GainedCount+i.LostCount+len(i.Flows)+len(i.Tests) == 0 {
		out = append(out, "right now nobody gains or loses anything, and no flow is cut")
	}
	if gap := i.Asked.Gap(); gap != "" {
		out = append(out, t.Paint(theme.Warn, "! "+gap))
	}
	part := func(tone theme.Tone, mark, what string, n, shown int, line func(int) string) {
		if n == 0 {
			return
		}
		out = append(out, t.Paint(theme.Title, fmt.Sprintf("%s: %d", what, n)))
		for j := range shown {
			out = append(out, "  "+t.Paint(tone, mark)+" "+theme.Clean(line(j)))
		}
		if n > shown {
			out = append(out, fmt.Sprintf("  … and %d more", n-shown))
		}
	}
	part(theme.Bad, "✗", "Live flows cut", len(i.Flows), len(i.Flows), func(j int) string {
		f := &i.Flows[j]
		return fmt.Sprintf("%s → %s %s/%d", f.Names[0], f.Names[1], f.Proto, f.Dst.Port())
	})
	part(theme.Bad, "!", "Tests flipped", len(i.Tests), len(i.Tests), func(j int) string { return i.Tests[j].Name + ": " + i.Tests[j].Why })
	part(theme.Good, "+", "Gained", i.GainedCount, len(i.Gained), func(j int) string { return access(&i.Gained[j]) })
	part(theme.Warn, "-", "Lost", i.LostCount, len(i.Lost), func(j int) string { return access(&i.Lost[j]) })
	for _, w := range i.Warnings {
		out = append(out, t.Paint(theme.Warn, "! "+theme.Clean(w)))
	}
	return out
}

func access(a *api.Access) string {
	return fmt.Sprintf("%s → %s %s  by %s", a.Names[0], a.Names[1], a.What(), a.PolicyName)
}

// failure says what is wrong and what next.
func failure(t theme.Theme, err error) []string {
	out := []string{t.Paint(theme.Bad, "✗ "+theme.Clean(err.Error()))}
	var p *api.Problem
	if !errors.As(err, &p) {
		return append(out, "nothing was changed; r tries again")
	}
	for _, one := range p.Problems {
		out = append(out, "  "+theme.Clean(one.Error()))
	}
	if p.Hint != "" {
		out = append(out, "  "+theme.Clean(p.Hint))
	}
	return out
}
