package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"enclave/wire"
)

// maxQuestion is the size in bytes of one question.
const maxQuestion = 32 << 20

// documents splits a stream into JSON objects: one, laid out over any number of lines,
// or one a line. A broken one must not take its neighbours along. Once an object has
// stood on one line the stream is one of lines, and an object may only run over lines
// that look like more of it. Before that, an object that fails may have swallowed the
// next one, so reading resumes at the first line behind its own that begins with a brace.
type documents struct {
	r       *bufio.Reader
	lines   [][]byte // read, not yet used
	skip    int
	byLines bool // an object has stood on one line
}

func newDocuments(r io.Reader) *documents { return &documents{r: bufio.NewReaderSize(r, 64<<10)} }

// line returns the i-th line that is not used yet, reading as far as it must.
func (d *documents) line(i int) ([]byte, error) {
	for len(d.lines) <= i {
		var line []byte
		for {
			part, err := d.r.ReadSlice('\n')
			if len(line) <= maxQuestion { // beyond that it is refused and need not be kept
				line = append(line, part...)
			}
			if err == bufio.ErrBufferFull {
				continue
			}
			if err != nil && (err != io.EOF || len(line) == 0) {
				return nil, err
			}
			break
		}
		d.lines = append(d.lines, line)
	}
	return d.lines[i], nil
}

// next returns the next object, or what there is of a broken one and the problem.
func (d *documents) next() (doc []byte, bad *wire.Problem, err error) {
	if err := d.begin(); err != nil {
		return nil, nil, err
	}
	var s scanner
	for n := 0; ; n++ {
		line, err := d.line(n)
		switch {
		case err != nil && err != io.EOF:
			return nil, nil, err
		case err == io.EOF, n > 0 && d.byLines && !isRest(line):
			return doc, d.give(n, "the document ends too early"), nil
		}
		if doc = append(doc, line...); len(doc) > maxQuestion {
			return nil, d.give(n+1, fmt.Sprintf("a question has at most %d bytes", maxQuestion)), nil
		}
		switch s.scan(line) {
		case whole:
			d.lines, d.skip, d.byLines = d.lines[n+1:], nothing, d.byLines || n == 0
			return doc, nil, nil
		case broken:
			return doc, d.give(n+1, s.why), nil
		}
	}
}

// isRest reports whether a line looks like a later line of an object.
func isRest(line []byte) bool { return bytes.ContainsAny(line[:1], " \t\r\n}]") }

// begin drops lines until one on which an object may begin.
func (d *documents) begin() error {
	for {
		line, err := d.line(0)
		if err != nil {
			return err
		}
		blank := len(bytes.TrimSpace(line)) == 0
		if !blank && (d.skip == nothing || line[0] == '{' || (d.skip == rest && !isRest(line))) {
			return nil
		}
		d.lines = d.lines[1:]
	}
}

// give refuses the object that failed on its first n lines.
func (d *documents) give(n int, why string) *wire.Problem {
	switch {
	case d.byLines || n <= 1:
		d.lines, d.skip = d.lines[min(n, len(d.lines)):], rest
	default:
		d.lines, d.skip = d.lines[1:], toBrace
	}
	return &wire.Problem{Message: why}
}

// What begin drops besides blank lines.
const (
	nothing = iota
	rest    // what looks like more of a broken object
	toBrace // everything up to a brace at the start of a line
)

type progress int

const (
	part progress = iota
	whole
	broken
)

// scanner follows brackets and strings, no more: whether an object is JSON is for
// wire.CheckJSON, but where it ends must be known before.
type scanner struct {
	open []byte // brackets that wait for their other half
	why  string
}

func (s *scanner) fail(why string) progress { s.why = why; return broken }

// scan takes one line. A string never spans lines in JSON, which is what lets a broken
// line be told from a long one.
func (s *scanner) scan(line []byte) progress {
	inString := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
			if len(s.open) == 0 {
				return s.fail("want an object")
			}
		case inString:
		case c == '{' || c == '[':
			if c == '[' && len(s.open) == 0 {
				return s.fail("want an object")
			}
			if s.open = append(s.open, c); len(s.open) > wire.MaxJSONDepth {
				return s.fail(fmt.Sprintf("nested deeper than %d", wire.MaxJSONDepth))
			}
		case c == '}' || c == ']':
			n := len(s.open) - 1
			if n < 0 || s.open[n] != c-2 {
				return s.fail("brackets do not match")
			}
			if s.open = s.open[:n]; n == 0 {
				return whole // the rest of the line is CheckJSON's to judge
			}
		case len(s.open) == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return s.fail("want an object")
		}
	}
	if inString {
		return s.fail("a string ends with its line")
	}
	return part
}
