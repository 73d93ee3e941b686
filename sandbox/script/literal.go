package script

import "strings"

func (s *textScan) number() {
	start := s.pos
	s.operand(false)
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		signed := (c == '+' || c == '-') && (s.src[s.pos-1] == 'e' || s.src[s.pos-1] == 'E') && !strings.HasPrefix(s.src[start:], "0x") && !strings.HasPrefix(s.src[start:], "0X")
		if !isWord(c) && c != '.' && !signed {
			break
		}
		s.pos++
	}
	if s.pos-start > maxNumber {
		s.refuse(start, s.pos-start, "NUMBER_TOO_LONG", "this number has %d digits, more than %d", s.pos-start, maxNumber)
	}
}

// maxNumber is how long a number may be as written: a BigInt's cost grows with it.
const maxNumber = 1000

func (s *textScan) quoted(q byte) {
	start := s.pos
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch s.src[s.pos] {
		case q:
			s.pos++
			s.text(start)
			return
		case '\\':
			s.pos++
			if s.pos+1 < len(s.src) && s.src[s.pos] == '\r' && s.src[s.pos+1] == '\n' {
				s.pos++
			}
		case '\n', '\r':
			s.refuse(start, 1, "SYNTAX", "this string is not closed before its line ends; close it with %c, or use a template: `…`", q)
			return
		}
	}
	s.refuse(start, 1, "SYNTAX", "this string is not closed; add %c", q)
}

// text counts a string literal that ends at the scan's position.
func (s *textScan) text(start int) {
	n := s.pos - start
	s.strings += n
	switch {
	case n > s.lim.StringBytes:
		s.refuse(start, 1, "STRING_TOO_LONG", "this string has %d bytes, more than the %d of this level; hand large data over as a tool's result instead", n, s.lim.StringBytes)
	case s.strings > s.lim.StringTotal:
		s.refuse(start, 1, "STRING_TOTAL", "the strings of the script have more than %d bytes, the limit of this level; hand large data over as a tool's result instead", s.lim.StringTotal)
	}
}

// template reads the characters of a template up to its end or its next ${.
func (s *textScan) template(start int) {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '`':
			s.pos++
			s.text(start)
			s.last = lastOperand
			return
		case c == '$' && s.pos+1 < len(s.src) && s.src[s.pos+1] == '{':
			s.text(start)
			s.push(bracket{kind: '$', offset: s.pos})
			s.pos += 2
			return
		case c == '\\':
			s.pos += 2
		default:
			s.pos++
		}
	}
	s.refuse(start, 1, "SYNTAX", "this template is not closed; add `")
}

// slash decides between a division and a regular expression.
func (s *textScan) slash(start int) {
	switch s.last {
	case lastOperand, lastParen, lastPostfix:
		s.operator('/', false, start)
		return
	case lastBrace, lastAmbiguous:
		s.refuse(start, 1, "AMBIGUOUS_SLASH", "a slash here may begin a regular expression or divide; put the expression in parentheses")
		return
	}
	class := false
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == '\n' || c == '\r':
			s.refuse(start, 1, "SYNTAX", "this regular expression is not closed before its line ends; add /")
			return
		case c == '\\':
			s.pos++
			if s.pos < len(s.src) && (s.src[s.pos] == '\n' || s.src[s.pos] == '\r') {
				s.pos--
			}
		case c == '[':
			class = true
		case c == ']':
			class = false
		case c == '/' && !class:
			s.pos++
			for s.pos < len(s.src) && isWord(s.src[s.pos]) {
				s.pos++
			}
			s.last, s.lastWord = lastOperand, ""
			n := s.pos - start
			if s.regexps++; s.regexps > s.lim.Regexps {
				s.refuse(start, n, "REGEX_COUNT", "more than %d regular expressions, the limit of this level; give one a name and use it again", s.lim.Regexps)
			} else if n > s.lim.RegexpBytes {
				s.refuse(start, n, "REGEX_TOO_LONG", "this regular expression has %d bytes, more than the %d of this level", n, s.lim.RegexpBytes)
			}
			return
		}
	}
	s.refuse(start, 1, "SYNTAX", "this regular expression is not closed; add /")
}
