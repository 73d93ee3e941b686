// Package audit shows the audit trail as it is written: the newest records, a filter, and
// all of one record. It verifies the whole trail as the server exports it; who trusts no
// server has the key from elsewhere and "enclave audit verify".
package audit

import (
	"fmt"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire/api"
	"enclave/wire/find"
)

// Model is the screen.
type Model struct {
	list   screen.List
	search screen.Input
	at     int64 // the record under the cursor; -1 follows the newest
	detail bool
	scroll screen.Page // of the record
	page   int

	verifying *verification // nil is none
}

// New makes the screen; it follows the newest record.
func New() *Model {
	return &Model{search: screen.NewInput("actor, action, object or outcome"), at: -1, page: 10}
}

var (
	search = keys.New("filter", "/")
	tail   = keys.New("follow the newest", "f")
)

// Name of the screen.
func (*Model) Name() string { return "audit" }

// Keys of the list, or of the filter.
func (m *Model) Keys() []keys.Binding {
	if m.search.Focused() {
		return []keys.Binding{screen.Accept, screen.Back}
	}
	if m.verifying != nil {
		return []keys.Binding{verify, stop}
	}
	if m.detail {
		return append([]keys.Binding{screen.Leave, tail, verify, search}, screen.Moves()...)
	}
	return append([]keys.Binding{search, screen.Details, tail, verify, screen.Back}, screen.Moves()...)
}

// Typing is so while a filter is typed.
func (m *Model) Typing() bool { return m.search.Focused() }

// thing is what a search looks at in a record: "system:k3v9q" is found by system, by the
// system's name, and by its ID from the beginning; "tag:web" by all of it.
func thing(s *screen.State, r *api.AuditRecord) find.Thing {
	t := find.Thing{Texts: []string{r.Action, r.Outcome}}
	for _, who := range []string{r.Actor, r.Object} {
		kind, id, _ := strings.Cut(who, ":")
		switch kind {
		case "system", "policy", "key", "relay", "run", "session":
			t.Names, t.Texts, t.IDs = append(t.Names, r.ObjectName), append(t.Texts, kind), append(t.IDs, id, who)
			if name := s.Named(who); name != who {
				t.Names = append(t.Names, name)
			}
		default:
			t.Texts = append(t.Texts, who)
		}
	}
	return t
}

// seen returns what passes the filter, the newest first.
func (m *Model) seen(s *screen.State) []*api.AuditRecord {
	var out []*api.AuditRecord
	for i := len(s.Audit) - 1; i >= 0; i-- {
		r := &s.Audit[i]
		if thing := thing(s, r); thing.Found(m.search.Value()) {
			out = append(out, r)
		}
	}
	m.list.At = 0
	for i, r := range out { // the cursor stays on its record while others come
		if r.Seq == m.at {
			m.list.At = i
		}
	}
	return out
}

// Update follows keys.
func (m *Model) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	if done, ok := msg.(verified); ok {
		done.of.told(done)
	}
	k, ok := msg.(tea.KeyMsg)
	if !ok {
		return nil
	}
	if v := m.verifying; v != nil {
		if over := v.result != nil || v.err != nil; stop.Is(k) {
			v.cancel()
			m.verifying = nil
		} else if verify.Is(k) && over {
			return m.verify(s)
		}
		return nil
	}
	rows := m.seen(s)
	switch {
	case m.search.Focused():
		m.search.Search(k)
	case m.detail && m.scroll.Move(k):
	case m.list.Move(k, len(rows), m.page):
		m.scroll = screen.Page{}
		if m.list.At < len(rows) {
			m.at = rows[m.list.At].Seq
		}
	case search.Is(k):
		m.search.Focus()
		m.detail = false
	case screen.Details.Is(k):
		m.detail, m.scroll = !m.detail && len(rows) > 0, screen.Page{}
		if m.detail {
			m.at = rows[m.list.At].Seq // stays while others come
		}
	case verify.Is(k):
		return m.verify(s)
	case tail.Is(k):
		m.at, m.detail = -1, false
	case screen.Back.Is(k):
		if !m.detail {
			m.search.Set("")
		}
		m.detail = false
	}
	return nil
}

var columns = []theme.Column{{Head: "time", Min: 8}, {Head: "outcome", Min: 8}, {Head: "action", Min: 16, Max: 24}, {Head: "object", Min: 14, Max: 34}, {Head: "actor", Min: 14, Max: 30}, {Head: "number", Min: 7}}

// View draws the trail, or one record.
func (m *Model) View(s *screen.State, w, h int) string {
	t := s.Theme
	if m.verifying != nil {
		return theme.Box(m.verifying.view(s, w), w, h)
	}
	rows := m.seen(s)
	if m.detail && m.list.At < len(rows) {
		return theme.Box(m.scroll.Cut(record(s, rows[m.list.At], w), h), w, h)
	}
	top := fmt.Sprintf("the newest %d", len(rows))
	switch {
	case m.search.Focused():
		top = "filter: " + m.search.View(t, w-8)
	case m.search.Value() != "":
		top = fmt.Sprintf("%d of the newest %d  filter: %s", len(rows), len(s.Audit), theme.Clean(m.search.Value()))
	}
	if m.at < 0 && !m.search.Focused() {
		top += "  following"
	}
	widths := theme.Widths(columns, w-2)
	lines := []string{top, t.Paint(theme.Dim, "  "+theme.Row(widths, "time", "outcome", "action", "object", "actor", "number"))}
	m.page = max(1, h-len(lines))
	from, to := m.list.Window(len(rows), m.page)
	lines[0] += m.list.Rest(len(rows))
	for i := from; i < to; i++ {
		r := rows[i]
		cursor := "  "
		if i == m.list.At {
			cursor = "▸ "
		}
		lines = append(lines, cursor+theme.Row(widths, r.At.In(s.Now.Location()).Format("15:04:05"), t.State(r.Outcome),
			theme.Clean(r.Action), theme.Clean(s.Named(r.Object)), theme.Clean(r.Actor), fmt.Sprint(r.Seq)))
	}
	if len(rows) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  nothing here; esc clears the filter"))
	}
	return theme.Box(lines, w, h)
}

func record(s *screen.State, r *api.AuditRecord, w int) []string {
	t := s.Theme
	lines := []string{t.Paint(theme.Title, fmt.Sprintf("Record %d", r.Seq)) + "  " + t.State(r.Outcome)}
	add := func(name, value string) {
		if value == "" {
			return
		}
		for i, part := range theme.Wrap(theme.Clean(value), w-14) {
			if i > 0 {
				name = ""
			}
			lines = append(lines, "  "+t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
		}
	}
	add("time", r.At.In(s.Now.Location()).Format("2006-01-02 15:04:05.000"))
	add("actor", r.Actor)
	add("action", r.Action)
	object := r.Object
	if n := s.Named(object); n != object {
		object = n + ", " + object
	}
	add("object", object)
	add("subject", r.Subject)
	if r.Revision > 0 {
		add("revision", fmt.Sprint(r.Revision))
	}
	add("request", r.Request)
	switch {
	case r.Erased:
		add("detail", "erased: its key was destroyed")
	case string(r.Detail) != "null":
		add("detail", string(r.Detail))
	}
	add("hash", r.Hash)
	return lines
}

// Click puts the cursor on a record.
func (m *Model) Click(_, y int, s *screen.State) bool {
	if m.detail || m.Typing() || m.verifying != nil {
		return false
	}
	rows := m.seen(s)
	again := m.list.Click(y-2, len(rows))
	if m.list.At < len(rows) {
		m.at = rows[m.list.At].Seq
	}
	return again
}
