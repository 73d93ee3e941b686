package tools

import (
	"regexp"
	"slices"
)

// Redaction asks of a schema what the validator has no word for: which parts of a value
// are secret. Every keyword that lets a schema speak of a part is followed; where several
// speak, one that says secret is enough. A nil schema says nothing.

// marked reports what is said about a value being secret.
func (s *schema) marked(at any) (said, secret bool) {
	for _, m := range s.views(at) {
		for _, word := range []string{"x-secret", "writeOnly"} {
			if b, ok := m[word].(bool); ok {
				said, secret = said || word == "x-secret" || b, secret || b
			}
		}
	}
	return said, secret
}

// property is what speaks of a member; nil is nothing.
func (s *schema) property(at any, key string) any {
	var all, rest []any
	for _, m := range s.views(at) {
		n := len(all)
		if props, _ := m["properties"].(map[string]any); props[key] != nil {
			all = append(all, props[key])
		}
		patterns, _ := m["patternProperties"].(map[string]any)
		for text, p := range patterns {
			if re := s.patterns[text]; re != nil && re.MatchString(key) {
				all = append(all, p)
			}
		}
		if more := m["additionalProperties"]; len(all) == n && more != nil {
			all = append(all, more)
		}
		rest = append(rest, m["unevaluatedProperties"])
	}
	if len(all) == 0 {
		all = rest
	}
	return together(all)
}

// items is what speaks of the entries of a list: of any of them, wherever it stands.
func (s *schema) items(at any) any {
	var all []any
	for _, m := range s.views(at) {
		all = append(all, m["items"], m["contains"], m["unevaluatedItems"])
		all = append(all, list(m["prefixItems"])...)
	}
	return together(all)
}

func together(all []any) any {
	for _, one := range all {
		if _, ok := one.(map[string]any); ok {
			return map[string]any{"allOf": all}
		}
	}
	return nil
}

// maxViews bounds how many schemas are followed for one value.
const maxViews = 128

// unknown stands for schemas that cannot be followed: they may say anything.
var unknown = map[string]any{"x-secret": true}

// views are the schemas that speak about the same value: behind references and in
// combinations, where any branch that hides a value hides it. What cannot be followed, or
// is too much to, hides it as well.
func (s *schema) views(at any) (out []map[string]any) {
	todo := []any{at}
	var refs []string // that were followed; few
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
		for _, word := range []string{"$ref", "$dynamicRef"} {
			ref, ok := m[word].(string)
			if !ok || slices.Contains(refs, ref) {
				continue
			}
			refs = append(refs, ref)
			if target, ok := lookup(s.doc, ref); ok {
				todo = append(todo, target)
			} else {
				todo = append(todo, unknown)
			}
		}
		for _, word := range []string{"allOf", "anyOf", "oneOf"} {
			todo = append(todo, list(m[word])...)
		}
		after, _ := m["dependentSchemas"].(map[string]any)
		for _, one := range after {
			todo = append(todo, one)
		}
		todo = append(todo, m["if"], m["then"], m["else"])
	}
	return out
}

// patternsIn compiles the patterns by which a document speaks of members.
func patternsIn(v any, out map[string]*regexp.Regexp) {
	switch v := v.(type) {
	case map[string]any:
		patterns, _ := v["patternProperties"].(map[string]any)
		for text := range patterns {
			if re, err := regexp.Compile(text); err == nil && out[text] == nil {
				out[text] = re
			}
		}
		for _, one := range v {
			patternsIn(one, out)
		}
	case []any:
		for _, one := range v {
			patternsIn(one, out)
		}
	}
}
