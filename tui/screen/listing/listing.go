// Package listing is what screens have in common that show a list of the server's: it is
// read while it is looked at, searched, one row of it is shown whole, and a form is filled
// in over it. What the rows are, and what may be done with them, is the screen's.
package listing

import (
	"context"
	"fmt"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/wire/find"
)

// List shows rows of T. The fields that are functions are set once.
type List[T any] struct {
	Ask     func(ctx context.Context, c screen.Client) ([]T, error)
	Columns []theme.Column
	Cells   func(s *screen.State, row *T) []string // a cell each column, safe to draw
	Words   func(row *T) find.Thing                // what a search looks at
	Detail  func(s *screen.State, row *T, w int) []string
	Head    func(s *screen.State, shown, of int) string // the first line
	Empty   string                                      // said where there is nothing

	list    screen.List
	search  screen.Input
	rows    []T
	err     error
	loaded  bool
	reading bool
	form    *Form // being filled in, over the list; nil where none is
	detail  bool
	scroll  int // of the detail
	turn    int
	page    int
}

// New readies l, whose functions are set.
func New[T any](l List[T]) List[T] {
	l.search = screen.NewInput("any word of a row")
	return l
}

// MaxRows is how many of one reading are kept.
const MaxRows = 5000

// every is how many ticks a reading stays fresh: some lists cost the server more than the
// organisation does.
const every = 2

// Keys are own ones and those of every list.
func (l *List[T]) Keys(own ...keys.Binding) []keys.Binding {
	switch {
	case l.form != nil:
		return l.form.Keys()
	case l.Typing():
		return []keys.Binding{screen.Accept, screen.Back}
	case l.detail:
		return append(append([]keys.Binding{screen.Leave}, own...), append([]keys.Binding{screen.Find}, screen.Moves()...)...)
	}
	return append(append([]keys.Binding{screen.Find, screen.Details, screen.Back}, own...), screen.Moves()...)
}

// Typing is so while a search is typed or a form filled in.
func (l *List[T]) Typing() bool { return l.form != nil || l.search.Focused() }

// Fill opens a form over the list; its keys go first. It is left by a key, by Done, or by
// nil.
func (l *List[T]) Fill(f *Form) { l.form = f }

// Filling is so while a form is open.
func (l *List[T]) Filling() bool { return l.form != nil }

// Done says that what the form of a list of T asked for is made: it closes, and the list
// is read again. T keeps the messages of two screens apart.
type Done[T any] struct{}

// told is a reading.
type told[T any] struct {
	rows []T
	err  error
}

// Update follows what every list follows. Keys come here last: own ones go first.
func (l *List[T]) Update(msg tea.Msg, s *screen.State) tea.Cmd {
	switch msg := msg.(type) {
	case told[T]:
		l.reading = false
		l.Put(msg.rows, msg.err)
	case Done[T]:
		l.form = nil
		return l.Again(s)
	case screen.Shown:
		l.turn = 0
		return l.Again(s)
	case screen.Tick:
		if l.turn++; l.turn%every == 0 {
			return l.Again(s)
		}
	case tea.KeyMsg:
		return l.pressed(msg)
	}
	return nil
}

// Again reads, unless that is under way.
func (l *List[T]) Again(s *screen.State) tea.Cmd {
	if l.reading || l.Ask == nil {
		return nil
	}
	l.reading = true
	c, ask := s.Client, l.Ask
	return screen.Call(func(ctx context.Context) tea.Msg {
		rows, err := ask(ctx, c)
		return told[T]{rows, err}
	})
}

