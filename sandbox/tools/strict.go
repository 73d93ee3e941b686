package tools

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// strict tells every mistake of a document at once, each with its path. It knows the
// keywords of our own schema, tools.schema.json (a test sees to that), and the usual
// ones of others: there the library judges whether a value passes, and strict finds the
// mistakes of one that does not. A path is that of a script: a.b[2]["x y"].
type strict struct {
	root    any
	formats bool // format counts, as in the schemas of tools
	quote   bool // values may stand in messages: they are the operator's own
	bad     Problems
	steps   int
}

// strictWords are the keywords of tools.schema.json.
var strictWords = []string{"$schema", "title", "description", "$defs", "$ref", "type", "const", "enum", "pattern", "minLength", "maxLength",
	"minimum", "maximum", "minItems", "maxItems", "uniqueItems", "items", "minProperties", "maxProperties", "required", "properties",
	"additionalProperties", "propertyNames"}

// Limits of a walk: what it has found by then is enough to go on with.
const (
	maxMistakes    = 100
	maxStrictSteps = 100_000
)

func (s *strict) add(at, format string, args ...any) {
	if len(s.bad) < maxMistakes {
		s.bad.add(at, format, args...)
	}
}

// fits reports whether a value has no mistake.
func (s *strict) fits(v, rule any) bool {
	try := strict{root: s.root, formats: s.formats, steps: s.steps}
	try.value("", v, rule)
	s.steps = try.steps
	return len(try.bad) == 0
}

func (s *strict) value(at string, v, rule any) {
	if s.steps++; s.steps > maxStrictSteps || len(s.bad) >= maxMistakes {
		return
	}
	if rule == false {
		s.add(at, "nothing may stand here")
	}
	r, ok := rule.(map[string]any)
	if !ok { // true
		return
	}
	if ref, ok := r["$ref"].(string); ok {
		if target, ok := lookup(s.root, ref); ok {
			s.value(at, v, target)
		}
	}
	if !s.kind(at, v, r) {
		return
	}
	if c, ok := r["const"]; ok && !same(c, v) {
		s.add(at, "want %s", short(c))
	}
	if enum := list(r["enum"]); enum != nil && !slices.ContainsFunc(enum, func(one any) bool { return same(one, v) }) {
		s.add(at, "want one of %s", short(enum))
	}
	switch v := v.(type) {
	case string:
		s.text(at, v, r)
	case json.Number:
		s.number(at, v, r)
	case []any:
		s.array(at, v, r)
	case map[string]any:
		s.object(at, v, r)
	}
	s.branches(at, v, r)
}

