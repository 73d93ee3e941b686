// Package theme draws by meaning: a screen says what a text is (good, a warning, a
// heading), never which colour. Colour only repeats what a word or a glyph already says,
// so every profile down to none, and the ASCII one, shows the same.
//
// Every text that comes from outside passes Clean: a system chooses its own hostname,
// and an escape sequence in it must not reach the administrator's terminal.
package theme

import (
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"enclave/wire"
)

// Tone is what a text means.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Dim
	Good
	Warn
	Bad
	Title
	Chosen
	tones
)

// Theme holds one style a tone. It is a value and safe to share.
type Theme struct {
	ascii  bool
	styles [tones]lipgloss.Style
}

// New makes the theme for a renderer, whose profile says what colours there are.
// The colours are the sixteen of every terminal, so a person's own palette decides.
func New(r *lipgloss.Renderer, ascii bool) Theme {
	t := Theme{ascii: ascii}
	for i := range t.styles {
		t.styles[i] = r.NewStyle()
	}
	for tone, colour := range map[Tone]string{Dim: "8", Good: "2", Warn: "3", Bad: "1"} {
		t.styles[tone] = t.styles[tone].Foreground(lipgloss.Color(colour))
	}
	t.styles[Title] = t.styles[Title].Bold(true)
	t.styles[Chosen] = t.styles[Chosen].Bold(true).Reverse(true)
	return t
}

// Paint gives s its tone.
func (t Theme) Paint(tone Tone, s string) string {
	if tone == Plain || s == "" {
		return s
	}
	return t.styles[tone].Inline(true).Render(s)
}

// Screen is the last step of a frame: in the ASCII profile each glyph becomes the one
// character that stands for it, so nothing moves.
func (t Theme) Screen(s string) string {
	if !t.ascii {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x80:
			return r
		case strings.ContainsRune("●✓", r):
			return '*'
		}
		if to, ok := plain[r]; ok {
			return to
		}
		return '?'
	}, s)
}

var plain = map[rune]rune{'×': 'x', '○': 'o', '✗': 'x', '▸': '>', '→': '>', '←': '<', '…': '~', '│': '|', '─': '-', '·': '.', '█': '#', '░': '.', '◌': '?', '↓': 'v', '↑': '^', '–': '-', '—': '-', '├': '|', '└': '`'}

// Clean makes text from outside safe for a terminal, on one line.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if wire.Steers(r) || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
}

// Fit cuts or fills s to exactly w cells.
func Fit(s string, w int) string {
	if w <= 0 {
		return ""
	}
	n := ansi.StringWidth(s)
	if n > w {
		s = ansi.Truncate(s, w, "…")
		n = ansi.StringWidth(s)
	}
	return s + strings.Repeat(" ", w-n)
}

// Box cuts or fills lines to exactly w by h.
func Box(lines []string, w, h int) string {
	if over := len(lines) - h + 1; over > 1 && h > 1 {
		lines = append(lines[:h-1:h-1], "  ↓ "+wire.Count(over, "more line"))
	}
	var b strings.Builder
	for i := range h {
		if i > 0 {
			b.WriteByte('\n')
		}
		line := ""
		if i < len(lines) {
			line = lines[i]
		}
		b.WriteString(Fit(line, w))
	}
	return b.String()
}

// Wrap breaks s into lines of at most w cells, at spaces where it can: a flag or an
// identifier that is broken at its hyphens cannot be copied.
func Wrap(s string, w int) []string {
	const unbreaking = "\u2011" // as wide as what it stands for
	s = ansi.Wrap(strings.ReplaceAll(s, "-", unbreaking), max(w, 1), " ")
	return strings.Split(strings.ReplaceAll(s, unbreaking, "-"), "\n")
}
