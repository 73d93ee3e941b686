package script

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The text checks run before any parser does. They read the text once, token by
// token, with a stack of open brackets and no recursion, and bound everything that
// makes a parser or a compiler slow, deep or large. They need not know the grammar:
// what they cannot tell apart (is this slash a division?) they refuse.

// what the last token was, which decides what a slash means.
type last uint8

const (
	lastNothing   last = iota // start, operator, opening bracket: an operand follows
	lastOperand               // name, literal, "]" or a template
	lastParen                 // ")" of a call or a group
	lastHeader                // ")" of if, for, while: a statement follows
	lastBrace                 // "}", of which only a parser knows the kind
	lastKeyword               // return, typeof, ...: an operand follows
	lastPostfix               // "x++"
	lastAmbiguous             // await, of, prefix ++: a slash may mean both
)

// bracket is an open one.
type bracket struct {
	kind   byte // '(' '[' '{', or '$' for the ${ of a template
	header bool // the parenthesis of if, for, while
	chain  int  // operators and prefixes since the last separator at this level
	offset int
}

type textScan struct {
	src    string
	lim    TextLimits
	report func(offset, length int, rule, code, message string)
	warn   func(offset, length int, rule, code, message string)

	pos       int
	last      last
	lastWord  string // the word itself if the last token was a name or a keyword
	afterDot  bool
	newline   bool // since the last token
	stack     []bracket
	top       bracket // the body's own level
	chain     int     // sum over all open levels
	tokens    int
	operators int
	strings   int // bytes of all string literals
	regexps   int
	invisible int
	stopped   bool
}

// refuse reports what ends the scan.
func (s *textScan) refuse(offset, length int, code, format string, args ...any) {
	s.report(offset, length, "text", code, fmt.Sprintf(format, args...))
	s.stopped = true
}

