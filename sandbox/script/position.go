package script

import (
	"sort"
	"unicode/utf8"
)

// lineIndex finds lines and columns in the user's text. A line ends at LF, CRLF or
// CR, as the parser counts them; the text checks refuse the two Unicode separators.
type lineIndex struct {
	src    string
	starts []int // offset of each line's first byte
}

func indexLines(src string) lineIndex {
	starts := make([]int, 1, 16)
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '\n':
			starts = append(starts, i+1)
		case '\r':
			if i+1 < len(src) && src[i+1] == '\n' {
				i++
			}
			starts = append(starts, i+1)
		}
	}
	return lineIndex{src, starts}
}

// at returns the line and the column, in characters, of a byte offset. Offsets
// outside the text count as its first or last.
func (x lineIndex) at(offset int) (line, column int) {
	offset = min(max(offset, 0), len(x.src))
	i := sort.Search(len(x.starts), func(i int) bool { return x.starts[i] > offset }) - 1
	return i + 1, utf8.RuneCountInString(x.src[x.starts[i]:offset]) + 1
}

// offset is the byte offset of a line and a column in bytes, both from 1.
func (x lineIndex) offset(line, column int) int {
	switch {
	case line < 1:
		return 0
	case line > len(x.starts):
		return len(x.src)
	}
	end := len(x.src)
	if line < len(x.starts) {
		end = x.starts[line] - 1 // the line's last byte belongs to its break
	}
	return min(x.starts[line-1]+max(column, 1)-1, end)
}

// charIndex counts characters in the user's text.
type charIndex struct {
	src, flat string // flat has one byte for each character, and its line breaks
	before    []int  // characters before every charGap-th byte; nil if each is one byte
}

const charGap = 64

func indexChars(src string) charIndex {
	if utf8.RuneCountInString(src) == len(src) {
		return charIndex{src: src, flat: src}
	}
	x := charIndex{src: src, before: make([]int, 0, len(src)/charGap+1)}
	flat := make([]byte, 0, len(src))
	for i, r := range src {
		for len(x.before)*charGap <= i {
			x.before = append(x.before, len(flat))
		}
		if r >= utf8.RuneSelf {
			r = 'x'
		}
		flat = append(flat, byte(r))
	}
	x.flat = string(flat)
	return x
}

// at is how many characters begin before a byte offset.
func (x charIndex) at(offset int) int {
	offset = min(max(offset, 0), len(x.src))
	if x.before == nil {
		return offset
	}
	i := min(offset/charGap, len(x.before)-1)
	from := i * charGap
	for from < offset && !utf8.RuneStart(x.src[from]) {
		from++
	}
	return x.before[i] + utf8.RuneCountInString(x.src[from:offset])
}
