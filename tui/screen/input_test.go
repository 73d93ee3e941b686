package screen

import (
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"enclave/tui/theme"
)

func TestASearchIsKeptOrTakenAway(t *testing.T) {
	for end, want := range map[tea.KeyType]string{tea.KeyEnter: "web", tea.KeyEsc: ""} {
		i := NewInput("example")
		i.Focus()
		i.Search(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("web")})
		if i.Value() != "web" || !i.Focused() {
			t.Fatalf("typed, it is %q", i.Value())
		}
		i.Search(tea.KeyMsg{Type: end})
		if i.Value() != want || i.Focused() {
			t.Errorf("after %v it is %q, want %q", end, i.Value(), want)
		}
	}
}

// TestALongLineShowsThatItBeganEarlier: what does not fit on the left is marked.
func TestALongLineShowsThatItBeganEarlier(t *testing.T) {
	in := NewInput("")
	in.Focus()
	in.Set("a name that is longer than its line")
	if got := in.View(theme.New(lipgloss.NewRenderer(nil), false), 12); got != "… its line█ " {
		t.Errorf("%q", got)
	}
}
