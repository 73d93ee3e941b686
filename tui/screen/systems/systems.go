// Package systems is the table of systems: search, sort, details, and what an operator
// does with one or several of them at once. Every change is proposed to the root, which
// shows what it would do before it does it.
package systems

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

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
	ask    screen.Input // tags or expiry
	asking string       // "", "tags" or "expiry"
	wrong  string       // what is wrong with ask
	marked map[wire.SystemID]bool
	order  int
	detail bool
	more   more        // of the system whose details are open
	scroll screen.List // of the details
	most   int         // lines that can be scrolled
	page   int

	rows []*api.System // those that are seen, valid until the next reading
	of   []api.System  // the reading that rows are of
	key  string        // the search and order that rows are of
	want string        // the search alone
}

// New makes the screen.
func New() *Model {
	return &Model{search: screen.NewInput("name, ID, address, notes; tag:web state:pending"), ask: screen.NewInput(""), marked: make(map[wire.SystemID]bool), page: 10}
}

var (
	mark    = keys.New("mark several", " ")
	markAll = keys.New("mark all, or none", "*")
	order   = keys.New("sort by the next column", "s")
	before  = keys.New("the system before", "[")
	after   = keys.New("the next system", "]")
	approve = keys.Writes("approve", "a")
	decline = keys.Writes("decline a pending one", "D")
	enable  = keys.Writes("enable", "e")
	disable = keys.Writes("disable", "d")
	tags    = keys.Writes("tags", "t")
	expiry  = keys.Writes("expiry", "x")
	revoke  = keys.Writes("revoke for good", "R")
)

// Name of the screen.
func (*Model) Name() string { return "systems" }

// Keys of the table, or of the line that is typed.
func (m *Model) Keys() []keys.Binding {
	if m.Typing() {
		return []keys.Binding{screen.Accept, screen.Back}
	}
	if m.detail {
		return append([]keys.Binding{screen.Leave, approve, decline, enable, disable, tags, expiry, revoke, before, after, mark, markAll, order, screen.Find}, screen.Moves()...)
	}
	return append([]keys.Binding{screen.Find, screen.Details, mark, markAll, order, approve, decline, enable, disable, tags, expiry, revoke, screen.Back, before, after}, screen.Moves()...)
}

// Typing is so while a search, tags or an expiry are typed.
func (m *Model) Typing() bool { return m.search.Focused() || m.asking != "" }

// orders are the columns that sort, by the words in the heading.
var orders = [...]struct {
	name string
	cmp  func(a, b *api.System) int
}{
	{"name", func(a, b *api.System) int { return cmp.Compare(a.Name, b.Name) }},
	{"state", func(a, b *api.System) int { return cmp.Compare(rank(a.State), rank(b.State)) }},
	{"tags", func(a, b *api.System) int { return slices.Compare(a.Tags, b.Tags) }},
	{"last seen", func(a, b *api.System) int { return heard(b).Compare(heard(a)) }},
	{"address", func(a, b *api.System) int { return a.IPv4.Compare(b.IPv4) }},
}

// heard is when a system was last heard of; connected is ahead of all, never is last.
func heard(s *api.System) (at time.Time) {
	switch {
	case s.State == wire.Connected:
		return time.Unix(1<<40, 0)
	case s.LastSeen != nil:
		at = *s.LastSeen
	}
	return at
}

// rank puts first what an operator has to look at.
func rank(s wire.SystemState) int {
	return slices.Index([]wire.SystemState{wire.Pending, wire.Disconnected, wire.Connected, wire.Disabled, wire.Revoked}, s)
}

