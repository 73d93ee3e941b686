package tui

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"enclave/tui/screen"
	"enclave/tui/theme"
	"enclave/tui/tour"
	"enclave/wire/api"
)

// Options are what a person chose.
type Options struct {
	ReadOnly bool
	ASCII    bool       // no glyph beyond ASCII
	NoColor  bool       // whatever the terminal can do
	NoMouse  bool       // leave the mouse to the terminal
	Tour     tour.Guide // leads through a demo; nil is no tour
	In       io.Reader
	Out      io.Writer
}

// Run shows the UI until it is left or ctx ends. The terminal is put back as it was,
// also after a panic, which is then the error.
func Run(ctx context.Context, c screen.Client, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := lipgloss.NewRenderer(o.Out)
	if o.NoColor {
		r.SetColorProfile(termenv.Ascii)
	}
	in := make(chan api.AuditRecord, batch)
	m := New(Config{Client: c, Theme: theme.New(r, o.ASCII), ReadOnly: o.ReadOnly, Now: time.Now(), Tour: o.Tour, records: in})
	fell := new(fall)
	// Signals end ctx. With a handler of its own besides, bubbletea can wait for itself for
	// ever: the handler sends to a loop that ctx has ended.
	how := []tea.ProgramOption{tea.WithContext(ctx), tea.WithoutSignalHandler(), tea.WithAltScreen(), tea.WithInput(o.In), tea.WithOutput(o.Out)}
	if !o.NoMouse {
		how = append(how, tea.WithMouseCellMotion())
	}
	p := tea.NewProgram(guarded{m, fell}, how...)
	fell.quit = p.Quit
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(in)
		defer fell.catch()
		follow(ctx, c, in, func(err error) { p.Send(lost{err}) })
	})
	_, err := p.Run()
	cancel()
	wg.Wait()
	switch {
	case fell.err != nil:
		return fell.err
	case errors.Is(err, tea.ErrProgramKilled) && context.Cause(ctx) != nil && !errors.Is(err, tea.ErrProgramPanic):
		return nil // it was told to end
	}
	return err
}
