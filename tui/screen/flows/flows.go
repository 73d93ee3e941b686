// Package flows shows what flows now, by which policy and rule, as the agents at the
// receiving ends tell. They are asked only while the screen is looked at. What was denied
// is not in it: agents do not report that.
package flows

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire/api"
)

// MaxFlows is how many are kept of one reading.
const MaxFlows = 5000

// Model is the screen.
type Model struct {
	list    screen.List
	search  screen.Input
	all     []api.LiveFlow
	total   int
	err     error
	loaded  bool
	reading bool
	page    int
}

// New makes the screen.
func New() *Model { return &Model{search: screen.NewInput("system, policy or protocol"), page: 10} }

var (
	search = keys.New("search", "/")
	back   = keys.New("back", "esc")
	accept = keys.New("accept", "enter")
)

// Name of the screen.
func (*Model) Name() string { return "flows" }

// Keys of the list, or of the search.
func (m *Model) Keys() []keys.Binding {
	if m.search.Focused() {
		return []keys.Binding{accept, back}
	}
	return append([]keys.Binding{search, back}, screen.Moves()...)
}

// Typing is so while a search is typed.
func (m *Model) Typing() bool { return m.search.Focused() }

type told struct {
	flows []api.LiveFlow
	err   error
}

func ask(c screen.Client) tea.Cmd {
	return screen.Call(func(ctx context.Context) tea.Msg {
		list, err := c.Flows(ctx)
		return told{list, err}
	})
}

// Update asks again each second that the screen is on top, never twice at once.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case told:
		m.reading, m.err = false, msg.err
		if msg.err == nil {
			m.loaded, m.total = true, len(msg.flows)
			m.all = slices.Clone(msg.flows[:min(len(msg.flows), MaxFlows)])
			slices.SortFunc(m.all, func(a, b api.LiveFlow) int {
				return cmp.Or(cmp.Compare(a.Names[0], b.Names[0]), cmp.Compare(a.Names[1], b.Names[1]), a.Dst.Compare(b.Dst), a.Src.Compare(b.Src))
			})
		}
	case screen.Shown, screen.Tick:
		if !m.reading {
			m.reading = true
			return ask(s.Client)
		}
	case tea.KeyMsg:
		m.pressed(msg)
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg) {
	switch {
	case m.search.Focused():
		switch {
		case back.Is(k):
			m.search.Set("")
			m.search.Blur()
		case accept.Is(k):
			m.search.Blur()
		default:
			m.search.Update(k)
		}
	case search.Is(k):
		m.search.Focus()
	case back.Is(k):
		m.search.Set("")
	default:
		m.list.Move(k, len(m.seen()), m.page)
	}
}

func (m *Model) seen() []*api.LiveFlow {
	var out []*api.LiveFlow
	for i := range m.all {
		if f := &m.all[i]; screen.Has(m.search.Value(), f.Names[0], f.Names[1], f.PolicyName, f.Proto.String()) {
			out = append(out, f)
		}
	}
	return out
}

var columns = []theme.Column{{Head: "from", Min: 13, Max: 22}, {Head: "to", Min: 13, Max: 22}, {Head: "service", Min: 10, Max: 24}, {Head: "bytes", Min: 8}, {Head: "policy and rule", Min: 20, Max: 40}}

// View draws the flows.
func (m *Model) View(s *screen.State, w, h int) string {
	t := s.Theme
	rows := m.seen()
	top := fmt.Sprintf("%d of %d live flows", len(rows), m.total)
	switch {
	case m.search.Focused():
		top = "search: " + m.search.View(t, w-8)
	case m.err != nil:
		top = t.Paint(theme.Bad, "✗ "+theme.Clean(m.err.Error())+"; trying again")
	case !m.loaded:
		top = "asking the agents…"
	case m.search.Value() != "":
		top += "  search: " + theme.Clean(m.search.Value())
	}
	widths := theme.Widths(columns, w-2)
	lines := []string{top, t.Paint(theme.Dim, "  "+theme.Row(widths, "from", "to", "service", "bytes", "policy and rule"))}
	m.page = max(1, h-len(lines))
	from, to := m.list.Window(len(rows), m.page)
	for i := from; i < to; i++ {
		f := rows[i]
		cursor := "  "
		if i == m.list.At {
			cursor = "▸ "
		}
		service := f.Proto.String()
		if p := f.Dst.Port(); p != 0 {
			service = fmt.Sprintf("%s/%d", service, p)
		}
		by := fmt.Sprintf("%s, rule %d", theme.Clean(f.PolicyName), f.Rule+1)
		if f.PolicyName == "" {
			by = "each added the other"
		}
		lines = append(lines, cursor+theme.Row(widths, theme.Clean(f.Names[0]), theme.Clean(f.Names[1]), service, size(f.Bytes), by))
	}
	if m.loaded && len(rows) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  nothing flows"))
	}
	return theme.Box(lines, w, h)
}

// size writes bytes in their largest binary unit.
func size(n uint64) string {
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for v >= 1024 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	return fmt.Sprintf("%.3g %s", v, units[0])
}
