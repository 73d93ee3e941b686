package tools

import (
	"regexp"
	"slices"
)

// Redaction asks of a schema what the validator has no word for: which parts of a value
// are secret. Every keyword that lets a schema speak of a part is followed; where several
// speak, one that says secret is enough. A nil schema says nothing.

// views are the schemas that speak about one value.
type views []map[string]any

// marked reports what is said about a value being secret.
func (all views) marked() (said, secret bool) {
	for _, m := range all {
		for _, word := range inMarks {
			if b, ok := m[word].(bool); ok {
				said, secret = said || word == "x-secret" || b, secret || b
			}
		}
	}
	return said, secret
}

// inMarks are the keywords that say that a value is secret.
var inMarks = []string{"x-secret", "writeOnly"}

// inBranches are the keywords whose schemas count for some values only: what these know of a
// member may be unevaluated all the same.
var inBranches = []string{"anyOf", "oneOf", "not", "if", "dependentSchemas", "dependencies"}

// perhaps reports whether some of what speaks may not count for a value.
func (all views) perhaps() bool {
	return slices.ContainsFunc(all, func(m map[string]any) bool {
		return slices.ContainsFunc(inBranches, func(word string) bool { return m[word] != nil })
	})
}

// property is what speaks of a member; nil is nothing. It returns the steps that it took.
func (s *schema) property(all views, key string) (part any, steps int) {
	var parts, rest []any
	for _, m := range all {
		known := false
		if props, _ := m["properties"].(map[string]any); props[key] != nil {
			parts, known = append(parts, props[key]), true
		}
		patterns, _ := m["patternProperties"].(map[string]any)
		steps += 1 + patternSteps*len(patterns)
		for text, p := range patterns {
			switch re := s.patterns[text]; {
			case re == nil: // whose names it means is not known here: of all, perhaps
				parts = append(parts, p)
			case re.MatchString(key):
				parts, known = append(parts, p), true
			}
		}
		if more := m["additionalProperties"]; !known && more != nil {
			parts = append(parts, more)
		}
		if more := m["unevaluatedProperties"]; more != nil {
			rest = append(rest, more)
		}
	}
	if len(rest) > 0 && (len(parts) == 0 || all.perhaps()) {
		parts = append(parts, rest...)
	}
	return together(parts), steps
}

// items is what speaks of the entries of a list: of any of them, wherever it stands.
func (all views) items() any {
	var parts []any
	for _, m := range all {
		parts = append(parts, m["items"], m["contains"], m["additionalItems"], m["unevaluatedItems"])
		parts = append(append(parts, list(m["prefixItems"])...), list(m["items"])...)
	}
	return together(parts)
}

func together(all []any) any {
	for _, one := range all {
		if _, ok := one.(map[string]any); ok {
			return map[string]any{"allOf": all}
		}
	}
	return nil
}

// Limits of what is followed: schemas that speak of one value, and steps for a value with
// all its parts. What is beyond them may say anything, so the value is hidden.
const (
	maxViews     = 1024
	maxFollowed  = 2_000_000
	patternSteps = 10 // that matching a name takes about as long as
)

// unknown stands for schemas that are not followed: they may say anything.
var unknown = map[string]any{"x-secret": true}

// views are the schemas that speak about the same value: behind references and in
// combinations, where any branch that hides a value hides it, a negated one, too. What
// cannot be followed, or is too much to, hides it as well.
func (s *schema) views(at any) (out views) {
	todo := []any{at}
	var refs map[string]bool // that were followed
	for len(todo) > 0 {
		m, ok := todo[0].(map[string]any)
		todo = todo[1:]
		if !ok {
			continue
		}
		if len(out) == maxViews {
			return append(out, unknown)
		}
		out = append(out, m)
		for _, word := range inRefs {
			ref, ok := m[word].(string)
			if !ok || refs[ref] {
				continue
			}
			if refs == nil {
				refs = make(map[string]bool)
			}
			refs[ref] = true
			if target, ok := lookup(s.doc, ref); ok {
				todo = append(todo, target)
			} else {
				todo = append(todo, unknown)
			}
		}
		for _, word := range []string{"allOf", "anyOf", "oneOf"} {
			todo = append(todo, list(m[word])...)
		}
		for _, word := range []string{"dependentSchemas", "dependencies"} {
			after, _ := m[word].(map[string]any)
			for _, one := range after {
				todo = append(todo, one)
			}
		}
		for _, word := range []string{"not", "if", "then", "else"} {
			if one, ok := m[word]; ok {
				todo = append(todo, one)
			}
		}
	}
	return out
}

// ready prepares a document for redaction: it compiles the patterns by which it speaks of
// members, notes whether it calls anything secret at all, and moves what it says of the
// inside of a text, or of the names of members, to the text or object itself, which is
// hidden then as a whole.
func (s *schema) ready(v any) {
	switch v := v.(type) {
	case map[string]any:
		patterns, _ := v["patternProperties"].(map[string]any)
		for text := range patterns {
			if re, err := regexp.Compile(text); err == nil && s.patterns[text] == nil {
				s.patterns[text] = re
			}
		}
		for _, word := range inMarks {
			if _, ok := v[word].(bool); ok {
				s.speaks = true
			}
		}
		for _, word := range []string{"allOf", "anyOf", "oneOf"} {
			s.crowded = s.crowded || len(list(v[word])) >= maxViews
		}
		for _, one := range v {
			s.ready(one)
		}
		for _, word := range []string{"contentSchema", "propertyNames"} {
			left := maxViews
			if one, ok := v[word]; ok && s.within(one, make(map[string]bool), &left) {
				v["x-secret"] = true
			}
		}
	case []any:
		for _, one := range v {
			s.ready(one)
		}
	}
}

// within reports whether something in a schema is called secret, or too much is in it to
// say so.
func (s *schema) within(v any, refs map[string]bool, left *int) bool {
	if *left--; *left < 0 {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		if _, secret := (views{v}).marked(); secret {
			return true
		}
		for _, word := range inRefs {
			if ref, ok := v[word].(string); ok && !refs[ref] {
				refs[ref] = true
				if target, ok := lookup(s.doc, ref); !ok || s.within(target, refs, left) {
					return true
				}
			}
		}
		for _, one := range v {
			if s.within(one, refs, left) {
				return true
			}
		}
	case []any:
		for _, one := range v {
			if s.within(one, refs, left) {
				return true
			}
		}
	}
	return false
}
