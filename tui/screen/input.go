package screen

import (
	"strings"

	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/theme"
)

// Input is one line that is typed. It keeps its text until it is cleared, so a server
// that goes away takes nothing with it.
type Input struct{ field textinput.Model }

// MaxInput is how much one line takes.
const MaxInput = 500

// NewInput makes an empty line; example stands in it until something is typed.
func NewInput(example string) Input {
	f := textinput.New()
	f.Prompt, f.Placeholder, f.CharLimit = "", example, MaxInput
	return Input{f}
}

// Hide keeps what is typed off the screen.
func (i *Input) Hide() { i.field.EchoMode = textinput.EchoPassword }

// Focus lets it be typed in.
func (i *Input) Focus() { i.field.Focus() }

// Blur ends that.
func (i *Input) Blur() { i.field.Blur() }

// Focused reports whether it is typed in.
func (i *Input) Focused() bool { return i.field.Focused() }

// Value is what was typed.
func (i *Input) Value() string { return strings.TrimSpace(i.field.Value()) }

// Set replaces what was typed.
func (i *Input) Set(s string) { i.field.SetValue(s); i.field.CursorEnd() }

// Update follows a key.
func (i *Input) Update(m tea.KeyMsg) { i.field, _ = i.field.Update(m) }

// Search follows a key of a search: enter keeps what was typed, escape takes it away.
func (i *Input) Search(k tea.KeyMsg) {
	switch k.Type {
	case tea.KeyEsc:
		i.Set("")
		i.Blur()
	case tea.KeyEnter:
		i.Blur()
	default:
		i.Update(k)
	}
}

// View draws it; the cursor is a block that does not blink.
func (i *Input) View(t theme.Theme, w int) string {
	text, at := []rune(i.field.Value()), i.field.Position()
	if i.field.EchoMode == textinput.EchoPassword {
		for j := range text {
			text[j] = '*'
		}
	}
	if !i.field.Focused() {
		if len(text) == 0 {
			return theme.Fit(t.Paint(theme.Dim, "-"), w)
		}
		return theme.Fit(theme.Clean(string(text)), w)
	}
	if len(text) == 0 {
		return theme.Fit("█"+t.Paint(theme.Dim, i.field.Placeholder), w)
	}
	from := max(0, at-w+2) // the cursor stays in sight
	before := theme.Clean(string(text[from:at]))
	if from > 0 && from < at {
		before = "…" + theme.Clean(string(text[from+1:at]))
	}
	return theme.Fit(before+"█"+theme.Clean(string(text[at:])), w)
}
