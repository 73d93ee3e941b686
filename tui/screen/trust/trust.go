// Package trust shows what is asked of systems beside their tags, who meets it, and until
// when. A mark opens and cuts like any other change, so it is shown first what it does.
package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/screen/listing"
	"enclave/tui/theme"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/find"
)

// Model is the screen.
type Model struct {
	list listing.List[api.Requirement]
}

var (
	add    = keys.Writes("new requirement", "n")
	mark   = keys.Writes("mark as met by a system", "m")
	unmark = keys.Writes("take a mark away", "u")
	drop   = keys.Writes("delete", "x")
)

// New makes the screen.
func New() *Model {
	return &Model{list: listing.New(listing.List[api.Requirement]{
		Ask:     func(ctx context.Context, c screen.Client) ([]api.Requirement, error) { return c.Requirements(ctx) },
		Columns: []theme.Column{{Head: "requirement", Min: 12, Max: 20}, {Head: "kind", Min: 9}, {Head: "met by", Min: 7}, {Head: "asks for", Min: 16, Max: 50}},
		Cells: func(s *screen.State, r *api.Requirement) []string {
			return []string{theme.Clean(r.ID), kind(r), fmt.Sprint(len(marks(s, r.ID))), theme.Clean(asks(r))}
		},
		Words: func(r *api.Requirement) find.Thing {
			return find.Thing{Names: []string{r.ID}, Texts: []string{string(r.Kind), r.Authority, r.Description, asks(r)}}
		},
		Head: func(_ *screen.State, shown, of int) string {
			return fmt.Sprintf("%d of %s", shown, wire.Count(of, "trust requirement"))
		},
		Empty: "none: n makes one", Detail: detail,
	})}
}

// Name of the screen.
func (*Model) Name() string { return "trust" }

// Keys of the list, or of the form.
func (m *Model) Keys() []keys.Binding {
	return m.list.Keys(add, mark, unmark, drop)
}

// Typing is so in the form and the search.
func (m *Model) Typing() bool { return m.list.Typing() }

// done closes the form once its change is made.
type done = listing.Done[api.Requirement]

// Update follows keys and readings.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	k, ok := msg.(tea.KeyMsg)
	switch {
	case !ok || m.list.Typing():
	case add.Is(k):
		m.list.Fill(newForm(s.Client, m.list.Rows()))
		return nil
	case m.list.Chosen() == nil:
	case mark.Is(k):
		m.list.Fill(markForm(s, m.list.Chosen().ID, true))
		return nil
	case unmark.Is(k):
		m.list.Fill(markForm(s, m.list.Chosen().ID, false))
		return nil
	case drop.Is(k):
		id, c := m.list.Chosen().ID, s.Client
		return screen.Ask(screen.Propose{Title: "delete the requirement " + id, Done: "deleted " + id, Then: done{},
			Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return c.DropRequirement(ctx, dry, id) }}})
	}
	return m.list.Update(msg, s)
}

// markForm asks whose mark it is, and until when.
func markForm(s *screen.State, id string, met bool) *listing.Form {
	c, now := s.Client, s.Now
	known, _ := listing.Systems(s)
	title, fields := "Take away the mark of "+id, []listing.Field{{Name: "system", Example: "its name or ID", Check: func(text string) error {
		if text == "" || strings.ContainsAny(text, " ") {
			return errors.New("which system?")
		}
		return known(text)
	}}}
	if met {
		title = "Mark " + id + " as met"
		fields = append(fields, listing.Field{Name: "until", Example: "it is taken away; 8h, 7d, an instant", Check: listing.Instant(now)})
	}
	return listing.NewForm(title, func(v []string) tea.Cmd {
		var until time.Time
		if met && v[1] != "" {
			until, _ = screen.Instant(v[1], now) // Check has read it
		}
		p := screen.Propose{Title: fmt.Sprintf("%s no longer meets %s", v[0], id), Done: "took the mark away", Then: done{}}
		step := func(ctx context.Context, dry bool) (api.Impact, error) { return c.Unmark(ctx, dry, v[0], id) }
		if met {
			p.Title, p.Done = fmt.Sprintf("%s meets %s", v[0], id), "marked it"
			step = func(ctx context.Context, dry bool) (api.Impact, error) { return c.Mark(ctx, dry, v[0], id, until) }
		}
		p.Steps = []screen.Step{step}
		return screen.Ask(p)
	}, fields...)
}

// View draws the list or the form.
func (m *Model) View(s *screen.State, w, h int) string { return m.list.View(s, w, h) }

// marks are the systems that meet a requirement now, with until when.
func marks(s *screen.State, id string) (out []string) {
	for i := range s.Org.Systems {
		for _, t := range s.Org.Systems[i].Trust {
			switch {
			case t.Requirement != id || (!t.Until.IsZero() && !s.Now.Before(t.Until)):
			case t.Until.IsZero():
				out = append(out, s.Org.Systems[i].Name)
			default:
				out = append(out, s.Org.Systems[i].Name+" until "+t.Until.UTC().Format("Mon 2006-01-02 15:04"))
			}
		}
	}
	return out
}

// kind is one word for it.
func kind(r *api.Requirement) string {
	switch r.Kind {
	case wire.UserAuthentication:
		return "sign-in"
	case wire.PublicIP:
		return "address"
	}
	return theme.Clean(string(r.Kind))
}

// asks says in a line what a requirement asks for.
func asks(r *api.Requirement) string {
	var out []string
	add := func(blocked bool, what string) {
		if blocked {
			what = "not " + what
		}
		out = append(out, what)
	}
	if r.Authority != "" {
		out = append(out, "signed in with "+r.Authority)
	}
	for _, c := range r.Claims {
		out = append(out, c.Claim+"="+c.Value)
	}
	for _, c := range r.Ranges {
		add(c.Blocked, c.Range)
	}
	for _, c := range r.Countries {
		add(c.Blocked, c.Country)
	}
	return strings.Join(out, ", ")
}

func detail(s *screen.State, r *api.Requirement, w int) []string {
	var policies []string
	for i := range s.Org.Policies {
		p := &s.Org.Policies[i]
		if slices.Contains(p.SenderTrust, r.ID) {
			policies = append(policies, p.Name+" (senders)")
		}
		if slices.Contains(p.RecvTrust, r.ID) {
			policies = append(policies, p.Name+" (receivers)")
		}
	}
	met := marks(s, r.ID)
	lines := listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, theme.Clean(r.ID)), "kind", string(r.Kind), "asks for", asks(r), "notes", r.Description, "policies", strings.Join(policies, ", "))
	lines = append(lines, s.Theme.Paint(theme.Title, fmt.Sprintf("Met by: %d", len(met))))
	for _, m := range met {
		lines = append(lines, "  "+theme.Clean(m))
	}
	return lines
}

// Click puts the cursor on a row.
func (m *Model) Click(_, y int, _ *screen.State) bool { return m.list.Click(y) }
