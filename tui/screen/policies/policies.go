// Package policies is the list of policies with their state and why, the form that makes
// or changes one, and the history with the way back. What a change would open and cut is
// shown by the root before it is made.
package policies

import (
	"context"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/find"
)

// Model is the screen.
type Model struct {
	list   screen.List
	search screen.Input
	detail bool
	scroll screen.Page   // of the details
	form   *form         // nil is the list
	past   *history      // nil is the list
	until  *screen.Input // how long to enable for; nil is not asked
	wrong  string        // what is wrong with until
	page   int
}

// New makes the screen.
func New() *Model { return &Model{search: screen.NewInput("name, tag or state"), page: 10} }

var (
	create  = keys.Writes("new policy", "n")
	change  = keys.Writes("change it, every field", "c")
	enable  = keys.Writes("enable", "e")
	awhile  = keys.Writes("enable for a time", "E")
	disable = keys.Writes("disable", "d")
	remove  = keys.Writes("delete", "X")
	older   = keys.New("history: compare and restore", "h")
	takeUp  = keys.Writes("undo the last change", "u")
	keep    = keys.Writes("keep the change that waits", "K")
)

// Name of the screen.
func (*Model) Name() string { return "policies" }

// Keys of the list, or of what is on top of it.
func (m *Model) Keys() []keys.Binding {
	switch {
	case m.form != nil:
		return m.form.keys()
	case m.past != nil:
		return m.past.keys()
	case m.Typing():
		return []keys.Binding{screen.Accept, screen.Back}
	}
	if m.detail {
		return append([]keys.Binding{screen.Leave, change, enable, awhile, disable, create, older, takeUp, keep, remove, screen.Find}, screen.Moves()...)
	}
	return append([]keys.Binding{screen.Find, screen.Details, create, change, enable, awhile, disable, older, takeUp, keep, remove, screen.Back}, screen.Moves()...)
}

// Typing is so in the form, and while a search or a time is typed.
func (m *Model) Typing() bool { return m.form != nil || m.search.Focused() || m.until != nil }

func (m *Model) seen(s *screen.State) []*api.Policy {
	return screen.Search(m.search.Value(), s.Org.Policies, func(p *api.Policy) find.Thing {
		t := find.Thing{Names: []string{p.Name}, Texts: []string{p.State}, IDs: []string{string(p.ID)}}
		for _, tag := range slices.Concat(p.SenderTags, p.ReceiverTags) {
			t.Texts = append(t.Texts, string(tag))
		}
		return t
	})
}

// Saved tells the form that what it asked for was done.
type Saved struct{}

// Update follows keys, and what comes of the form and the history.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case Saved:
		m.form = nil
	case Restored:
		if m.past != nil {
			return askPast(s.Client)
		}
	case checked:
		msg.form.told(msg)
	case screen.Tick:
		if m.form != nil {
			return m.form.tick(s)
		}
	case past:
		if m.past != nil {
			m.past.all, m.past.err, m.past.loaded = msg.list, msg.err, msg.err == nil
		}
	case compared:
		if m.past != nil && m.past.asked {
			m.past.err = msg.err
			if msg.err == nil {
				m.past.diff = &msg.diff
			}
		}
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) (cmd tea.Cmd) {
	rows := m.seen(s)
	closed := false
	switch {
	case m.form != nil:
		if cmd, closed = m.form.update(k, s); closed {
			m.form = nil
		}
		return cmd
	case m.past != nil:
		if cmd, closed = m.past.update(k, s); closed {
			m.past = nil
		}
		return cmd
	case m.until != nil:
		return m.timed(k, s, rows)
	case m.search.Focused():
		m.search.Search(k)
		m.list.At = 0 // what is searched is under the cursor
		return nil
	case m.detail && m.scroll.Move(k):
		return nil
	case m.list.Move(k, len(rows), m.page):
		m.scroll = screen.Page{}
		return nil
	}
	return m.command(k, s, rows)
}

func (m *Model) command(k tea.KeyMsg, s *screen.State, rows []*api.Policy) tea.Cmd {
	switch {
	case screen.Find.Is(k):
		m.search.Focus()
		m.detail = false
		return nil
	case create.Is(k):
		m.form = newForm(wire.Policy{Kind: wire.Direct, Enabled: true}, 0, s)
		return nil
	case older.Is(k):
		m.past = new(history)
		return askPast(s.Client)
	case takeUp.Is(k):
		return undo(s)
	case keep.Is(k):
		return confirmation(s)
	case screen.Back.Is(k):
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
	case screen.Details.Is(k):
		m.detail, m.scroll = !m.detail, screen.Page{}
	case change.Is(k):
		m.form = newForm(p.Policy, p.Version, s)
	case awhile.Is(k):
		in := screen.NewInput("8h, 7d, 2026-12-24T18:00:00Z")
		in.Focus()
		m.until, m.wrong = &in, ""
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

// timed follows a key in the line that asks how long to enable a policy for.
func (m *Model) timed(k tea.KeyMsg, s *screen.State, rows []*api.Policy) tea.Cmd {
	text := m.until.Value()
	switch {
	case screen.Back.Is(k):
		m.until = nil
		return nil
	case !screen.Accept.Is(k):
		m.until.Update(k)
		m.wrong = ""
		return nil
	case m.list.At >= len(rows):
		m.until = nil
		return nil
	}
	at, err := screen.Instant(text, s.Now)
	if err != nil {
		m.wrong = err.Error()
		return nil
	}
	m.until = nil
	p := rows[m.list.At]
	in := screen.Saving{Policy: p.Policy, Version: p.Version}
	in.Policy.Enabled, in.Policy.ExpiresAt, in.Policy.ExpiresLocal = true, &at, nil
	return screen.Ask(screen.Propose{Title: "enable " + p.Name + " for " + text, Done: p.Name + " is enabled for " + text,
		What:  differences(&p.Policy, &in.Policy, s),
		Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return s.Client.Save(ctx, dry, in) }}})
}

// confirmation keeps a change that would revert by itself.
func confirmation(s *screen.State) tea.Cmd {
	by := s.Org.Revision.ConfirmBy
	if by == nil {
		return screen.Tell("no change waits to be confirmed", nil)
	}
	return screen.Ask(screen.Propose{Title: "keep the last change", Done: "the last change stays",
		What:  []string{"it would revert at " + by.In(s.Now.Location()).Format("15:04:05")},
		Steps: []screen.Step{s.Client.Confirm}})
}
