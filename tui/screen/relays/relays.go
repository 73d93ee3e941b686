// Package relays shows the relays: where they listen, who listens there for peers, and
// whether anybody does. What a relay carries nobody sees, and control is no exception.
package relays

import (
	"cmp"
	"context"
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

// Model is the screen. It only reads: a relay comes with an enrolment key of its kind.
type Model struct{ list listing.List[api.Relay] }

// New makes the screen.
func New() *Model {
	return &Model{listing.New(listing.List[api.Relay]{
		Ask:     func(ctx context.Context, c screen.Client) ([]api.Relay, error) { return c.Relays(ctx) },
		Columns: []theme.Column{{Head: "relay", Min: 10, Max: 20}, {Head: "state", Min: 10}, {Head: "systems", Min: 8}, {Head: "address", Min: 20, Max: 40}, {Head: "enrolled", Min: 16}, {Head: "id", Min: 8}},
		Cells: func(s *screen.State, r *api.Relay) []string {
			at := listening(s, r)
			return []string{theme.Clean(called(r)), s.Theme.State(state(len(at))), fmt.Sprint(len(at)), theme.Clean(r.Addr), r.EnrolledAt.UTC().Format("2006-01-02 15:04"), theme.Clean(string(r.ID))}
		},
		Words: func(r *api.Relay) find.Thing {
			return find.Thing{Names: []string{r.Name, r.Addr}, IDs: []string{string(r.ID)}}
		},
		Head: func(s *screen.State, shown, of int) string {
			lost := 0
			for i := range s.Org.Systems {
				if sys := &s.Org.Systems[i]; sys.State == wire.Connected && sys.Relay == "" {
					lost++
				}
			}
			text := fmt.Sprintf("%d of %s", shown, wire.Count(of, "relay"))
			if lost > 0 {
				text += s.Theme.Paint(theme.Warn, fmt.Sprintf("  ! connected, but at no relay: %s", wire.Count(lost, "system")))
			}
			return text
		},
		Empty: "no relay: \"enclave up\" has one; others join with a key for relays",
		Detail: func(s *screen.State, r *api.Relay, w int) []string {
			at := listening(s, r)
			lines := listing.Facts(s.Theme, w, s.Theme.Paint(theme.Title, theme.Clean(called(r)))+"  "+s.Theme.State(state(len(at))),
				"id", string(r.ID), "address", r.Addr, "STUN", strings.Join(r.STUN, ", "), "enrolled", r.EnrolledAt.UTC().Format("2006-01-02 15:04:05"),
				"systems", strings.Join(at, ", "))
			if len(r.STUN) < 4 {
				lines = append(lines, theme.Wrap("  Two addresses and two ports for STUN tell the kind of a NAT; with fewer it is guessed.", w)...)
			}
			return lines
		},
	})}
}

// called is what a relay is called; one that control of before tells of has its ID only.
func called(r *api.Relay) string { return cmp.Or(r.Name, string(r.ID)) }

// state is what control can know: whether connected systems say that they listen there.
func state(systems int) string {
	if systems == 0 {
		return "unused"
	}
	return "in use"
}

// listening are the connected systems that peers find at a relay.
func listening(s *screen.State, r *api.Relay) (out []string) {
	for i := range s.Org.Systems {
		if sys := &s.Org.Systems[i]; sys.Relay == r.ID && sys.State == wire.Connected {
			out = append(out, sys.Name)
		}
	}
	return out
}

// Name of the screen.
func (*Model) Name() string { return "relays" }

// Keys of the list.
func (m *Model) Keys() []keys.Binding { return m.list.Keys() }

// Typing is so while a search is typed.
func (m *Model) Typing() bool { return m.list.Typing() }

// Update follows the list.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd { return m.list.Update(msg, s) }

// View draws it.
func (m *Model) View(s *screen.State, w, h int) string { return m.list.View(s, w, h) }

// Click puts the cursor on a row.
func (m *Model) Click(_, y int, _ *screen.State) bool { return m.list.Click(y) }
