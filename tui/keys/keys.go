// Package keys holds what the screens' bindings have in common: each binding carries its
// help, help is rendered from bindings and from nothing else, and two bindings of one
// screen never share a key (Problems, which a test asks of every screen).
package keys

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// Binding is one thing a key does.
type Binding struct {
	Does  string // a few words for help and palette
	Write bool   // it changes something: not there under --read-only
	Quiet bool   // known to everybody: in the help, not among the hints
	key   key.Binding
}

// New binds keys, named as bubbletea names them; the first one stands in the help.
func New(does string, names ...string) Binding {
	return Binding{Does: does, key: key.NewBinding(key.WithKeys(names...))}
}

// Writes binds keys to something that changes the organisation.
func Writes(does string, names ...string) Binding {
	b := New(does, names...)
	b.Write = true
	return b
}

// Is reports whether m is one of the binding's keys.
func (b Binding) Is(m tea.KeyMsg) bool { return key.Matches(m, b.key) }

// Key is the first key, as it is written in help.
func (b Binding) Key() string {
	switch name := b.key.Keys()[0]; name {
	case " ":
		return "space"
	default:
		return name
	}
}

// typeOf are the keys that are no letters, by the names that bubbletea has for them.
var typeOf = func() map[string]tea.KeyType {
	out := make(map[string]tea.KeyType)
	for t := tea.KeyType(-128); t < 128; t++ { // control keys are from 0, the others below it
		if name := t.String(); name != "" && t != tea.KeyRunes {
			out[name] = t
		}
	}
	return out
}()

// Press is the message that pressing the binding's first key sends.
func (b Binding) Press() tea.KeyMsg {
	name := b.key.Keys()[0]
	switch t, ok := typeOf[name]; {
	case name == " ":
		return tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}
	case ok:
		return tea.KeyMsg{Type: t}
	}
	if letter, alt := strings.CutPrefix(name, "alt+"); alt {
		return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(letter), Alt: true}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name)}
}

// Problems names bindings without help and keys that two bindings share.
func Problems(sets ...[]Binding) []string {
	var out []string
	owner := make(map[string]string)
	for _, set := range sets {
		for _, b := range set {
			if b.Does == "" {
				out = append(out, fmt.Sprintf("%v has no help", b.key.Keys()))
			}
			for _, k := range b.key.Keys() {
				if o, taken := owner[k]; taken {
					out = append(out, fmt.Sprintf("%q is both %q and %q", k, o, b.Does))
				}
				owner[k] = b.Does
			}
		}
	}
	return out
}
