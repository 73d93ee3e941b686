// Package policies is the list of policies with their state and why, and the form that
// makes one. What a change would open and cut is shown by the root before it is made.
package policies

import (
	"context"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// Model is the screen.
type Model struct {
	list   screen.List
	search screen.Input
	detail bool
	form   *form // nil is the list
	page   int
}

// New makes the screen.
func New() *Model { return &Model{search: screen.NewInput("name, tag or state"), page: 10} }

var (
	search  = keys.New("search", "/")
	detail  = keys.New("details", "enter")
	back    = keys.New("back", "esc")
	accept  = keys.New("accept", "enter")
	create  = keys.Writes("new policy", "n")
	enable  = keys.Writes("enable", "e")
	disable = keys.Writes("disable", "d")
	remove  = keys.Writes("delete", "X")

	next = keys.New("next field", "tab", "down")
	prev = keys.New("field before", "shift+tab", "up")
	save = keys.Writes("try it, then save", "enter", "ctrl+s")
)

// Name of the screen.
func (*Model) Name() string { return "policies" }

// Keys of the list, or of the form.
func (m *Model) Keys() []keys.Binding {
	if m.form != nil {
		return []keys.Binding{save, next, prev, back}
	}
	if m.search.Focused() {
		return []keys.Binding{accept, back}
	}
	return append([]keys.Binding{search, detail, create, enable, disable, remove, back}, screen.Moves()...)
}

// Typing is so in the form and while a search is typed.
func (m *Model) Typing() bool { return m.form != nil || m.search.Focused() }

func (m *Model) seen(s *screen.State) []*api.Policy {
	var out []*api.Policy
	for i := range s.Org.Policies {
		p := &s.Org.Policies[i]
		texts := []string{p.Name, string(p.ID), p.State}
		for _, t := range slices.Concat(p.SenderTags, p.ReceiverTags) {
			texts = append(texts, string(t))
		}
		if screen.Has(m.search.Value(), texts...) {
			out = append(out, p)
		}
	}
	return out
}

// Saved tells the form that what it asked for was done.
type Saved struct{}

// Update follows keys.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	if _, ok := msg.(Saved); ok {
		m.form = nil
		return nil
	}
	k, ok := msg.(tea.KeyMsg)
	if !ok {
		return nil
	}
	rows := m.seen(s)
	switch {
	case m.form != nil:
		if back.Is(k) {
			m.form = nil
			return nil
		}
		return m.form.update(k, s)
	case m.search.Focused():
		switch k.Type {
		case tea.KeyEsc:
			m.search.Set("")
			m.search.Blur()
		case tea.KeyEnter:
			m.search.Blur()
		default:
			m.search.Update(k)
		}
		return nil
	case m.list.Move(k, len(rows), m.page):
		return nil
	}
	return m.command(k, s, rows)
}

func (m *Model) command(k tea.KeyMsg, s *screen.State, rows []*api.Policy) tea.Cmd {
	switch {
	case search.Is(k):
		m.search.Focus()
		m.detail = false
		return nil
	case create.Is(k):
		m.form = newForm()
		return nil
	case back.Is(k):
		if !m.detail {
			m.search.Set("")
		}
		m.detail = false
		return nil
	}
	if m.list.At >= len(rows) {
		return nil
	}
	p := rows[m.list.At]
	switch {
	case detail.Is(k):
		m.detail = !m.detail
	case enable.Is(k):
		if p.Enabled {
			return screen.Tell(p.Name+" is enabled already; its state is "+p.State, nil)
		}
		return verb(s, p, "enable", "enabled", "")
	case disable.Is(k):
		if !p.Enabled {
			return screen.Tell(p.Name+" is disabled already", nil)
		}
		return verb(s, p, "disable", "disabled", "")
	case remove.Is(k):
		return verb(s, p, "delete", "deleted", "")
	}
	return nil
}

func verb(s *screen.State, p *api.Policy, verb, past, warn string) tea.Cmd {
	id := string(p.ID)
	return screen.Ask(screen.Propose{Title: verb + " " + p.Name, Done: past + " " + p.Name, Warn: warn, Steps: []screen.Step{
		func(ctx context.Context, dry bool) (api.Impact, error) {
			return s.Client.PolicyVerb(ctx, dry, id, verb)
		}}})
}

func creation(s *screen.State, p wire.Policy) tea.Cmd {
	return screen.Ask(screen.Propose{Title: "create " + p.Name, Done: "created " + p.Name, Then: Saved{}, Steps: []screen.Step{
		func(ctx context.Context, dry bool) (api.Impact, error) { return s.Client.Create(ctx, dry, p) }}})
}
