package terminal

import (
	"fmt"
	"html"
	"strings"

	"github.com/hinshun/vt10x"
)

// The picture of a screen: cells of this size in pixels, with a margin around them.
const (
	cellW, cellH = 8.4, 18.0
	margin       = 14.0
	fontSize     = 14
)

// palette are the sixteen colours of a terminal, and the two that it has by default.
var palette = map[vt10x.Color]string{
	vt10x.DefaultFG: "#d0d4da", vt10x.DefaultBG: "#16181d",
	0: "#16181d", 1: "#e0606a", 2: "#7fbf6a", 3: "#d9b25c", 4: "#6a9fe0", 5: "#b583d6", 6: "#5cb8b2", 7: "#d0d4da",
	8: "#7a808c", 9: "#f07f88", 10: "#98d684", 11: "#ecc97a", 12: "#8ab8f0", 13: "#caa0e6", 14: "#7ad0ca", 15: "#ffffff",
}

func colour(c vt10x.Color, otherwise vt10x.Color) string {
	if s, ok := palette[c]; ok {
		return s
	}
	return palette[otherwise]
}

// bold is vt10x's bit of Glyph.Mode, which it does not export.
const bold = 1 << 2

// SVG draws what is on the screen. The same screen gives the same bytes.
func (t *Terminal) SVG(title string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return draw(title, t.w, t.h, t.vt.Cell)
}

func draw(title string, w, h int, cell func(x, y int) vt10x.Glyph) string {
	var b strings.Builder
	width, height := float64(w)*cellW+2*margin, float64(h)*cellH+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", palette[vt10x.DefaultBG])
	fmt.Fprintf(&b, `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="%d" xml:space="preserve">`+"\n", fontSize)
	for y := range h {
		for x := 0; x < w; {
			first := cell(x, y)
			var text strings.Builder
			n := 0
			for ; x+n < w; n++ {
				g := cell(x+n, y)
				if g.FG != first.FG || g.BG != first.BG || g.Mode&bold != first.Mode&bold {
					break
				}
				if g.Char == 0 {
					g.Char = ' '
				}
				text.WriteRune(g.Char)
			}
			cells(&b, first, text.String(), x, y, n)
			x += n
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// cells draws cells of one style. Its length is given, so that no font moves a column.
func cells(b *strings.Builder, g vt10x.Glyph, text string, x, y, n int) {
	px, py := margin+float64(x)*cellW, margin+float64(y)*cellH
	if bg := colour(g.BG, vt10x.DefaultBG); bg != palette[vt10x.DefaultBG] {
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", px, py, float64(n)*cellW, cellH, bg)
	}
	trimmed := strings.TrimRight(text, " ")
	if trimmed == "" {
		return
	}
	weight := ""
	if g.Mode&bold != 0 {
		weight = ` font-weight="bold"`
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" textLength="%.1f" lengthAdjust="spacingAndGlyphs" fill="%s"%s>%s</text>`+"\n",
		px, py+cellH-5, float64(len([]rune(trimmed)))*cellW, colour(g.FG, vt10x.DefaultFG), weight, html.EscapeString(trimmed))
}
