// Package seal shows who can open the state of the control plane, locks and unlocks it,
// and has it encrypted anew. What is typed to unlock is never shown and never kept.
package seal

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	list  listing.List[api.SealRecipient]
	now   *api.Seal // the last reading
	headH int       // lines above the list in the last View
}

var (
	lock   = keys.Writes("lock the state", "l")
	unlock = keys.Writes("unlock it", "u")
	rotate = keys.Writes("encrypt it anew, under new keys", "o")
	add    = keys.Writes("add a recipient", "n")
	remove = keys.Writes("take the recipient out", "x")
)

// New makes the screen.
func New() *Model {
	m := &Model{}
	m.list = listing.New(listing.List[api.SealRecipient]{
		Columns: []theme.Column{{Head: "kind", Min: 12}, {Head: "recipient", Min: 30, Max: 100}},
		Cells: func(_ *screen.State, r *api.SealRecipient) []string {
			return []string{theme.Clean(r.Kind), theme.Clean(r.Recipient)}
		},
		Words: func(r *api.SealRecipient) find.Thing {
			return find.Thing{Names: []string{r.Kind}, IDs: []string{r.Recipient}}
		},
		Head:  func(*screen.State, int, int) string { return "Who can open it" },
		Empty: "nobody is told: the state is locked, or this token may not see it",
		Detail: func(s *screen.State, r *api.SealRecipient, w int) []string {
			return listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, "A recipient"), "kind", r.Kind, "recipient", r.Recipient)
		},
	})
	return m
}

// Name of the screen.
func (*Model) Name() string { return "seal" }

// Alone: a locked state answers nobody else.
func (*Model) Alone() bool { return true }

// Keys of the list, or of the form.
func (m *Model) Keys() []keys.Binding {
	return m.list.Keys(lock, unlock, rotate, add, remove)
}

// Typing is so in the form and the search.
func (m *Model) Typing() bool { return m.list.Typing() }

// done closes the form once its change is made.
type done = listing.Done[api.SealRecipient]

type told struct {
	seal api.Seal
	err  error
}

func ask(c screen.Client) tea.Cmd {
	return screen.Call(func(ctx context.Context) tea.Msg {
		now, err := c.Seal(ctx)
		return told{now, err}
	})
}

// Update follows keys and readings; while a rotation runs each second counts.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case screen.Shown, screen.Tick:
		return ask(s.Client)
	case told:
		if msg.err != nil {
			m.list.Put(nil, msg.err)
			return nil
		}
		m.now = &msg.seal
		m.list.Put(msg.seal.Recipients, nil)
		return nil
	case done:
		m.list.Fill(nil)
		return ask(s.Client)
	case unlocked:
		m.list.Fill(nil)
		return tea.Batch(ask(s.Client), screen.Tell("it is open again", nil))
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch {
	case m.list.Typing():
	case lock.Is(k):
		return do(s, "lock the state", "control stops answering until somebody unlocks it; systems go on with the map they have", "locked",
			func(ctx context.Context, c screen.Client) error { _, err := c.SealDo(ctx, "lock"); return err })
	case rotate.Is(k):
		return do(s, "encrypt the state anew", "every page is written under new keys while control runs; backups from before open with the old ones", "it has begun: the first lines show how far it is",
			func(ctx context.Context, c screen.Client) error { _, err := c.SealDo(ctx, "rotate"); return err })
	case unlock.Is(k):
		m.list.Fill(unlockForm(s.Client))
		return nil
	case add.Is(k):
		m.list.Fill(addForm(s))
		return nil
	case remove.Is(k):
		r := m.list.Chosen()
		if r == nil {
			return nil
		}
		who := r.Recipient
		return do(s, "take out "+short(who), "who has only that key cannot open the state again; a copy from before still opens with it, so encrypt it anew afterwards", "taken out",
			func(ctx context.Context, c screen.Client) error {
				_, err := c.SealRemove(ctx, api.SealRemove{Recipient: who})
				return err
			})
	}
	return m.list.Update(k, s)
}

// do proposes something of which there is no dry run: the warning says what it does.
func do(s *screen.State, title, warn, said string, f func(ctx context.Context, c screen.Client) error) tea.Cmd {
	c := s.Client
	return screen.Ask(screen.Propose{Title: title, Warn: warn, Done: said, Then: done{}, Steps: []screen.Step{
		func(ctx context.Context, dry bool) (api.Impact, error) {
			if dry {
				return api.Impact{}, nil
			}
			return api.Impact{}, f(ctx, c)
		}}})
}

