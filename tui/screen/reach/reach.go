// Package reach is the map: who reaches whom at an instant, as a matrix or as lines. Rows
// open to columns. Beyond Crowd systems it groups them by tag, as policies see them, and a
// cell leads on to the systems that carry its two tags; at any cell it says why.
//
// It decides nothing: what may be opened is the server's answer, asked for again when the
// revision or the instant changes. What is kept is one answer.
package reach

import (
	"context"
	"fmt"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/wire"
	"enclave/wire/api"
)

// Crowd is how many systems are drawn one by one; more are grouped by tag until somebody
// asks otherwise.
const Crowd = 60

// How old an answer about now may get: hours open and close without a revision. One of many
// systems costs the control plane more.
const (
	stale      = 5 * time.Second
	staleCrowd = 30 * time.Second
)

// Model is the screen.
type Model struct {
	filter  screen.Input
	typing  *screen.Input // an instant; nil is not asked
	wrong   string
	when    slider
	byTag   *bool        // nil goes by the size of the organisation
	within  *[2]wire.Tag // systems that carry these, reached from a cell; nil is all
	asLines bool

	data    *chart
	err     error
	busy    bool
	asked   question // what data is the answer to
	at      time.Time
	row     screen.List
	col     screen.List
	line    screen.List
	wide    int // cells of a column, and the first that is seen, as drawn last
	first   int
	page    int
	rest    string // how many rows and columns were left out, as drawn last
	why     *screen.Why
	filters string // what the view of data was made for
	view    *chart
}

// question is what an answer depends on.
type question struct {
	instant  time.Time // zero is now
	revision wire.Revision
	byTag    bool
	from, to wire.Tag
}

// New makes the screen; it looks at now.
func New() *Model {
	return &Model{filter: screen.NewInput("name or tag; developers > pods"), page: 10}
}

var (
	search  = keys.New("filter, by name or tag: developers > pods", "/")
	enter   = keys.New("why, or between tags their systems", "enter")
	shape   = keys.New("matrix or lines", "m")
	group   = keys.New("systems or tags", "v")
	nextAt  = keys.New("next time, of now, tonight, Saturday 02:00", "t")
	earlier = keys.New("an hour earlier", "[")
	later   = keys.New("an hour later", "]")
	typeAt  = keys.New("another time", "@")
	nowAt   = keys.New("now", "n")
	left    = keys.New("column before", "left", "h")
	right   = keys.New("next column", "right", "l")
)

// Name of the screen.
func (*Model) Name() string { return "map" }

// Keys of the map, of a verdict on top of it, or of what is typed.
func (m *Model) Keys() []keys.Binding {
	switch {
	case m.Typing():
		return []keys.Binding{screen.Accept, screen.Back}
	case m.why != nil:
		return append([]keys.Binding{screen.Back}, screen.Moves()...)
	}
	l, r := left, right
	l.Quiet, r.Quiet = true, true
	return append([]keys.Binding{enter, nextAt, shape, group, search, earlier, later, typeAt, nowAt, screen.Back, l, r}, screen.Moves()...)
}

// Typing is so while a filter or a time is typed.
func (m *Model) Typing() bool { return m.filter.Focused() || m.typing != nil }

type (
	answered struct {
		asked question
		data  *chart
		err   error
	}
	explained struct {
		of  *screen.Why
		e   api.Explanation
		err error
	}
)

func (m *Model) grouped(s *screen.State) bool {
	if m.within != nil {
		return false
	}
	if m.byTag != nil {
		return *m.byTag
	}
	return len(s.Org.Systems) > Crowd
}

// ask asks anew when what is shown no longer answers the question.
func (m *Model) ask(s *screen.State) tea.Cmd {
	q := question{instant: m.when.instant(s.Now), revision: s.Org.Revision.Revision, byTag: m.grouped(s)}
	if m.within != nil {
		q.from, q.to = m.within[0], m.within[1]
	}
	most := stale
	if !q.byTag && len(s.Org.Systems) > Crowd {
		most = staleCrowd
	}
	if m.busy || m.data != nil && m.err == nil && q == m.asked && (!q.instant.IsZero() || s.Now.Sub(m.at) < most) {
		return nil
	}
	m.busy, m.at = true, s.Now
	return screen.Call(func(ctx context.Context) tea.Msg {
		out := answered{asked: q}
		if q.byTag {
			g, err := s.Client.TagGraph(ctx, q.instant)
			out.data, out.err = ofTags(&g), err
		} else {
			g, err := s.Client.Graph(ctx, q.instant, q.from, q.to)
			out.data, out.err = ofSystems(&g, q.from, q.to), err
		}
		return out
	})
}

