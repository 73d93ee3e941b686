package wire

import (
	"strconv"
	"strings"
)

// Count writes how many things of a name there are, for people: "1 pair", "2 pairs",
// "3 policies", "0 accesses". The name is in the singular; its last word is what changes.
func Count[N ~int | ~int64 | ~uint64](n N, name string) string {
	return strconv.FormatInt(int64(n), 10) + " " + Plural(n, name)
}

// Plural is the name alone, as it stands behind a count of n.
func Plural[N ~int | ~int64 | ~uint64](n N, name string) string {
	if n == 1 {
		return name
	}
	stem, y := strings.CutSuffix(name, "y")
	switch {
	case y && !strings.HasSuffix(stem, "e") && !strings.HasSuffix(stem, "a") && !strings.HasSuffix(stem, "o"):
		return stem + "ies"
	case strings.HasSuffix(name, "s") || strings.HasSuffix(name, "x") || strings.HasSuffix(name, "ch"):
		return name + "es"
	}
	return name + "s"
}
