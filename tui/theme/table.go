package theme

import "strings"

// Column is a column of a table. Columns give way from the right: one that no longer
// fits at its least width is left out, and what room is left goes to those that grow.
type Column struct {
	Head string
	Min  int // cells; the first column is always shown
	Max  int // cells it may grow to; 0 stays at Min
}

// Widths shares w among columns; 0 leaves a column out. Two cells stand between columns.
func Widths(columns []Column, w int) []int {
	out := make([]int, len(columns))
	left := w
	for i, c := range columns {
		need := c.Min
		if i > 0 {
			need += 2
		}
		if need > left && i > 0 {
			break
		}
		out[i] = min(c.Min, w)
		left -= need
	}
	for i, c := range columns {
		if out[i] > 0 && c.Max > c.Min && left > 0 {
			grow := min(c.Max-c.Min, left)
			out[i] += grow
			left -= grow
		}
	}
	return out
}

// Row lays cells out in widths.
func Row(widths []int, cells ...string) string {
	var b strings.Builder
	for i, c := range cells {
		if i >= len(widths) || widths[i] == 0 {
			continue
		}
		if i > 0 {
			b.WriteString("  ")
		}
		b.WriteString(Fit(c, widths[i]))
	}
	return b.String()
}
