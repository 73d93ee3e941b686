// Package enrolment shows enrolment keys: their limits, what is left of them, and a new
// one, whose secret is shown once and kept nowhere.
package enrolment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
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
	list listing.List[api.Key]
	made *created // until it is left
}

// created is a key that was just made. It is filled by the step that makes it, and read
// once that has ended.
type created struct{ key api.KeyCreated }

var (
	newKey  = keys.Writes("new key", "n")
	enable  = keys.Writes("enable", "e")
	disable = keys.Writes("disable", "d")
	revoke  = keys.Writes("delete", "x")
	seen    = keys.New("I have it, forget it", "esc")
)

// New makes the screen.
func New() *Model {
	return &Model{list: listing.New(listing.List[api.Key]{
		Ask: func(ctx context.Context, c screen.Client) ([]api.Key, error) { return c.Keys(ctx) },
		Columns: []theme.Column{{Head: "key", Min: 14, Max: 24}, {Head: "state", Min: 11}, {Head: "for", Min: 9}, {Head: "used", Min: 9}, {Head: "tags", Min: 10, Max: 24},
			{Head: "approval", Min: 9}, {Head: "expires", Min: 16}, {Head: "id", Min: 9}},
		Cells: func(s *screen.State, k *api.Key) []string {
			return []string{theme.Clean(k.Name), s.Theme.State(state(k, s.Now)), theme.Clean(k.Kind), used(k), tags(k.Tags), theme.Clean(k.Approval), expires(k), theme.Clean(string(k.ID))}
		},
		Words: func(k *api.Key) find.Thing {
			return find.Thing{Names: []string{k.Name}, Texts: []string{k.Kind, tags(k.Tags)}, IDs: []string{string(k.ID)}}
		},
		Head: func(_ *screen.State, shown, of int) string {
			return fmt.Sprintf("%d of %s", shown, wire.Count(of, "enrolment key"))
		},
		Empty: "no key: n makes one", Detail: detail,
	})}
}

// Name of the screen.
func (*Model) Name() string { return "keys" }

// Keys of the list, the form or the secret.
func (m *Model) Keys() []keys.Binding {
	if m.made != nil {
		return []keys.Binding{seen}
	}
	return m.list.Keys(newKey, enable, disable, revoke)
}

// Typing is so in the form, and while a secret is shown: no key may wipe it by accident.
func (m *Model) Typing() bool { return m.made != nil || m.list.Typing() }

// Update follows keys and readings.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case *created:
		m.made = msg
		m.list.Fill(nil)
		return m.list.Again(s)
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return m.list.Update(msg, s)
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch {
	case m.made != nil:
		if seen.Is(k) {
			m.made = nil
		}
		return nil
	case m.list.Typing():
	case newKey.Is(k):
		m.list.Fill(newForm(s.Client, s.Now))
		return nil
	case enable.Is(k):
		return m.change(s, "enable", "it enrols again")
	case disable.Is(k):
		return m.change(s, "disable", "it enrols nobody any more; systems that it enrolled stay")
	case revoke.Is(k):
		return m.change(s, "delete", "it is gone for good; systems that it enrolled stay")
	}
	return m.list.Update(k, s)
}

func (m *Model) change(s *screen.State, verb, warn string) tea.Cmd {
	k := m.list.Chosen()
	if k == nil {
		return nil
	}
	id, name, c := string(k.ID), k.Name, s.Client
	return screen.Ask(screen.Propose{Title: verb + " the key " + name, Warn: warn, Done: verb + "d " + name, Then: screen.Shown{},
		Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return c.KeyVerb(ctx, dry, id, verb) }}})
}

// View draws the list, the form, or a secret.
func (m *Model) View(s *screen.State, w, h int) string {
	if m.made != nil {
		return theme.Box(secret(s, &m.made.key, w), w, h)
	}
	return m.list.View(s, w, h)
}

// secret is shown whole on lines of its own, to be marked with a mouse.
func secret(s *screen.State, k *api.KeyCreated, w int) []string {
	lines := []string{s.Theme.Paint(theme.Title, "The key "+theme.Clean(k.Name)+" is made. Its secret is shown this once:"), ""}
	text := []rune(theme.Clean(k.Secret))
	for len(text) > 0 {
		n := min(len(text), max(1, w))
		lines, text = append(lines, string(text[:n])), text[n:]
	}
	return append(append(lines, ""), theme.Wrap("Put it into a file of mode 0600 and pass that with: enclave agent --key-file FILE. esc forgets it.", w)...)
}

