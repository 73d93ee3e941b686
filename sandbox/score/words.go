package score

import "strings"

// split cuts a name into lower-case words: "userAPIKey", "user_api-key" and
// "user:api.key" are user, api, key. Comparing words and not substrings is what keeps
// "shipping" from being a "pin".
func split(name string) []string {
	var words []string
	start := 0
	end := func(i int) {
		if i > start {
			words = append(words, strings.ToLower(name[start:i]))
		}
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case !letter(c) && !(c >= '0' && c <= '9'):
			end(i)
			start = i + 1
		case upper(c) && i > start && (!upper(name[i-1]) || i+1 < len(name) && lower(name[i+1])):
			end(i)
			start = i
		}
	}
	end(len(name))
	return words
}

func upper(c byte) bool  { return c >= 'A' && c <= 'Z' }
func lower(c byte) bool  { return c >= 'a' && c <= 'z' }
func letter(c byte) bool { return upper(c) || lower(c) || c >= 0x80 }

// has reports whether one of the words is on the list; two words of a list entry,
// "api key", must follow each other.
func has(words []string, list []string) bool {
	for _, entry := range list {
		a, b, two := strings.Cut(entry, " ")
		for i, w := range words {
			if w == a && (!two || i+1 < len(words) && words[i+1] == b) || two && w == a+b {
				return true
			}
		}
	}
	return false
}

var (
	readWords  = []string{"list", "query", "get", "fetch", "read", "search", "find", "select", "load"}
	sendWords  = []string{"send", "export", "post", "write", "upload", "publish", "emit", "transmit", "forward", "email", "webhook", "notify"}
	bulkWords  = []string{"bulk", "batch", "all", "mass", "multi", "dump"}
	queryWords = []string{"list", "query", "search", "find", "select", "all"}
)

// category is a kind of sensitive field.
type category struct {
	name   string
	points int
	words  []string
}

var categories = []category{
	{"authentication", 20, []string{"password", "passwords", "passwd", "token", "tokens", "secret", "secrets", "api key", "api keys", "auth", "credential", "credentials", "bearer", "private key"}},
	{"personal", 15, []string{"email", "emails", "ssn", "phone", "phones", "address", "addresses", "credit card", "birth date", "birthdate", "date of birth", "dob", "social security"}},
	{"financial", 20, []string{"bank", "routing", "account num", "account number", "iban", "swift", "cvv", "pin"}},
}

// Sensitive reports whether a name is one of passwords, of people, of money or of the
// inside.
func Sensitive(name string) bool {
	kind, _ := sensitive(name)
	return kind != ""
}

// sensitive returns the category of a name and its points, or "".
func sensitive(name string) (string, int) {
	words := split(name)
	for _, c := range categories {
		if has(words, c.words) {
			return c.name, c.points
		}
	}
	if strings.HasPrefix(name, "__") || len(name) > 1 && name[0] == '_' && lower(name[1]) {
		return "internal", 10
	}
	return "", 0
}
