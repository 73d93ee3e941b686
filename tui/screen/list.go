package screen

import (
	"cmp"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/wire/find"
)

// List is a cursor and a window over rows that others own. Move it only through Move and
// Fit, which keep both inside.
type List struct{ At, top int }

// The bindings that move in every list.
var (
	Up   = keys.New("up", "up", "k")
	Down = keys.New("down", "down", "j")
	Home = keys.New("first", "home", "g")
	End  = keys.New("last", "end", "G")
	PgUp = keys.New("page up", "pgup", "ctrl+b")
	PgDn = keys.New("page down", "pgdown", "ctrl+f")
)

// The bindings that mean the same on every screen that has them.
var (
	Find    = keys.New("search", "/")
	Details = keys.New("details", "enter")
	Back    = keys.New("back", "esc")
	Accept  = keys.New("accept", "enter")
)

// Moves are the bindings that move.
func Moves() []keys.Binding {
	list := []keys.Binding{Up, Down, Home, End, PgUp, PgDn}
	for i := range list {
		list[i].Quiet = true
	}
	return list
}

// Move follows a key in n rows of which page are seen, and reports whether it was one.
func (l *List) Move(m tea.KeyMsg, n, page int) bool {
	switch {
	case Up.Is(m):
		l.At--
	case Down.Is(m):
		l.At++
	case PgUp.Is(m):
		l.At -= page
	case PgDn.Is(m):
		l.At += page
	case Home.Is(m):
		l.At = 0
	case End.Is(m):
		l.At = n - 1
	default:
		return false
	}
	l.clamp(n)
	return true
}

// Click puts the cursor on a row that was seen, counted from the first, of n, and reports
// whether it was there.
func (l *List) Click(row, n int) (again bool) {
	if row < 0 || l.top+row >= n {
		return false
	}
	again = l.At == l.top+row
	l.At = l.top + row
	return again
}

func (l *List) clamp(n int) { l.At = max(0, min(l.At, n-1)) }

// Window returns the rows [from, to) that h lines show of n, with the cursor inside.
func (l *List) Window(n, h int) (from, to int) {
	l.clamp(n)
	if h <= 0 {
		return 0, 0
	}
	l.top = min(l.top, l.At)
	l.top = max(l.top, l.At-h+1)
	l.top = max(0, min(l.top, n-h))
	return l.top, min(n, l.top+h)
}

// Search returns the rows that a search finds, what is called so first; without a search
// all, as they are.
func Search[T any](search string, rows []T, as func(*T) find.Thing) []*T {
	out, ranks := make([]*T, 0, len(rows)), make(map[*T]find.Rank)
	for i := range rows {
		row := &rows[i]
		if search != "" {
			t := as(row)
			if ranks[row] = t.Rank(search); ranks[row] == find.None {
				continue
			}
		}
		out = append(out, row)
	}
	if search != "" {
		slices.SortStableFunc(out, func(a, b *T) int { return cmp.Compare(ranks[b], ranks[a]) })
	}
	return out
}
