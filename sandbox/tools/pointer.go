package tools

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxPointer bounds a reference, in bytes: each is read again for every value that it
// speaks of.
const maxPointer = 1024

// pointer takes a reference within a document apart: a JSON pointer as the fragment of a
// URI, whose percent signs are undone first and whose tildes after that (RFC 6901 section
// 6). Whoever follows references in a schema does it by this, so that validation and
// redaction are never led to two places. An anchor is none.
func pointer(ref string) (steps []string, ok bool) {
	rest, ok := strings.CutPrefix(ref, "#")
	if !ok || len(ref) > maxPointer {
		return nil, false
	}
	rest, err := url.PathUnescape(rest)
	if err != nil || !utf8.ValidString(rest) || rest != "" && rest[0] != '/' {
		return nil, false
	}
	steps = strings.Split(rest, "/")[1:]
	for i, step := range steps {
		for at := 0; at < len(step); at++ {
			if step[at] == '~' && (at+1 == len(step) || step[at+1] != '0' && step[at+1] != '1') {
				return nil, false
			}
		}
		steps[i] = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
	}
	return steps, true
}

// refTo writes steps as a reference that pointer reads.
func refTo(steps ...string) string {
	var b strings.Builder
	b.WriteByte('#')
	for _, step := range steps {
		b.WriteString("/" + url.PathEscape(tildes.Replace(step)))
	}
	return b.String()
}

var tildes = strings.NewReplacer("~", "~0", "/", "~1")

// lookup follows a reference.
func lookup(doc any, ref string) (any, bool) {
	steps, ok := pointer(ref)
	if !ok {
		return nil, false
	}
	for _, step := range steps {
		switch v := doc.(type) {
		case map[string]any:
			if doc, ok = v[step]; !ok {
				return nil, false
			}
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(v) || strconv.Itoa(n) != step {
				return nil, false
			}
			doc = v[n]
		default:
			return nil, false
		}
	}
	return doc, true
}
