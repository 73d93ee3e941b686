// Package flows shows what flows now, by which policy and rule, and what was refused of
// late, as the agents tell; a flow can be cut by hand. Agents are asked only while the
// screen is looked at. A cut changes no policy: what is still allowed may open again.
package flows

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/find"
)

// MaxFlows is how many are kept of one reading.
const MaxFlows = 5000

// Model is the screen.
type Model struct {
	list    screen.List
	search  screen.Input
	order   int
	detail  bool
	scroll  screen.Page // of the details
	page    int
	live    table[api.LiveFlow]
	refused table[api.Denied]
	denied  bool // what was refused is what is shown

	sorted []*api.LiveFlow // live, in order
	rows   []*api.LiveFlow // those of them that match key
	key    string          // the search that rows are of
	fresh  bool            // rows are of the last reading
}

// table is one reading, at most MaxFlows of it, and its rows that match a search.
type table[T any] struct {
	all     []T
	total   int
	err     error
	loaded  bool
	reading bool
}

// New makes the screen.
func New() *Model {
	return &Model{search: screen.NewInput("system, policy, protocol, address"), page: 10}
}

var (
	toggle = keys.New("what flows, or what was denied", "v")
	order  = keys.New("sort by the next column", "s")
	cut    = keys.Writes("cut this flow", "c")
)

// Name of the screen.
func (*Model) Name() string { return "flows" }

// Keys of the list, or of the search.
func (m *Model) Keys() []keys.Binding {
	if m.search.Focused() {
		return []keys.Binding{screen.Accept, screen.Back}
	}
	if m.detail {
		return append([]keys.Binding{screen.Leave, toggle, cut, screen.Find}, screen.Moves()...)
	}
	return append([]keys.Binding{screen.Find, screen.Details, toggle, cut, order, screen.Back}, screen.Moves()...)
}

// Typing is so while a search is typed.
func (m *Model) Typing() bool { return m.search.Focused() }

type (
	told struct {
		flows []api.LiveFlow
		err   error
	}
	toldDenied struct {
		list []api.Denied
		err  error
	}
	// Cut tells the screen that what it shows has changed.
	Cut struct{}
)

// ask reads what is shown, never twice at once.
func (m *Model) ask(c screen.Client) tea.Cmd {
	switch {
	case m.denied && !m.refused.reading:
		m.refused.reading = true
		return screen.Call(func(ctx context.Context) tea.Msg {
			list, err := c.Denied(ctx)
			return toldDenied{list, err}
		})
	case !m.denied && !m.live.reading:
		m.live.reading = true
		return screen.Call(func(ctx context.Context) tea.Msg {
			list, err := c.Flows(ctx)
			return told{list, err}
		})
	}
	return nil
}

// take keeps a reading; after an error the one before stays.
func (t *table[T]) take(list []T, err error) {
	t.reading, t.err = false, err
	if err == nil {
		t.loaded, t.total = true, len(list)
		t.all = slices.Clone(list[:min(len(list), MaxFlows)])
	}
}

// Update asks again each second that the screen is on top.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case told:
		at := m.current()
		m.live.take(msg.flows, msg.err)
		m.sort(at)
	case toldDenied:
		m.refused.take(msg.list, msg.err)
	case screen.Shown, screen.Tick, Cut:
		return m.ask(s.Client)
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return nil
}

// orders are the columns that sort.
var orders = [...]struct {
	name string
	cmp  func(a, b *api.LiveFlow) int
}{
	{"from", func(a, b *api.LiveFlow) int { return 0 }},
	{"to", func(a, b *api.LiveFlow) int { return cmp.Compare(a.Names[1], b.Names[1]) }},
	{"bytes", func(a, b *api.LiveFlow) int { return cmp.Compare(b.Bytes, a.Bytes) }},
	{"since", func(a, b *api.LiveFlow) int { return b.Since.Compare(a.Since) }},
	{"policy", func(a, b *api.LiveFlow) int { return cmp.Compare(a.PolicyName, b.PolicyName) }},
}