func state(k *api.Key, now time.Time) string {
	switch {
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return "expired"
	case !k.Enabled:
		return "disabled"
	case k.Uses != nil && *k.Uses <= 0:
		return "used up"
	}
	return "active"
}

func used(k *api.Key) string {
	if k.Uses == nil {
		return strconv.Itoa(k.Used)
	}
	return fmt.Sprintf("%d of %d", k.Used, k.Used+*k.Uses)
}

func tags(list []wire.Tag) string {
	if len(list) == 0 {
		return "-"
	}
	var out []string
	for _, t := range list {
		out = append(out, theme.Clean(string(t)))
	}
	return strings.Join(out, ",")
}

func expires(k *api.Key) string {
	if k.ExpiresAt == nil {
		return "never"
	}
	return k.ExpiresAt.UTC().Format("2006-01-02 15:04")
}

func detail(s *screen.State, k *api.Key, w int) []string {
	retention := ""
	if k.Retention > 0 {
		retention = (time.Duration(k.Retention) * time.Second).String() + " after it disconnects a system is removed"
	}
	var enrolled []string
	for i := range s.Org.Systems {
		if s.Org.Systems[i].Key == k.ID {
			enrolled = append(enrolled, s.Org.Systems[i].Name)
		}
	}
	end := expires(k)
	if k.ExpiresAt != nil {
		end += " UTC, then " + string(cmp.Or(k.ExpiryAction, "disable"))
	}
	return listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, theme.Clean(k.Name))+"  "+s.Theme.State(state(k, s.Now)),
		"id, for", string(k.ID)+", "+k.Kind+" systems", "approval", k.Approval, "used", used(k), "tags", tags(k.Tags), "from", strings.Join(k.Sources, ", "),
		"expires", end, "retention", retention, "created", k.CreatedAt.UTC().Format("2006-01-02 15:04:05"), "systems", strings.Join(enrolled, ", "))
}

// newForm asks for a key with its limits.
func newForm(c screen.Client, now time.Time) *listing.Form {
	return listing.NewForm("New enrolment key", func(v []string) tea.Cmd {
		k := api.KeyCreate{Name: v[0], Kind: v[1], Approval: v[2], Sources: strings.Fields(v[6])}
		k.Tags, _ = listing.ReadTags(v[3]) // Check has read them
		if n, err := strconv.Atoi(v[4]); err == nil {
			k.Uses = &n
		}
		if at, err := screen.Instant(v[5], now); err == nil {
			k.ExpiresAt = &at
		}
		box := &created{}
		return screen.Ask(screen.Propose{Title: "make the key " + k.Name, Warn: warning(&k), Done: "made " + k.Name, Then: box,
			Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) {
				if dry {
					return api.Impact{}, nil
				}
				var err error
				box.key, err = c.CreateKey(ctx, k)
				return api.Impact{}, err
			}}})
	},
		listing.Field{Name: "name", Example: "what it is for", Check: listing.Needed("a key needs a name that says what it is for")},
		listing.Field{Name: "for", Example: "general, ephemeral, relay", Check: listing.OneOf("general", "ephemeral", "relay")},
		listing.Field{Name: "approval", Example: "manual, automatic", Check: listing.OneOf("manual", "automatic")},
		listing.Field{Name: "tags", Example: "developers laptops", Check: listing.Tags},
		listing.Field{Name: "uses", Example: "unlimited", Check: func(text string) error {
			if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 1) {
				return errors.New("want a number from 1, or nothing for unlimited")
			}
			return nil
		}},
		listing.Field{Name: "expires", Example: "never; 24h, 7d, 2026-12-24T18:00:00Z", Check: listing.Instant(now)},
		listing.Field{Name: "from", Example: "anywhere; 192.0.2.0/24", Check: nil},
	)
}

// warning says what of a key deserves a second look.
func warning(k *api.KeyCreate) string {
	if k.Approval == "automatic" && k.Uses == nil && k.ExpiresAt == nil && k.Kind != "ephemeral" {
		return "who has its secret enrols as many systems as he likes, for ever, and nobody is asked"
	}
	return ""
}

// Click puts the cursor on a row.
func (m *Model) Click(_, y int, _ *screen.State) bool {
	return m.made == nil && m.list.Click(y)
}