// branches are the keywords that put schemas together.
func (s *strict) branches(at string, v any, r map[string]any) {
	for _, one := range list(r["allOf"]) {
		s.value(at, v, one)
	}
	for _, word := range []string{"anyOf", "oneOf"} {
		parts := list(r[word])
		fit := 0
		for _, one := range parts {
			if s.fits(v, one) {
				fit++
			}
		}
		switch {
		case parts != nil && fit == 0:
			s.add(at, "fits none of %d alternatives", len(parts))
		case word == "oneOf" && fit > 1:
			s.add(at, "fits %d of %d alternatives, want one", fit, len(parts))
		}
	}
	if no, ok := r["not"]; ok && s.fits(v, no) {
		s.add(at, "is what may not stand here")
	}
	if cond, ok := r["if"]; ok {
		word := "else"
		if s.fits(v, cond) {
			word = "then"
		}
		s.value(at, v, r[word])
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
		if n, ok := rational(v); ok && n.IsInt() {
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
	if len(wants) == 1 {
		s.add(at, "is %s, want %v", have, wants[0])
	} else {
		s.add(at, "is %s, want one of %s", have, short(wants))
	}
	return false
}

func (s *strict) text(at, v string, r map[string]any) {
	n := float64(utf8.RuneCountInString(v))
	if low, ok := number(r, "minLength"); ok && n < low {
		if n == 0 {
			s.add(at, "is empty")
		} else {
			s.add(at, "has %v characters, want at least %v", n, low)
		}
	}
	if high, ok := number(r, "maxLength"); ok && n > high {
		s.add(at, "has %v characters, at most %v", n, high)
	}
	if p, ok := r["pattern"].(string); ok {
		if re, err := regexp.Compile(p); err == nil && !re.MatchString(v) {
			if s.quote {
				s.add(at, "%.60q does not match %s", v, p)
			} else {
				s.add(at, "does not match %.100s", p)
			}
		}
	}
	if name, ok := r["format"].(string); ok && s.formats {
		if ok, example := keeps(name, v); !ok {
			s.add(at, "is no %s such as %s", name, example)
		}
	}
}

func (s *strict) number(at string, v json.Number, r map[string]any) {
	n, ok := rational(v)
	if !ok {
		s.add(at, "is a number beyond all bounds")
		return
	}
	for _, rule := range []struct {
		word, want string
		holds      func(int) bool
	}{
		{"minimum", "want at least %s", func(c int) bool { return c >= 0 }},
		{"maximum", "want at most %s", func(c int) bool { return c <= 0 }},
		{"exclusiveMinimum", "want more than %s", func(c int) bool { return c > 0 }},
		{"exclusiveMaximum", "want less than %s", func(c int) bool { return c < 0 }},
	} {
		text, _ := r[rule.word].(json.Number)
		if limit, ok := rational(text); ok && !rule.holds(n.Cmp(limit)) {
			s.add(at, rule.want, text)
		}
	}
	text, _ := r["multipleOf"].(json.Number)
	if step, ok := rational(text); ok && step.Sign() > 0 && !new(big.Rat).Quo(n, step).IsInt() {
		s.add(at, "want a multiple of %s", text)
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
	first, more := list(r["prefixItems"]), "items"
	if old := list(r["items"]); old != nil { // before 2020
		first, more = old, "additionalItems"
	}
	seen := make(map[string]bool)
	for i, one := range v {
		here := at + "[" + strconv.Itoa(i) + "]"
		if unique, _ := r["uniqueItems"].(bool); unique {
			if key := fmt.Sprintf("%T %v", one, one); seen[key] {
				s.add(here, "stands there twice")
			} else {
				seen[key] = true
			}
		}
		if i < len(first) {
			s.value(here, one, first[i])
		} else if rule, ok := r[more]; ok {
			s.value(here, one, rule)
		}
	}
	if rule, ok := r["contains"]; ok && !slices.ContainsFunc(v, func(one any) bool { return s.fits(one, rule) }) {
		s.add(at, "has no entry of the kind that one has to be of")
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
	s.needs(at, v, list(r["required"]))
	after, _ := r["dependentRequired"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := v[name]; ok {
			s.needs(at, v, list(after[name]))
		}
	}
	props, _ := r["properties"].(map[string]any)
	patterns, _ := r["patternProperties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(v)) {
		here := join(at, key)
		if rule, ok := r["propertyNames"]; ok {
			s.value(here, key, rule)
		}
		rule, known := props[key]
		if known {
			s.value(here, v[key], rule)
		}
		for p, rule := range patterns {
			if re, err := regexp.Compile(p); err == nil && re.MatchString(key) {
				known = true
				s.value(here, v[key], rule)
			}
		}
		if known {
			continue
		}
		if rule = r["additionalProperties"]; rule == false {
			s.add(here, "there is no such field; %s", fields(props))
		} else {
			s.value(here, v[key], rule)
		}
	}
}

// maxNamed bounds how many fields a mistake names.
const maxNamed = 12

// fields says which there are: who wrote a wrong one, often a model, corrects it by that.
func fields(props map[string]any) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(props)) {
		if len(names) == maxNamed {
			names = append(names, "…")
			break
		}
		if len(name) <= maxShownKey {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "there are none"
	}
	return "there is " + strings.Join(names, ", ")
}

func (s *strict) needs(at string, v map[string]any, names []any) {
	for _, name := range names {
		if text, ok := name.(string); ok {
			if _, ok := v[text]; !ok {
				s.add(at, "%s is missing", text)
			}
		}
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$:-]*$`)

// maxShownKey bounds a foreign key in a path.
const maxShownKey = 80

func join(at, key string) string {
	switch {
	case len(key) > maxShownKey || !plainKey.MatchString(key):
		return fmt.Sprintf("%s[%.*q]", at, maxShownKey, key)
	case at == "":
		return key
	}
	return at + "." + key
}

// short shows what a schema says, not a value.
func short(v any) string {
	b, err := encode(v)
	if err != nil || len(b) > 120 {
		return string(b[:min(len(b), 120)]) + "…"
	}
	return string(b)
}

// same compares values as JSON Schema does: numbers by their value.
func same(a, b any) bool {
	if x, ok := a.(json.Number); ok {
		y, ok := b.(json.Number)
		n, ok1 := rational(x)
		m, ok2 := rational(y)
		return ok && ok1 && ok2 && n.Cmp(m) == 0
	}
	x, err1 := encode(a)
	y, err2 := encode(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// maxDigits bounds a number that is compared exactly: 1e999999999 is short to write.
const maxDigits = 400

func rational(n json.Number) (*big.Rat, bool) {
	f, err := n.Float64()
	switch {
	case err != nil || len(n) > maxDigits:
		return nil, false
	case f > -1e-300 && f < 1e-300:
		return new(big.Rat), true
	}
	return new(big.Rat).SetString(n.String())
}

func number(r map[string]any, word string) (float64, bool) {
	n, ok := r[word].(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}
