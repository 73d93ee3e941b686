package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress tells on stderr how far a long work is: nothing in its first second, then a
// bar on a terminal and a line now and then elsewhere.
type progress struct {
	w        io.Writer
	what     string
	terminal bool

	began, told time.Time
	drawn       bool
}

const (
	progressAfter = time.Second
	progressDraw  = 100 * time.Millisecond
	progressLine  = 5 * time.Second
	progressWidth = 30
)

// progress begins; under --json it says nothing.
func (a *app) progress(what string) *progress {
	p := &progress{w: a.raw.Err, what: what, terminal: a.ErrTerminal, began: time.Now()}
	if a.json {
		p.w = io.Discard
	}
	return p
}

// at is given how much is done, in any unit.
func (p *progress) at(done, total int64) { p.tell(done, total, time.Now()) }

func (p *progress) tell(done, total int64, now time.Time) {
	every := progressLine
	if p.terminal {
		every = progressDraw
	}
	if total <= 0 || now.Sub(p.began) < progressAfter || now.Sub(p.told) < every {
		return
	}
	p.told, p.drawn = now, true
	part := min(float64(done)/float64(total), 1)
	if !p.terminal {
		fmt.Fprintf(p.w, "%s: %.0f%%\n", p.what, 100*part)
		return
	}
	full := int(part * progressWidth)
	fmt.Fprintf(p.w, "\r%s [%s%s] %3.0f%%", p.what, strings.Repeat("#", full), strings.Repeat(".", progressWidth-full), 100*part)
}

// end takes the bar away.
func (p *progress) end() {
	if p.drawn && p.terminal {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", len(p.what)+progressWidth+10))
	}
}
