package tui

import (
	"fmt"
	"runtime/debug"
	"sync"

	tea "github.com/charmbracelet/bubbletea"
)

// Panic is what Run returns when something in it panicked: the terminal is as it was by
// then, so what it says can be read.
type Panic struct {
	Value any
	Stack []byte
}

// Error names the value; the stack is for who mends it.
func (p *Panic) Error() string { return fmt.Sprintf("the terminal UI broke: %v", p.Value) }

// guarded is the model with its panics caught: in Update and View, which run on the
// program's loop, and in commands, which run beside it. The first one ends the program in
// order. A stack that is printed by whoever catches it later would be lost with the
// alternate screen.
type guarded struct {
	*Model
	fell *fall
}

// fall keeps the first panic.
type fall struct {
	quit func() // ends the program; does not block
	once sync.Once
	err  *Panic // valid once the program has ended
}

// catch is deferred by what is guarded.
func (f *fall) catch() {
	if v := recover(); v != nil {
		stack := debug.Stack()
		f.once.Do(func() {
			f.err = &Panic{v, stack}
			go f.quit() // the loop may be what panicked, and takes no message then
		})
	}
}

// Init begins.
func (g guarded) Init() tea.Cmd { return g.fell.wrap(g.Model.Init()) }

// Update routes a message.
func (g guarded) Update(msg tea.Msg) (m tea.Model, cmd tea.Cmd) {
	defer g.fell.catch()
	m = g
	_, cmd = g.Model.Update(msg)
	return m, g.fell.wrap(cmd)
}

// View draws the frame.
func (g guarded) View() (frame string) {
	defer g.fell.catch()
	return g.Model.View()
}

// wrap guards a command, and those that it is made of.
func (f *fall) wrap(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() (msg tea.Msg) {
		defer f.catch()
		msg = cmd()
		if batch, ok := msg.(tea.BatchMsg); ok {
			for i := range batch {
				batch[i] = f.wrap(batch[i])
			}
		}
		return msg
	}
}
