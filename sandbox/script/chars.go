package script

import (
	"fmt"
	"unicode/utf8"
)

// bidirectional reports the controls that make a text read differently from what it
// is (Trojan Source, CVE-2021-42574). Marks that only hint at a direction pass.
func bidirectional(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// invisible reports characters that take no room. Joiners (200C, 200D) are absent:
// Persian and emoji need them.
func invisible(r rune) bool {
	switch r {
	case 0x200b, 0x2060, 0xfeff, 0x00ad, 0x034f:
		return true
	}
	return r >= 0xe0000 && r <= 0xe007f // tags, which spell hidden ASCII
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$'
}

func isWord(c byte) bool { return isWordStart(c) || isDigit(c) }

// operatorChar reports the characters that OPERATOR_SPAM counts.
func operatorChar(c byte) bool {
	switch c {
	case '+', '-', '*', '/', '%', '=', '!', '<', '>', '&', '|', '^', '~', '?':
		return true
	}
	return false
}

// characters checks what holds for every character, wherever it stands.
func (s *textScan) characters(x lineIndex) {
	for i, start := range x.starts {
		end := len(s.src)
		if i+1 < len(x.starts) {
			end = x.starts[i+1]
		}
		if end-start > s.lim.LineBytes+2 {
			s.refuse(start, 1, "LINE_TOO_LONG", "line %d has %d bytes, more than the %d of this level; break it", i+1, end-start, s.lim.LineBytes)
			return
		}
	}
	for i := 0; i < len(s.src); {
		if c := s.src[i]; c < utf8.RuneSelf {
			if c == 0 {
				s.refuse(i, 1, "NULL_BYTE", "the script has a NUL byte; write \\u0000 in a string where one is meant")
				return
			}
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
				s.refuse(i, 1, "CONTROL_CHARACTER", "the script has the control character U+%04X; write \\u%04x in a string where it is meant", c, c)
				return
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s.src[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			s.refuse(i, 1, "NOT_UTF8", "the script is not valid UTF-8 here; save it as UTF-8")
			return
		case bidirectional(r):
			s.refuse(i, n, "BIDI_ATTACK", "U+%04X changes the direction in which the text reads, so that it does not say what it shows; write \\u%04x in a string where it is meant", r, r)
			return
		case r == 0x2028 || r == 0x2029:
			s.refuse(i, n, "LINE_SEPARATOR", "U+%04X ends a line that no editor shows as ended; write \\u%04x in a string where it is meant", r, r)
			return
		case invisible(r) && !(r == 0xfeff && i == 0):
			if s.invisible++; s.invisible > s.lim.InvisibleMost {
				s.refuse(i, n, "INVISIBLE_CHARACTERS", "more than %d invisible characters (here U+%04X); write \\u%04x in a string where one is meant", s.lim.InvisibleMost, r, r)
				return
			}
			if s.invisible == 1 {
				s.warn(i, n, "text", "INVISIBLE_CHARACTERS", fmt.Sprintf("U+%04X is invisible; write \\u%04x where it is meant", r, r))
			}
		}
		i += n
	}
}

// foreign handles a character beyond ASCII outside strings and comments.
func (s *textScan) foreign() {
	r, n := utf8.DecodeRuneInString(s.src[s.pos:])
	switch {
	case r == 0xa0, r == 0xfeff && s.pos == 0:
		s.pos += n
	case invisible(r), r == 0x200c, r == 0x200d:
		s.refuse(s.pos, n, "INVISIBLE_CHARACTERS", "the invisible character U+%04X stands between the words of the program; delete it", r)
	default:
		s.refuse(s.pos, n, "UNICODE_IDENTIFIER", "%q (U+%04X) stands outside strings and comments; names use the letters a-z, A-Z, digits, _ and $, because others can look the same; quote a key: \"…\"", r, r)
	}
}