func short(recipient string) string {
	if r := []rune(recipient); len(r) > 24 {
		return string(r[:24]) + "…"
	}
	return recipient
}

func addForm(s *screen.State) *listing.Form {
	return listing.NewForm("A recipient that can open the state", func(v []string) tea.Cmd {
		return do(s, "let "+short(v[0])+" open the state", "whoever holds its private half can read everything in it", "added",
			func(ctx context.Context, c screen.Client) error {
				_, err := c.SealAdd(ctx, api.SealAdd{Recipient: v[0]})
				return err
			})
	}, listing.Field{Name: "public key", Example: "age1…, age1pq1…, ssh-ed25519 …", Check: func(text string) error {
		switch {
		case strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-"):
			return errors.New("that is a private key: give the public one, which begins with age1")
		case !strings.HasPrefix(text, "age1") && !strings.HasPrefix(text, "ssh-"):
			return errors.New("want age1…, age1pq1… or a line of an SSH public key")
		}
		return nil
	}})
}

// unlockForm sends what opens the state straight to the server: it is no change of the
// organisation, so nothing is proposed and nothing of it stays here.
func unlockForm(c screen.Client) *listing.Form {
	return listing.NewForm("Unlock the state", func(v []string) tea.Cmd {
		in := api.Unlock{Passphrase: v[0]}
		if strings.HasPrefix(v[0], "AGE-SECRET-KEY-") {
			in = api.Unlock{Identity: v[0]}
		}
		return func() tea.Msg {
			ctx, cancel := context.WithTimeout(context.Background(), screen.Patience)
			defer cancel()
			if _, err := c.Unlock(ctx, in); err != nil {
				return screen.Say{Err: err}
			}
			return unlocked{}
		}
	}, listing.Field{Name: "with", Example: "a passphrase, or AGE-SECRET-KEY-…", Secret: true, Check: listing.Needed("nothing is typed")})
}

// unlocked closes the form.
type unlocked struct{}

// View draws the state of the seal above its recipients.
func (m *Model) View(s *screen.State, w, h int) string {
	if m.list.Filling() {
		return m.list.View(s, w, h)
	}
	head := m.head(s, w)
	m.headH = len(head)
	return theme.Box(head, w, min(h, len(head))) + rest(m.list.View(s, w, max(0, h-len(head))), h > len(head))
}

func rest(text string, room bool) string {
	if !room {
		return ""
	}
	return "\n" + text
}

func (m *Model) head(s *screen.State, w int) []string {
	t := s.Theme
	if m.now == nil {
		return []string{"asking…"}
	}
	n := m.now
	line := t.Paint(theme.Title, "The state is ") + t.State(n.State)
	if n.Since != nil {
		line += " since " + n.Since.UTC().Format("2006-01-02 15:04:05")
	}
	if n.Root > 0 {
		line += fmt.Sprintf(", root key %d", n.Root)
	}
	lines := []string{line}
	if n.Own {
		lines = append(lines, theme.Wrap(t.Paint(theme.Warn, "! its identity lies beside it: who copies the directory can open it. Add a recipient of yours and take that one out."), w)...)
	}
	if r := n.Rotation; r != nil {
		lines = append(lines, rotation(t, r, w))
	}
	return append(lines, "")
}

// rotation says how far it is, in figures and as a bar.
func rotation(t theme.Theme, r *api.Rotation, w int) string {
	switch {
	case r.Error != "":
		return t.Paint(theme.Bad, "✗ encrypting anew ended: "+theme.Clean(r.Error))
	case r.Ended != nil:
		return t.Paint(theme.Good, fmt.Sprintf("✓ encrypted anew: %s in %.1f s, writers waited %.1f ms", wire.Count(r.Pages, "page"), r.Ended.Sub(r.Began).Seconds(), float64(r.PauseMicros)/1000))
	}
	room, done := max(8, min(30, w-40)), int64(0)
	if r.Total > 0 {
		done = min(int64(room), r.Done*int64(room)/r.Total)
	}
	return "encrypting anew " + strings.Repeat("█", int(done)) + strings.Repeat("░", room-int(done)) + fmt.Sprintf(" %d of %s", r.Done, wire.Count(r.Total, "page"))
}

// Click puts the cursor on a row.
func (m *Model) Click(_, y int, _ *screen.State) bool {
	return m.list.Click(y - m.headH)
}