// sort orders the flows; the cursor stays on its flow, not on its line.
func (m *Model) sort(at *api.LiveFlow) {
	var was api.LiveFlow
	if at != nil {
		was = *at
	}
	by := orders[m.order].cmp
	m.sorted, m.fresh = m.sorted[:0], false
	for i := range m.live.all {
		m.sorted = append(m.sorted, &m.live.all[i])
	}
	slices.SortFunc(m.sorted, func(a, b *api.LiveFlow) int {
		if d := by(a, b); d != 0 {
			return d
		}
		if d := cmp.Compare(a.Names[0], b.Names[0]); d != 0 {
			return d
		}
		if d := cmp.Compare(a.Names[1], b.Names[1]); d != 0 {
			return d
		}
		return cmp.Or(a.Dst.Compare(b.Dst), a.Src.Compare(b.Src))
	})
	for i, f := range m.flows() {
		if f.Src == was.Src && f.Dst == was.Dst && f.Proto == was.Proto && f.From == was.From && was.Src != (netip.AddrPort{}) {
			m.list.At = i
		}
	}
}

// current is the flow under the cursor.
func (m *Model) current() *api.LiveFlow {
	if rows := m.flows(); !m.denied && m.list.At < len(rows) {
		return rows[m.list.At]
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	rows := len(m.flows())
	if m.denied {
		rows = len(m.denials())
	}
	switch {
	case m.search.Focused():
		m.search.Search(k)
	case m.detail && m.scroll.Move(k):
	case screen.Find.Is(k):
		m.search.Focus()
		m.detail = false
	case screen.Back.Is(k):
		if !m.detail {
			m.search.Set("")
		}
		m.detail = false
	case screen.Details.Is(k):
		m.detail, m.scroll = !m.detail && rows > 0, screen.Page{}
	case toggle.Is(k):
		m.denied, m.detail, m.list = !m.denied, false, screen.List{}
		return m.ask(s.Client)
	case order.Is(k):
		at := m.current()
		m.order = (m.order + 1) % len(orders)
		m.sort(at)
	case cut.Is(k):
		return m.cut(s)
	case m.list.Move(k, rows, m.page):
		m.scroll = screen.Page{}
	}
	return nil
}

// cut proposes to end the flow under the cursor.
func (m *Model) cut(s *screen.State) tea.Cmd {
	at := m.current()
	if at == nil {
		return screen.Tell("no flow is under the cursor", nil)
	}
	f := *at
	return screen.Ask(screen.Propose{Title: "cut " + f.Names[0] + " → " + f.Names[1] + " " + service(f.Proto, f.Dst.Port()), Done: "cut, at both ends",
		Warn: "No policy changes: what is still allowed may be opened again at once.", Then: Cut{},
		Steps: []screen.Step{func(ctx context.Context, dry bool) (api.Impact, error) { return s.Client.CutFlow(ctx, dry, &f) }}})
}

// flows are those that match the search, made once a reading and search.
func (m *Model) flows() []*api.LiveFlow {
	want := m.search.Value()
	if m.fresh && m.key == want {
		return m.rows
	}
	m.key, m.fresh, m.rows = want, true, m.rows[:0]
	for _, f := range m.sorted {
		t := find.Thing{Names: f.Names[:], Texts: []string{f.PolicyName, f.Proto.String()}, IDs: []string{f.Run}, Ports: []netip.AddrPort{f.Src, f.Dst}}
		if want == "" || t.Found(want) {
			m.rows = append(m.rows, f)
		}
	}
	return m.rows
}

func (m *Model) denials() []*api.Denied {
	out := make([]*api.Denied, 0, len(m.refused.all))
	for i := range m.refused.all {
		d := &m.refused.all[i]
		t := find.Thing{Names: []string{d.AtName, d.Names[0], d.Names[1]}, Texts: []string{d.Proto.String(), d.Reason}, Addrs: []netip.Addr{d.Src}, Ports: []netip.AddrPort{d.Dst}}
		if t.Found(m.search.Value()) {
			out = append(out, d)
		}
	}
	return out
}

func service(p wire.Proto, port uint16) string {
	if port == 0 {
		return p.String()
	}
	return p.String() + "/" + itoa(port)
}
