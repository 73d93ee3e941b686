package names

import (
	"errors"
	"fmt"
	"strings"
)

// maxName is how long a name may be as text, without its final dot: 255 bytes on the
// wire are the length of the first label and the root besides (RFC 1035, 2.3.4).
const maxName = 253

var (
	errEmpty    = errors.New("a name needs at least one label")
	errLong     = fmt.Errorf("a name has at most %d bytes", maxName)
	errLabel    = errors.New("a label is 1 to 63 letters, digits and inner hyphens")
	errWildcard = errors.New(`"*" stands alone, as the first label of a record`)
)

// Parse brings a name to the form in which names are kept: lower case, no final dot.
func Parse(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	switch {
	case s == "":
		return "", errEmpty
	case len(s) > maxName:
		return "", fmt.Errorf("name %.80q: %w", s, errLong)
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "*" {
			return "", fmt.Errorf("name %.80q: %w", s, errWildcard)
		}
		if !goodLabel(label) {
			return "", fmt.Errorf("name %.80q: label %.70q: %w", s, label, errLabel)
		}
	}
	return s, nil
}

// ParsePattern is Parse for the name of a record, whose first label may be "*".
func ParsePattern(s string) (string, error) {
	rest, wild := strings.CutPrefix(s, "*.")
	name, err := Parse(rest)
	if err != nil || !wild {
		return name, err
	}
	if len(name) > maxName-2 {
		return "", fmt.Errorf("name %.80q: %w", s, errLong)
	}
	return "*." + name, nil
}

func goodLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Within reports whether name is zone or below it. Everything is below ".".
func Within(name, zone string) bool {
	if zone == "." {
		return true
	}
	rest, ok := strings.CutSuffix(name, zone)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}

// Owner returns the longest of zones that name is in, "" when it is in none.
func Owner(zones []string, name string) (owner string) {
	for _, z := range zones {
		if Within(name, z) && (owner == "" || owner == "." || len(z) > len(owner) && z != ".") {
			owner = z
		}
	}
	return owner
}
