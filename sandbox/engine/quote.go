package engine

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// text appends a string of the engine. Halves of surrogate pairs, which a Go string
// cannot hold, are written as escapes.
func (e *encoder) text(s goja.String) error {
	n := s.Length()
	if err := e.fits(n + 2); err != nil {
		return err
	}
	g := s.String()
	if len(g) == n || !strings.ContainsRune(g, utf8.RuneError) {
		e.buf = appendQuoted(e.buf, g)
		return e.fits(0)
	}
	e.buf = append(e.buf, '"')
	for i := 0; i < n; i++ {
		c := s.CharAt(i)
		switch {
		case c >= 0xD800 && c < 0xDC00 && i+1 < n && s.CharAt(i+1) >= 0xDC00 && s.CharAt(i+1) < 0xE000:
			r := (rune(c)-0xD800)<<10 + rune(s.CharAt(i+1)) - 0xDC00 + 0x10000
			e.buf = utf8.AppendRune(e.buf, r)
			i++
		case c >= 0xD800 && c < 0xE000:
			e.buf = fmt.Appendf(e.buf, `\u%04x`, c)
		default:
			e.buf = appendEscaped(e.buf, string(rune(c)))
		}
	}
	e.buf = append(e.buf, '"')
	return e.fits(0)
}

func appendQuoted(b []byte, s string) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

const hex = "0123456789abcdef"

func appendEscaped(b []byte, s string) []byte {
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(b, s[from:]...)
}
