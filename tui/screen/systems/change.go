package systems

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// targets are the marked systems, or the one under the cursor.
func (m *Model) targets(s *screen.State) []*api.System {
	var out []*api.System
	for i := range s.Org.Systems {
		if m.marked[s.Org.Systems[i].ID] {
			out = append(out, &s.Org.Systems[i])
		}
	}
	if at := m.current(); len(out) == 0 && at != nil {
		out = append(out, at)
	}
	return out
}

// verbs are the changes that need nothing typed.
var verbs = []struct {
	binding          keys.Binding
	verb, past, warn string
	from             []wire.SystemState // the states it makes sense in
}{
	{approve, "approve", "approved", "", []wire.SystemState{wire.Pending}},
	{decline, "decline", "declined", "Its identity is removed; it would have to enrol again.", []wire.SystemState{wire.Pending}},
	{enable, "enable", "enabled", "", []wire.SystemState{wire.Disabled}},
	{disable, "disable", "disabled", "", []wire.SystemState{wire.Pending, wire.Connected, wire.Disconnected}},
	{revoke, "revoke", "revoked", "This cannot be taken back: the identity ends.", []wire.SystemState{wire.Pending, wire.Connected, wire.Disconnected, wire.Disabled}},
}

func (m *Model) change(k tea.KeyMsg, s *screen.State) tea.Cmd {
	all := m.targets(s)
	if len(all) == 0 {
		return nil
	}
	switch {
	case tags.Is(k):
		m.ask = screen.NewInput("web db -old: adds web and db, takes old away")
		m.ask.Focus()
		m.asking, m.wrong = "tags", ""
		return nil
	case expiry.Is(k):
		m.ask = screen.NewInput("8h, 7d, 2026-12-24T18:00:00Z, never")
		m.ask.Focus()
		m.asking, m.wrong = "expiry", ""
		return nil
	}
	for _, v := range verbs {
		if !v.binding.Is(k) {
			continue
		}
		var fit []*api.System
		for _, sys := range all {
			for _, state := range v.from {
				if sys.State == state {
					fit = append(fit, sys)
				}
			}
		}
		if len(fit) == 0 {
			return screen.Tell(fmt.Sprintf("%s is %s: nothing to %s", name(all), all[0].State, v.verb), nil)
		}
		return m.propose(s, fit, v.verb+" "+name(fit), v.past+" "+name(fit), v.warn, func(ctx context.Context, dry bool, id string) (api.Impact, error) {
			return s.Client.SystemVerb(ctx, dry, id, v.verb)
		})
	}
	return nil
}

func (m *Model) propose(s *screen.State, list []*api.System, title, done, warn string, do func(context.Context, bool, string) (api.Impact, error)) tea.Cmd {
	p := screen.Propose{Title: title, Done: done, Warn: warn}
	for _, sys := range list {
		id := string(sys.ID)
		p.Steps = append(p.Steps, func(ctx context.Context, dry bool) (api.Impact, error) { return do(ctx, dry, id) })
	}
	clear(m.marked)
	return screen.Ask(p)
}

func name(list []*api.System) string {
	if len(list) == 1 {
		return list[0].Name
	}
	return wire.Count(len(list), "system")
}

// typed follows a key in the line for tags or an expiry. What is wrong is said while it
// is typed.
func (m *Model) typed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch k.Type {
	case tea.KeyEsc:
		m.asking = ""
		return nil
	case tea.KeyEnter:
		return m.entered(s)
	}
	m.ask.Update(k)
	m.wrong = ""
	if m.ask.Value() == "" {
		return nil
	}
	var err error
	if m.asking == "tags" {
		_, _, err = readTags(m.ask.Value())
	} else {
		_, err = readExpiry(m.ask.Value(), s.Now)
	}
	if err != nil {
		m.wrong = err.Error()
	}
	return nil
}

func (m *Model) entered(s *screen.State) tea.Cmd {
	list, text := m.targets(s), m.ask.Value()
	if text == "" || len(list) == 0 {
		m.asking = ""
		return nil
	}
	switch m.asking {
	case "tags":
		add, remove, err := readTags(text)
		if err != nil {
			m.wrong = err.Error()
			return nil
		}
		m.asking = ""
		return m.propose(s, list, "tags of "+name(list)+": "+text, "tagged "+name(list), "", func(ctx context.Context, dry bool, id string) (api.Impact, error) {
			return s.Client.Tag(ctx, dry, id, add, remove)
		})
	default:
		u, err := readExpiry(text, s.Now)
		if err != nil {
			m.wrong = err.Error()
			return nil
		}
		m.asking = ""
		return m.propose(s, list, "expiry of "+name(list)+": "+text, "set the expiry of "+name(list), "", func(ctx context.Context, dry bool, id string) (api.Impact, error) {
			return s.Client.Expire(ctx, dry, id, u)
		})
	}
}

// readTags reads "web db -old".
func readTags(text string) (add, remove []wire.Tag, err error) {
	add, remove = []wire.Tag{}, []wire.Tag{}
	for word := range strings.FieldsSeq(text) {
		word, minus := strings.CutPrefix(word, "-")
		t, err := wire.ParseTag(strings.TrimPrefix(word, "+"))
		if err != nil {
			return nil, nil, err
		}
		if minus {
			remove = append(remove, t)
		} else {
			add = append(add, t)
		}
	}
	return add, remove, nil
}

func readExpiry(text string, now time.Time) (api.SystemUpdate, error) {
	if text == "never" {
		return api.SystemUpdate{Never: true}, nil
	}
	at, err := screen.Instant(text, now)
	if err != nil {
		return api.SystemUpdate{}, err
	}
	return api.SystemUpdate{ExpiresAt: &at}, nil
}