// checkText bounds src. It reports what it refuses and returns whether a parser may
// see the text.
func checkText(x lineIndex, lim TextLimits, report, warn func(offset, length int, rule, code, message string)) bool {
	src := x.src
	s := &textScan{src: src, lim: lim, report: report, warn: warn}
	shown := strings.TrimLeftFunc(src, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	switch {
	case len(src) > lim.Bytes:
		s.refuse(0, 1, "INPUT_TOO_LARGE", "the script has %d bytes, more than the %d of this level; hand large data over as a tool's result instead", len(src), lim.Bytes)
	case shown == "":
		s.refuse(0, 1, "EMPTY", "the script is empty; write at least an expression, such as: 1 + 1")
	case strings.HasPrefix(shown, "```"):
		// It would parse, as a template that an empty one tags, and fail when it runs.
		s.refuse(strings.Index(src, "```"), 3, "SYNTAX", "this is a fence of Markdown, no script; leave the lines with ``` out")
	case len(x.starts) > lim.Lines:
		s.refuse(x.starts[lim.Lines], 1, "TOO_MANY_LINES", "the script has %d lines, more than the %d of this level", len(x.starts), lim.Lines)
	}
	if s.stopped {
		return false
	}
	s.characters(x)
	if s.stopped {
		return false
	}
	s.run()
	return !s.stopped
}

// run reads the tokens.
func (s *textScan) run() {
	for !s.stopped && s.pos < len(s.src) {
		c := s.src[s.pos]
		if !operatorChar(c) {
			s.operators = 0
		}
		switch {
		case c == '\n' || c == '\r':
			s.newline = true
			s.pos++
		case c == ' ' || c == '\t':
			s.pos++
		case strings.HasPrefix(s.src[s.pos:], "//"):
			s.operators = 0
			if i := strings.IndexAny(s.src[s.pos:], "\r\n"); i >= 0 {
				s.pos += i
			} else {
				s.pos = len(s.src)
			}
		case strings.HasPrefix(s.src[s.pos:], "/*"):
			s.operators = 0
			i := strings.Index(s.src[s.pos+2:], "*/")
			if i < 0 {
				s.refuse(s.pos, 2, "SYNTAX", "this comment is not closed; add */")
				return
			}
			s.newline = s.newline || strings.ContainsAny(s.src[s.pos:s.pos+2+i], "\r\n")
			s.pos += i + 4
		case c >= utf8.RuneSelf:
			s.foreign()
		default:
			s.token(c)
		}
	}
	if s.stopped {
		return
	}
	if n := len(s.stack); n > 0 {
		open := s.stack[n-1]
		name := string(open.kind)
		if open.kind == '$' {
			name = "${"
		}
		s.refuse(open.offset, len(name), "SYNTAX", "this %s is not closed before the text ends", name)
	}
}

func (s *textScan) level() *bracket {
	if n := len(s.stack); n > 0 {
		return &s.stack[n-1]
	}
	return &s.top
}

// reset forgets what is pending at this level: a new element or statement begins.
func (s *textScan) reset() {
	l := s.level()
	s.chain -= l.chain
	l.chain = 0
}

// link counts one more token that may lie around or below the next.
func (s *textScan) link(offset int) {
	s.level().chain++
	if s.chain++; s.chain > s.lim.Chain {
		s.refuse(offset, 1, "EXPRESSION_TOO_DEEP", "more than %d operators and prefixes hang together here; give the parts names, or end the statements with ;", s.lim.Chain)
	}
}

// token reads one token that begins with the ASCII character c.
func (s *textScan) token(c byte) {
	start := s.pos
	if s.tokens++; s.tokens > s.lim.Tokens {
		s.refuse(start, 1, "TOO_MANY_TOKENS", "the script has more than %d words and operators, the limit of this level; hand large data over as a tool's result instead", s.lim.Tokens)
		return
	}
	newline, afterDot := s.newline, s.afterDot
	s.newline, s.afterDot = false, false
	switch {
	case isWordStart(c):
		for s.pos < len(s.src) && isWord(s.src[s.pos]) {
			s.pos++
		}
		s.word(s.src[start:s.pos], newline, afterDot, start)
	case isDigit(c) || c == '.' && s.pos+1 < len(s.src) && isDigit(s.src[s.pos+1]):
		s.number()
	case c == '"' || c == '\'':
		s.operand(newline)
		s.quoted(c)
	case c == '`':
		s.operand(false)
		s.link(start)
		s.pos++
		s.template(start)
	case c == '/':
		s.slash(start)
	case c == '\\':
		s.refuse(start, 1, "UNICODE_IDENTIFIER", "a backslash outside a string hides the letters of a name; write the name in plain letters")
	case c == '#' || c == '@':
		s.refuse(start, 1, "SYNTAX", "%q has no meaning here: there are no private members and no decorators; use variables and functions", c)
	default:
		s.punctuation(c, newline, start)
	}
}

// operand notes that an operand begins, which after a line's end begins a statement.
func (s *textScan) operand(newline bool) {
	if s.last == lastBrace || newline && (s.last == lastOperand || s.last == lastParen || s.last == lastPostfix) {
		s.reset()
	}
	s.last, s.lastWord = lastOperand, ""
}

func (s *textScan) word(w string, newline, afterDot bool, start int) {
	if afterDot {
		s.last, s.lastWord = lastOperand, ""
		return
	}
	switch w {
	case "else", "catch", "finally", "in", "instanceof":
		s.last = lastKeyword
		s.link(start)
	case "while":
		if s.last != lastBrace {
			s.operand(newline)
		}
		s.last = lastKeyword
		s.link(start)
	case "await", "of", "yield", "let", "async", "get", "set", "static":
		s.operand(newline)
		s.last = lastAmbiguous
		s.link(start)
	case "if", "for", "with", "do", "return", "throw", "typeof", "void", "delete", "new", "case", "const", "var",
		"function", "class", "switch", "try", "break", "continue", "default", "extends", "export", "import":
		s.operand(newline)
		s.last = lastKeyword
		s.link(start)
	default:
		s.operand(newline)
	}
	s.lastWord = w
}

func (s *textScan) push(b bracket) {
	s.stack = append(s.stack, b)
	s.last = lastNothing
	if len(s.stack) > s.lim.Nesting {
		s.refuse(b.offset, 1, "NESTING_OVERFLOW", "brackets are open %d deep here, more than the %d of this level; move the inner part into a function of its own", len(s.stack), s.lim.Nesting)
	}
}

func (s *textScan) pop(c byte) {
	n := len(s.stack)
	if n == 0 {
		s.refuse(s.pos, 1, "SYNTAX", "this %c closes nothing that the script opened", c)
		return
	}
	open := s.stack[n-1]
	if want := closing(open.kind); want != c {
		s.refuse(s.pos, 1, "SYNTAX", "this %c stands where %c must close an open bracket", c, want)
		return
	}
	s.chain -= open.chain
	s.stack = s.stack[:n-1]
	s.pos++
	switch {
	case open.kind == '$':
		s.template(s.pos - 1)
	case c == ']':
		s.last = lastOperand
	case c == '}':
		s.last = lastBrace
	case open.header:
		s.last = lastHeader
	default:
		s.last = lastParen
	}
	s.lastWord = ""
}

func closing(open byte) byte {
	switch open {
	case '(':
		return ')'
	case '[':
		return ']'
	}
	return '}'
}

func (s *textScan) punctuation(c byte, newline bool, start int) {
	switch c {
	case '(', '[', '{':
		if c == '{' && s.last == lastBrace {
			s.reset()
		}
		header := c == '(' && s.last == lastKeyword && (s.lastWord == "if" || s.lastWord == "for" || s.lastWord == "while" || s.lastWord == "with")
		s.link(start)
		s.push(bracket{kind: c, header: header, offset: start})
		s.pos++
	case ')', ']', '}':
		s.pop(c)
	case ';', ',':
		s.reset()
		s.pos++
		s.last = lastNothing
	case '.', ':':
		s.link(start)
		s.pos++
		s.last = lastNothing
		if c == '.' {
			if strings.HasPrefix(s.src[start:], "...") {
				s.pos += 2
			} else {
				s.afterDot = true
			}
		}
	default:
		s.operator(c, newline, start)
	}
}

// operator reads one operator character; what counts is how many stand in a row.
func (s *textScan) operator(c byte, newline bool, start int) {
	if !operatorChar(c) {
		s.refuse(start, 1, "SYNTAX", "%q has no meaning here", c)
		return
	}
	if s.operators++; s.operators > s.lim.Operators {
		s.refuse(start, 1, "OPERATOR_SPAM", "more than %d operator characters in a row; put spaces or parentheses between them", s.lim.Operators)
		return
	}
	s.pos++
	if (c == '+' || c == '-') && s.pos < len(s.src) && s.src[s.pos] == c {
		s.pos++
		s.operators++
		s.link(start)
		if !newline && (s.last == lastOperand || s.last == lastParen) {
			s.last = lastPostfix
		} else {
			s.last = lastAmbiguous
			s.lastWord = ""
		}
		return
	}
	if c == '?' && s.pos+1 < len(s.src) && s.src[s.pos] == '.' && !isDigit(s.src[s.pos+1]) {
		s.pos++
		s.afterDot = true
	}
	s.link(start)
	s.last = lastNothing
}