// Update follows keys and answers.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case answered:
		m.busy, m.err = false, msg.err
		if msg.err == nil {
			if msg.asked.byTag != m.asked.byTag || msg.asked.from != m.asked.from || msg.asked.to != m.asked.to {
				m.row, m.col, m.line = screen.List{}, screen.List{}, screen.List{}
			}
			m.asked, m.data, m.view = msg.asked, msg.data, nil
		}
	case explained:
		msg.of.Told(msg.e, msg.err)
	case screen.Shown, screen.Tick:
		return m.ask(s)
	case tea.KeyMsg:
		return m.pressed(msg, s)
	}
	return nil
}

func (m *Model) pressed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch {
	case m.typing != nil:
		return m.timed(k, s)
	case m.filter.Focused():
		m.filter.Search(k)
		return nil
	case m.why != nil:
		if screen.Back.Is(k) {
			m.why = nil
		} else {
			m.why.Move(k)
		}
		return nil
	}
	return m.command(k, s)
}

func (m *Model) command(k tea.KeyMsg, s *screen.State) tea.Cmd {
	c := m.seen()
	switch {
	case search.Is(k):
		m.filter.Focus()
	case nextAt.Is(k):
		m.when.next()
		return m.ask(s)
	case earlier.Is(k):
		m.when.move(s.Now, -time.Hour)
		return m.ask(s)
	case later.Is(k):
		m.when.move(s.Now, time.Hour)
		return m.ask(s)
	case nowAt.Is(k):
		m.when = slider{}
		return m.ask(s)
	case typeAt.Is(k):
		in := screen.NewInput("8h, 7d, 2026-12-24T18:00:00Z")
		in.Focus()
		m.typing, m.wrong = &in, ""
	case shape.Is(k):
		m.asLines = !m.asLines
	case group.Is(k):
		by := !m.grouped(s)
		m.byTag, m.within = &by, nil
		return m.ask(s)
	case screen.Back.Is(k):
		if m.within != nil {
			m.within = nil
			return m.ask(s)
		}
		m.filter.Set("")
	case enter.Is(k):
		return m.open(s, c)
	case left.Is(k) && !m.asLines:
		m.col.At = max(0, m.col.At-1)
	case right.Is(k) && !m.asLines:
		m.col.At = max(0, min(m.col.At+1, len(c.cols)-1))
	case m.asLines:
		m.line.Move(k, len(c.lines()), m.page)
	default:
		m.row.Move(k, len(c.rows), m.page)
	}
	return nil
}

// timed follows a key in the line that asks for an instant.
func (m *Model) timed(k tea.KeyMsg, s *screen.State) tea.Cmd {
	switch {
	case screen.Back.Is(k):
		m.typing = nil
	case screen.Accept.Is(k):
		at, err := screen.AnyInstant(m.typing.Value(), s.Now)
		if err != nil {
			m.wrong = err.Error()
			return nil
		}
		m.typing, m.when = nil, slider{fixed: at}
		return m.ask(s)
	default:
		m.typing.Update(k)
		m.wrong = ""
	}
	return nil
}

// chosen is the cell under the cursor.
func (m *Model) chosen(c *chart) (from, to *node, cell *cell) {
	if m.asLines {
		lines := c.lines()
		if m.line.At >= len(lines) {
			return nil, nil, nil
		}
		l := lines[m.line.At]
		return l.from, l.to[0], c.cells[[2]string{l.from.id, l.to[0].id}]
	}
	if m.row.At >= len(c.rows) || m.col.At >= len(c.cols) {
		return nil, nil, nil
	}
	from, to = c.rows[m.row.At], c.cols[m.col.At]
	return from, to, c.cells[[2]string{from.id, to.id}]
}

// open goes on from a cell: between tags to their systems, between systems to why.
func (m *Model) open(s *screen.State, c *chart) tea.Cmd {
	from, to, cell := m.chosen(c)
	switch {
	case from == nil:
		return nil
	case m.asked.byTag && to.gateway:
		return screen.Tell(fmt.Sprintf("%s is a gateway: ask screen 4 about an address behind it", to.label), nil)
	case m.asked.byTag:
		m.within = &[2]wire.Tag{wire.Tag(from.id), wire.Tag(to.id)}
		return m.ask(s)
	case from.id == to.id:
		return screen.Tell("a system reaches itself without the enclave", nil)
	}
	proto, port := wire.Any, uint16(0)
	if cell != nil && len(cell.may) > 0 {
		proto = cell.may[0].proto
		if len(cell.may[0].ports) > 0 {
			port = cell.may[0].ports[0].Lo
		} else if proto == wire.TCP || proto == wire.UDP {
			port = 1 // any will do: the rule has all
		}
	}
	what := proto.String()
	if port != 0 {
		what += fmt.Sprintf("/%d", port)
	}
	why := screen.NewWhy(fmt.Sprintf("%s → %s %s", from.label, to.label, what))
	m.why = why
	at, a, b := m.asked.instant, from.id, to.id
	return screen.Call(func(ctx context.Context) tea.Msg {
		e, err := s.Client.Explain(ctx, a, b, proto, port, at)
		return explained{why, e, err}
	})
}
