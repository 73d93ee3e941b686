package script

import "strings"

// repair says what to write instead where the parser only says that it did not expect
// something: for the mistakes that a model, which reads the message and tries again, makes
// most. It looks at the words around the place and guesses; "" where it has no guess.
func repair(src string, offset int) string {
	offset = min(max(offset, 0), len(src))
	before, here := lastWord(src[:offset]), firstWord(src[offset:])
	switch {
	case here == "import" || here == "export":
		return "there are no modules: call tools, and return the value"
	case here == "await" && before == "for":
		return "there is no for await: await the list first, then loop over it with for...of"
	case before == "await" && statementWords[here]:
		return "await takes a value: leave it out before " + here
	case before == "await" && here != "":
		return "await works in async functions only: write async before the function around it; for each of a list: await parallel(items, async item => ...)"
	case typeWords[before] && here != "", here == "as", here == "satisfies":
		return "scripts are JavaScript: leave the types out"
	case typed(src, offset):
		return "if a type follows, leave it out: scripts are JavaScript"
	}
	return ""
}

// typeWords begin declarations of TypeScript. The parser takes them for names.
var typeWords = map[string]bool{"interface": true, "type": true, "enum": true, "namespace": true, "declare": true, "abstract": true}

// statementWords begin what has no value, within an async function or not.
var statementWords = map[string]bool{"if": true, "for": true, "while": true, "do": true, "switch": true, "try": true, "return": true, "throw": true, "break": true, "continue": true,
	"const": true, "let": true, "var": true}

// typed reports whether there is one colon, behind what could be declared: a name, one that
// may be left out, a pattern, or parameters.
func typed(src string, offset int) bool {
	if rest := src[offset:]; !strings.HasPrefix(rest, ":") || strings.HasPrefix(strings.TrimLeft(rest[1:], " \t\r\n"), ":") {
		return false
	}
	before := strings.TrimRight(src[:offset], " \t\r\n")
	if before == "" {
		return false
	}
	name := lastWord(strings.TrimSuffix(before, "?"))
	return strings.ContainsRune(")]}", rune(before[len(before)-1])) || name != "" && !('0' <= name[0] && name[0] <= '9')
}

func firstWord(s string) string {
	n := 0
	for n < len(s) && inWord(s[n]) {
		n++
	}
	return s[:n]
}

func lastWord(s string) string {
	s = strings.TrimRight(s, " \t\r\n")
	n := len(s)
	for n > 0 && inWord(s[n-1]) {
		n--
	}
	return s[n:]
}

func inWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$'
}
