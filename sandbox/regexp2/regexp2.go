// Package regexp2 stands in for the backtracking engine of that path, to which the
// interpreter turns for what Go's regular expressions do not offer it: a search from within a
// text, as every second match of a loop is, and matches in texts beyond ASCII. Here both run
// on Go's engine too, in time linear in the text (RE2; Cox, "Regular Expression Matching Can
// Be Simple And Fast", 2007), so that no pattern of a script backtracks.
//
// It has the names that the interpreter uses and no others. What needs backtracking,
// look-around and back-references, does not compile.
package regexp2

import (
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/dop251/goja/parser"
)

// RegexOptions are the flags of a pattern, in JavaScript's meaning.
type RegexOptions int

// The options.
const (
	ECMAScript RegexOptions = 1 << iota // always so
	Multiline
	Singleline
	IgnoreCase
	Unicode
)

// Regexp is a compiled pattern. It is safe for concurrent use.
type Regexp struct {
	first *regexp.Regexp // searches from the beginning of a text
	later *regexp.Regexp // searches behind the first character; its group 1 is the match
}

// Compile compiles a pattern of JavaScript.
func Compile(pattern string, options RegexOptions) (*Regexp, error) {
	text, err := parser.TransformRegExp(pattern, options&Singleline != 0, options&Unicode != 0)
	if err != nil {
		return nil, err
	}
	flags := ""
	for _, o := range []struct {
		option RegexOptions
		flag   string
	}{{Multiline, "m"}, {Singleline, "s"}, {IgnoreCase, "i"}} {
		if options&o.option != 0 {
			flags += o.flag
		}
	}
	if flags != "" {
		text = fmt.Sprintf("(?%s:%s)", flags, text)
	}
	re := &Regexp{}
	if re.first, err = regexp.Compile(text); err != nil {
		return nil, err
	}
	// Go's engine searches whole texts only. Whether a match may begin at a place depends on
	// what is before it by one character (^, \b, \B), so the text that is searched begins with
	// that one. The shortest text that may be skipped then gives the leftmost match, and the
	// pattern's own preferences decide which of those, as in a search.
	re.later, err = regexp.Compile(`\A(?s:.)(?s:.*?)(` + text + `)`)
	return re, err
}

// Match is a match, and where to go on behind it.
type Match struct {
	text   []rune
	groups []Group
}

// Group is what a pair of parentheses matched, the first all of it. Captures is empty if
// they matched nothing.
type Group struct {
	Capture
	Name     string
	Captures []Capture
}

// Capture is a part of a text, in runes.
type Capture struct{ RuneIndex, RuneLength int }

// Groups returns all groups.
func (m *Match) Groups() []Group { return m.groups }

// FindRunesMatchStartingAt returns the leftmost match in the text that begins at a place or
// behind it, nil if there is none.
func (re *Regexp) FindRunesMatchStartingAt(text []rune, at int) (*Match, error) {
	if at < 0 || at > len(text) {
		return nil, errors.New("the place is not in the text")
	}
	rx, from, outer := re.first, 0, 0
	if at > 0 {
		rx, from, outer = re.later, at-1, 1
	}
	found := rx.FindReaderSubmatchIndex(&reader{text[from:]})
	if found == nil {
		return nil, nil
	}
	found = found[2*outer:]
	m, names := &Match{text: text, groups: make([]Group, len(found)/2)}, re.first.SubexpNames()
	for i := range m.groups {
		m.groups[i].Name = names[i]
		if begin, end := found[2*i], found[2*i+1]; begin >= 0 {
			c := Capture{from + begin, end - begin}
			m.groups[i].Capture, m.groups[i].Captures = c, []Capture{c}
		}
	}
	return m, nil
}

// FindNextMatch returns the match behind m: from its end, or from one further if it is empty.
func (re *Regexp) FindNextMatch(m *Match) (*Match, error) {
	at := m.groups[0].RuneIndex + m.groups[0].RuneLength
	if m.groups[0].RuneLength == 0 {
		if at++; at > len(m.text) {
			return nil, nil
		}
	}
	return re.FindRunesMatchStartingAt(m.text, at)
}

// reader reads runes whose size is one each, so that the engine counts in runes.
type reader struct{ runes []rune }

func (r *reader) ReadRune() (rune, int, error) {
	if len(r.runes) == 0 {
		return 0, 0, io.EOF
	}
	next := r.runes[0]
	r.runes = r.runes[1:]
	return next, 1, nil
}