// seen returns the rows that match, in order. They are made once a reading and search,
// not once a frame.
func (m *Model) seen(s *screen.State) []*api.System {
	key := m.search.Value() + "\x00" + orders[m.order].name
	if key == m.key && len(m.of) == len(s.Org.Systems) && (len(m.of) == 0 || &m.of[0] == &s.Org.Systems[0]) {
		return m.rows
	}
	at := m.current()
	if want := m.search.Value(); want != "" && want != m.want {
		at, m.list.At = nil, 0 // what is searched is under the cursor, not what was
	}
	m.of, m.key, m.want, m.rows = s.Org.Systems, key, m.search.Value(), m.rows[:0]
	ranks := make(map[wire.SystemID]find.Rank, len(m.of))
	for i := range m.of {
		sys := &m.of[i]
		if r := match(sys, m.want); r != find.None {
			m.rows = append(m.rows, sys)
			ranks[sys.ID] = r
		}
	}
	by := orders[m.order].cmp
	slices.SortStableFunc(m.rows, func(a, b *api.System) int {
		return cmp.Or(cmp.Compare(ranks[b.ID], ranks[a.ID]), by(a, b), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	for i, sys := range m.rows { // the cursor stays on its system, not on its line
		if at != nil && sys.ID == at.ID {
			m.list.At = i
		}
	}
	return m.rows
}

// match wants every word somewhere, or behind one of the API's keys: tag:web
// state:pending kind:run.
func match(sys *api.System, search string) find.Rank {
	var words []string
	for word := range strings.FieldsSeq(search) {
		if key, value, has := strings.Cut(word, ":"); has {
			if found, known := keyed(sys, key, value); known {
				if !found {
					return find.None
				}
				continue
			}
		}
		words = append(words, word)
	}
	t := find.Thing{Names: []string{sys.Name, sys.Host.Hostname}, Texts: []string{string(sys.State), sys.Notes},
		IDs: []string{string(sys.ID)}, Addrs: []netip.Addr{sys.IPv4, sys.IPv6}}
	for _, tag := range sys.Tags {
		t.Texts = append(t.Texts, string(tag))
	}
	return t.Rank(strings.Join(words, " "))
}

// keyed reports whether a key of a search has a value, and whether there is such a key.
func keyed(sys *api.System, key, value string) (found, known bool) {
	switch key {
	case "tag":
		return slices.Contains(sys.Tags, wire.Tag(value)), true
	case "state":
		return string(sys.State) == value, true
	case "kind":
		return sys.Kind == value, true
	}
	return false, false
}

func (m *Model) current() *api.System {
	if m.list.At < len(m.rows) {
		return m.rows[m.list.At]
	}
	return nil
}

// Update follows keys, and what was asked about the system whose details are open.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case more:
		m.told(msg)
	case screen.Shown, screen.Tick:
		return m.inquire(s)
	case tea.KeyMsg:
		return tea.Batch(m.pressed(msg, s), m.inquire(s))
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	rows := m.seen(s)
	switch {
	case m.asking != "":
		return m.typed(k, s)
	case m.search.Focused():
		if k.Type == tea.KeyUp || k.Type == tea.KeyDown {
			m.list.Move(k, len(rows), m.page)
		} else {
			m.search.Search(k)
		}
		return nil
	case m.detail && m.scroll.Move(k, m.most+1, m.page):
		return nil
	case m.list.Move(k, len(rows), m.page):
		return nil
	}
	return m.command(k, s, rows)
}

func (m *Model) command(k tea.KeyMsg, s *screen.State, rows []*api.System) tea.Cmd {
	at := m.current()
	switch {
	case screen.Find.Is(k):
		m.search.Focus()
		m.detail = false
	case order.Is(k):
		m.order = (m.order + 1) % len(orders)
	case screen.Details.Is(k):
		m.detail, m.scroll = !m.detail && at != nil, screen.List{}
	case before.Is(k), after.Is(k):
		if after.Is(k) {
			m.list.At++
		} else {
			m.list.At--
		}
		m.list.Window(len(rows), m.page)
	case screen.Back.Is(k):
		switch {
		case m.detail:
			m.detail = false
		case len(m.marked) > 0:
			clear(m.marked)
		default:
			m.search.Set("")
		}
	case mark.Is(k) && at != nil:
		m.toggle(at.ID)
		m.list.At++
		m.list.Window(len(rows), m.page)
	case markAll.Is(k):
		if len(m.marked) > 0 {
			clear(m.marked)
			return nil
		}
		for _, sys := range rows {
			m.marked[sys.ID] = true
		}
	default:
		return m.change(k, s)
	}
	return nil
}

func (m *Model) toggle(id wire.SystemID) {
	if m.marked[id] {
		delete(m.marked, id)
		return
	}
	m.marked[id] = true
}
