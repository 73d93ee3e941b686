package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"unicode/utf16"
	"unicode/utf8"

	"enclave/wire"
)

// guard stands between every command and the terminal: what steers one passes neither as
// text nor as JSON, whoever chose it (a system its hostname, a tool its error, a hostile
// server its answer), and whether or not the command has thought of it. In text it is
// replaced; in a document it is spelt with escapes, so that the document stays the same.
type guard struct {
	w        io.Writer
	document func() bool // JSON is written

	// mu guards what follows, and keeps writes whole, also while they wait: loggers and
	// consoles of several goroutines share one guard.
	mu  sync.Mutex
	cut []byte // the beginning of a character whose end has not come
	buf []byte // reused
	err error  // of the first write that failed
}

// newGuard guards w. document is asked at each write.
func newGuard(w io.Writer, document func() bool) *guard { return &guard{w: w, document: document} }

// Write implements io.Writer. A character that is cut by the end of b waits for the rest.
func (g *guard) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.cut) == 0 && !bytes.ContainsFunc(b, suspect) {
		n, err := g.w.Write(b)
		g.note(err)
		return n, err
	}
	in, document := b, g.document()
	if len(g.cut) > 0 {
		in = append(g.cut, b...)
		g.cut = nil
	}
	out := g.buf[:0]
	for len(in) > 0 {
		if !utf8.FullRune(in) {
			g.cut = bytes.Clone(in)
			break
		}
		r, n := utf8.DecodeRune(in)
		switch {
		case r == '\n' || r == '\t' || !wire.Steers(r) && (r != utf8.RuneError || n > 1):
			out = append(out, in[:n]...)
		case document && r != utf8.RuneError:
			out = appendEscape(out, r)
		default:
			out = utf8.AppendRune(out, utf8.RuneError)
		}
		in = in[n:]
	}
	g.buf = out
	if _, err := g.w.Write(out); err != nil {
		g.note(err)
		return 0, err
	}
	return len(b), nil
}

// note keeps the first error; mu is held.
func (g *guard) note(err error) {
	if g.err == nil {
		g.err = err
	}
}

// lost is why not all of the output arrived, or nil. What prints text looks at no error,
// and a key that is shown once, or a file that a shell writes, must not be lost without a
// word. A reader that has gone away has what it wanted.
func (g *guard) lost() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if errors.Is(g.err, syscall.EPIPE) {
		return nil
	}
	return g.err
}

// suspect is cheap: what most output consists of is not.
func suspect(r rune) bool { return r == utf8.RuneError || r != '\n' && r != '\t' && wire.Steers(r) }

// flush ends the output: a character whose end never came is none.
func (g *guard) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.cut) > 0 {
		g.cut = nil
		_, err := fmt.Fprint(g.w, string(utf8.RuneError))
		g.note(err)
	}
}

// appendEscape spells r as JSON does in a string.
func appendEscape(b []byte, r rune) []byte {
	if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
		return fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}

func always() bool { return true }
