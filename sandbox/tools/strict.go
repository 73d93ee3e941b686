package tools

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"
)

// strict checks a document against our own schema, tools.schema.json, and tells every
// mistake at once. It knows the keywords that stand there and no others (a test sees to
// that): the library for tools' own schemas stops at the first mistake.
type strict struct {
	root map[string]any
	bad  Problems
}

// strictWords are the keywords that strict knows.
var strictWords = []string{"$schema", "title", "description", "$defs", "$ref", "type", "const", "enum", "pattern", "minLength", "maxLength",
	"minimum", "maximum", "minItems", "maxItems", "uniqueItems", "items", "minProperties", "maxProperties", "required", "properties",
	"additionalProperties", "propertyNames"}

func (s *strict) add(at, format string, args ...any) {
	if len(s.bad) < 100 {
		s.bad.add(at, format, args...)
	}
}

func (s *strict) value(at string, v, rule any) {
	r, ok := rule.(map[string]any)
	if !ok { // true
		return
	}
	if ref, ok := r["$ref"].(string); ok {
		target, _ := lookup(s.root, ref)
		s.value(at, v, target)
		return
	}
	if !s.kind(at, v, r) {
		return
	}
	if c, ok := r["const"]; ok && fmt.Sprint(c) != fmt.Sprint(v) {
		s.add(at, "want %v", c)
	}
	if enum := list(r["enum"]); enum != nil && !slices.Contains(enum, v) {
		s.add(at, "want one of %v", enum)
	}
	switch v := v.(type) {
	case string:
		s.text(at, v, r)
	case json.Number:
		n, err := v.Float64()
		if low, ok := number(r, "minimum"); ok && (err != nil || n < low) {
			s.add(at, "want at least %v", low)
		}
		if high, ok := number(r, "maximum"); ok && (err != nil || n > high) {
			s.add(at, "want at most %v", high)
		}
	case []any:
		s.array(at, v, r)
	case map[string]any:
		s.object(at, v, r)
	}
}

// kind checks the type.
func (s *strict) kind(at string, v any, r map[string]any) bool {
	wants := list(r["type"])
	if one, ok := r["type"].(string); ok {
		wants = []any{one}
	}
	if wants == nil {
		return true
	}
	have := map[bool]string{true: "null"}[v == nil]
	switch v := v.(type) {
	case string:
		have = "string"
	case bool:
		have = "boolean"
	case json.Number:
		have = "number"
		if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			have = "integer"
		}
	case []any:
		have = "array"
	case map[string]any:
		have = "object"
	}
	if slices.Contains(wants, any(have)) || have == "integer" && slices.Contains(wants, any("number")) {
		return true
	}
	s.add(at, "is %s, want %v", have, wants[0])
	return false
}

func (s *strict) text(at, v string, r map[string]any) {
	n := float64(utf8.RuneCountInString(v))
	if low, ok := number(r, "minLength"); ok && n < low {
		s.add(at, "is too short")
	}
	if high, ok := number(r, "maxLength"); ok && n > high {
		s.add(at, "has %v characters, at most %v", n, high)
	}
	if p, ok := r["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
		s.add(at, "%.60q does not match %s", v, p)
	}
}

func (s *strict) array(at string, v []any, r map[string]any) {
	n := float64(len(v))
	if low, ok := number(r, "minItems"); ok && n < low {
		s.add(at, "has %v entries, want at least %v", n, low)
	}
	if high, ok := number(r, "maxItems"); ok && n > high {
		s.add(at, "has %v entries, at most %v", n, high)
		return
	}
	seen := make(map[string]bool)
	for i, one := range v {
		here := at + "[" + strconv.Itoa(i) + "]"
		if unique, _ := r["uniqueItems"].(bool); unique {
			if key := fmt.Sprint(one); seen[key] {
				s.add(here, "stands there twice")
			} else {
				seen[key] = true
			}
		}
		s.value(here, one, r["items"])
	}
}

func (s *strict) object(at string, v map[string]any, r map[string]any) {
	n := float64(len(v))
	if low, ok := number(r, "minProperties"); ok && n < low {
		s.add(at, "is empty, want %v of its fields", low)
	}
	if high, ok := number(r, "maxProperties"); ok && n > high {
		s.add(at, "has %v fields, at most %v", n, high)
	}
	for _, name := range list(r["required"]) {
		if _, ok := v[name.(string)]; !ok {
			s.add(at, "%s is missing", name)
		}
	}
	props, _ := r["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(v)) {
		here := key
		if at != "" {
			here = at + "." + key
		}
		if rule, ok := r["propertyNames"]; ok {
			s.value(here, key, rule)
		}
		rule, known := props[key]
		if !known {
			rule = r["additionalProperties"]
		}
		if open, isBool := rule.(bool); isBool && !open {
			s.add(here, "there is no such field")
			continue
		}
		s.value(here, v[key], rule)
	}
}

func number(r map[string]any, word string) (float64, bool) {
	n, ok := r[word].(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}
