package script

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