func (l *List[T]) pressed(k tea.KeyMsg) tea.Cmd {
	switch {
	case l.form != nil:
		cmd, leave := l.form.Update(k)
		if leave {
			l.form = nil
		}
		return cmd
	case l.search.Focused():
		l.search.Search(k)
		l.list.At = 0 // what is searched is under the cursor
	case screen.Find.Is(k):
		l.search.Focus()
		l.detail = false
	case screen.Details.Is(k):
		l.detail, l.scroll = !l.detail && l.Chosen() != nil && l.Detail != nil, 0
	case screen.Back.Is(k):
		if !l.detail {
			l.search.Set("")
		}
		l.detail = false
	case l.detail:
		at := screen.List{At: l.scroll}
		at.Move(k, l.scroll+l.page+1, max(1, l.page)) // View knows the end
		l.scroll = at.At
	default:
		l.list.Move(k, len(l.seen()), max(1, l.page))
	}
	return nil
}

func (l *List[T]) seen() []*T {
	return screen.Search(l.search.Value(), l.rows, l.Words)
}

// Chosen is the row under the cursor; nil where there is none.
func (l *List[T]) Chosen() *T {
	rows := l.seen()
	if l.list.At >= len(rows) {
		return nil
	}
	return rows[l.list.At]
}

// Click puts the cursor on the row at y of the last View.
func (l *List[T]) Click(y int) (again bool) {
	return !l.detail && !l.Typing() && l.list.Click(y-2, len(l.seen()))
}

// Put is a reading that came by another way: where Ask is nil the screen reads.
func (l *List[T]) Put(rows []T, err error) {
	if l.err = err; err == nil {
		l.loaded, l.rows = true, rows[:min(len(rows), MaxRows)]
	}
}

// Rows are all that was read.
func (l *List[T]) Rows() []T { return l.rows }

// View draws the list, the row that is looked at, or the form.
func (l *List[T]) View(s *screen.State, w, h int) string {
	t := s.Theme
	if l.form != nil {
		return l.form.View(t, w, h)
	}
	if row := l.Chosen(); l.detail && row != nil {
		lines := l.Detail(s, row, w)
		l.page = h
		l.scroll = max(0, min(l.scroll, len(lines)-h))
		return theme.Box(lines[l.scroll:], w, h)
	}
	rows := l.seen()
	top := fmt.Sprintf("%d of %d", len(rows), len(l.rows))
	if l.Head != nil {
		top = l.Head(s, len(rows), len(l.rows))
	}
	switch {
	case l.search.Focused():
		top = "search: " + l.search.View(t, w-8)
	case l.err != nil:
		top = t.Paint(theme.Bad, "✗ "+theme.Clean(l.err.Error())+"; trying again")
	case !l.loaded:
		top = "reading…"
	case l.search.Value() != "":
		top += "  search: " + theme.Clean(l.search.Value())
	}
	widths := theme.Widths(l.Columns, w-2)
	heads := make([]string, len(l.Columns))
	for i, c := range l.Columns {
		heads[i] = c.Head
	}
	lines := []string{top, t.Paint(theme.Dim, "  "+theme.Row(widths, heads...))}
	l.page = max(1, h-len(lines))
	from, to := l.list.Window(len(rows), l.page)
	lines[0] += l.list.Rest(len(rows))
	for i := from; i < to; i++ {
		cursor := "  "
		if i == l.list.At {
			cursor = "▸ "
		}
		lines = append(lines, cursor+theme.Row(widths, l.Cells(s, rows[i])...))
	}
	if l.loaded && len(rows) == 0 {
		lines = append(lines, t.Paint(theme.Dim, "  "+l.Empty))
	}
	return theme.Box(lines, w, h)
}

// Facts lays a heading and named values out, for details; a value without text is left out.
func Facts(t theme.Theme, w int, title string, pairs ...string) []string {
	lines := []string{title}
	for i := 0; i+1 < len(pairs); i += 2 {
		name := pairs[i]
		if pairs[i+1] == "" {
			continue
		}
		for _, part := range theme.Wrap(theme.Clean(pairs[i+1]), w-14) {
			lines = append(lines, "  "+t.Paint(theme.Dim, theme.Fit(name, 11))+" "+part)
			name = ""
		}
	}
	return lines
}
