package screen

import (
	"cmp"
	"fmt"
	"slices"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/wire/find"
)

// List is a cursor and a window over rows that others own. Move it only through Move and
// Fit, which keep both inside.
type List struct{ At, top, shown int }

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
	Leave   = keys.New("back", "esc", "enter") // of details, which enter opened
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
		l.shown = 0
		return 0, 0
	}
	l.top = min(l.top, l.At)
	l.top = max(l.top, l.At-h+1)
	l.top = max(0, min(l.top, n-h))
	l.shown = min(n, l.top+h) - l.top
	return l.top, l.top + l.shown
}

// Rest says how many of n rows the last Window left out at either end, to stand behind the
// line above a list; empty where all are seen.
func (l *List) Rest(n int) string { return Rest(l.top, n-l.top-l.shown) }

// RestAcross is Rest of a list that lies on its side.
func (l *List) RestAcross(n int) string { return rest("←", l.top) + rest("→", n-l.top-l.shown) }

// Rest says how many rows are left out above and below.
func Rest(above, below int) string { return rest("↑", above) + rest("↓", below) }

func rest(way string, n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("  %s %d", way, n)
}

// Page is how far details are scrolled on a screen where up and down choose another row.
type Page struct{ at, most, page int }

// Move scrolls by a page, and reports whether the key does that.
func (p *Page) Move(k tea.KeyMsg) bool {
	l := List{At: p.at}
	if !PgUp.Is(k) && !PgDn.Is(k) {
		return false
	}
	l.Move(k, p.most+1, max(1, p.page))
	p.at = l.At
	return true
}

// Cut is what of lines is seen in h of them, and below; the frame marks what is cut.
func (p *Page) Cut(lines []string, h int) []string {
	p.most, p.page = max(0, len(lines)-h), h-2
	p.at = min(p.at, p.most)
	return lines[p.at:]
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
