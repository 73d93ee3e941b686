package listing

import (
	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/keys"
	"enclave/tui/screen"
	"enclave/tui/theme"
)

// Form is a few lines that are typed, checked while they are.
type Form struct {
	Title  string
	Fields []Field
	// Send is the command for what was typed, which every Check has passed.
	Send func(values []string) tea.Cmd
	at   int
}

// Field is one line. An empty line is for Check to judge too.
type Field struct {
	Name    string
	Example string
	Check   func(text string) error
	Secret  bool // what is typed is not shown
	input   screen.Input
}

var (
	send = keys.New("try it", "enter")
	next = keys.New("next field", "tab", "down")
	prev = keys.New("field before", "shift+tab", "up")
	quit = keys.New("leave", "esc")
)

// NewForm makes a form; the first field is typed in.
func NewForm(title string, do func(values []string) tea.Cmd, fields ...Field) *Form {
	for i := range fields {
		fields[i].input = screen.NewInput(fields[i].Example)
		if fields[i].Secret {
			fields[i].input.Hide()
		}
	}
	fields[0].input.Focus()
	return &Form{Title: title, Fields: fields, Send: do}
}

// Keys of a form.
func (*Form) Keys() []keys.Binding { return []keys.Binding{send, next, quit, prev} }

// Update follows a key and reports whether the form is to be left.
func (f *Form) Update(k tea.KeyMsg) (cmd tea.Cmd, leave bool) {
	move := func(by int) {
		f.Fields[f.at].input.Blur()
		f.at = (f.at + by + len(f.Fields)) % len(f.Fields)
		f.Fields[f.at].input.Focus()
	}
	switch {
	case quit.Is(k):
		return nil, true
	case next.Is(k):
		move(1)
	case prev.Is(k):
		move(-1)
	case send.Is(k):
		values := make([]string, len(f.Fields))
		for i := range f.Fields {
			values[i] = f.Fields[i].input.Value()
			if f.Fields[i].check() != nil {
				move(i - f.at)
				return nil, false
			}
		}
		return f.Send(values), false
	default:
		f.Fields[f.at].input.Update(k)
	}
	return nil, false
}

func (f *Field) check() error {
	if f.Check == nil {
		return nil
	}
	return f.Check(f.input.Value())
}

// View draws the form; a mistake stands under what was typed.
func (f *Form) View(t theme.Theme, w, h int) string {
	lines := []string{t.Paint(theme.Title, f.Title)}
	top := 0
	for i := range f.Fields {
		d := &f.Fields[i]
		cursor := "  "
		if i == f.at {
			cursor = "▸ "
			top = max(0, len(lines)-h+3)
		}
		lines = append(lines, cursor+t.Paint(theme.Dim, theme.Fit(d.Name, 12))+" "+d.input.View(t, w-16))
		if err := d.check(); err != nil && (i == f.at || d.input.Value() != "") {
			for _, l := range theme.Wrap(theme.Clean(err.Error()), w-18) {
				lines = append(lines, "               "+t.Paint(theme.Bad, "✗ "+l))
			}
		}
	}
	return theme.Box(lines[min(top, len(lines)-1):], w, h)
}
