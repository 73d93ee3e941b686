package policy

import (
	"fmt"
	"strings"
	"unicode"

	"enclave/wire"
	"enclave/wire/api"
)

// Sizes of a matrix: at 24 systems a line has 94 columns.
const (
	minMatrix  = 3
	maxMatrix  = 24
	nameColumn = 16
)

// marks name what may be opened, as the lines below a matrix say; the last stands for
// all that are left.
const marks = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*"

// matrix draws senders as rows and receivers as columns, each cell what the one may open
// at the other. It is empty when there are too few systems for it, or too many.
func matrix(g api.Graph) string {
	if len(g.Nodes) < minMatrix || len(g.Nodes) > maxMatrix {
		return ""
	}
	column := make(map[wire.SystemID]int)
	cells := make([][]byte, len(g.Nodes))
	for i, n := range g.Nodes {
		column[n.ID] = i
		cells[i] = []byte(strings.Repeat(".", len(g.Nodes)))
	}
	var legend []string
	known := make(map[string]int)
	draw(g, "", "", func(*strings.Builder, api.Node) {}, func(_ *strings.Builder, from, to, label string) {
		n, ok := known[label]
		if !ok {
			n = min(len(known), len(marks)-1)
			known[label] = n
			if n == len(marks)-1 {
				label = "see below"
			}
			if len(legend) <= n {
				legend = append(legend, label)
			}
		}
		row, okRow := column[wire.SystemID(from)]
		col, okCol := column[wire.SystemID(to)]
		if okRow && okCol {
			cells[row][col] = marks[n]
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%*s", 4+nameColumn, "")
	for i := range g.Nodes {
		fmt.Fprintf(&b, "%3d", i+1)
	}
	b.WriteByte('\n')
	for i, n := range g.Nodes {
		name := []rune(oneLine(string(n.ID)))
		if n.Name != "" {
			name = []rune(oneLine(n.Name))
		}
		if len(name) > nameColumn {
			name = append(name[:nameColumn-1], '~')
		}
		fmt.Fprintf(&b, "%3d %-*s", i+1, nameColumn, string(name))
		for j, c := range cells[i] {
			if i == j {
				c = '-'
			}
			fmt.Fprintf(&b, "%3c", c)
		}
		b.WriteByte('\n')
	}
	b.WriteString("rows open to columns\n")
	for i, l := range legend {
		fmt.Fprintf(&b, "%3c %s\n", marks[i], l)
	}
	b.WriteByte('\n')
	return b.String()
}

// oneLine keeps what a stored name may hold from moving the cursor of a terminal or
// ending a line of a document.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
