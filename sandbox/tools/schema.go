package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"enclave/wire"
)

// schema is a JSON Schema 2020-12 ready to check values, and the document it came from,
// which redaction reads for its own keywords.
type schema struct {
	resolved *jsonschema.Resolved // nil checks nothing
	doc      any
	patterns map[string]*regexp.Regexp // of patternProperties, wherever they stand
	speaks   bool                      // it calls something secret, or not secret
	crowded  bool                      // some union has more branches than redaction follows
	unknown  error                     // of a type that nothing can have: nothing can be checked
}

// maxCost bounds how many times the validator may visit a part of a schema for one
// value. A few nested references that double each time would otherwise cost it years.
const maxCost = 50_000

var errRemote = errors.New("a schema may not refer to another document")

// compile reads a JSON Schema 2020-12 whose formats count. Foreign ones, which came with
// an import, may not be recursive: a hostile server could make one that takes for ever.
func compile(text json.RawMessage, foreign bool) (*schema, error) {
	return compileAs(text, foreign, formats())
}

func compileAs(text json.RawMessage, foreign bool, known map[string]format) (*schema, error) {
	s, err := readSchema(text)
	if s == nil || err != nil {
		return nil, err
	}
	if err := s.judge(foreign, known); err != nil {
		return nil, err
	}
	return s, nil
}

// readSchema reads a schema whose every part redaction can follow. It checks no value.
func readSchema(text json.RawMessage) (*schema, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if len(text) > MaxSchema {
		return nil, fmt.Errorf("the schema has %d bytes, at most %d", len(text), MaxSchema)
	}
	if err := wire.CheckJSON(text); err != nil {
		return nil, err
	}
	doc, err := decode(text)
	if err != nil {
		return nil, err
	}
	s := &schema{doc: doc, patterns: make(map[string]*regexp.Regexp)}
	if err := s.wellFormed(doc, ""); err != nil {
		return nil, err
	}
	s.ready(doc)
	return s, nil
}

// judge makes the library ready to check values.
func (s *schema) judge(foreign bool, known map[string]format) error {
	if s.unknown != nil {
		return s.unknown
	}
	if cost, cyclic := schemaCost(s.doc); cost > maxCost || (cyclic && foreign) {
		return errors.New("the schema is too involved to check values against")
	}
	if endless(s.doc) {
		return errors.New("a $ref leads back to itself, so that no value could ever be checked")
	}
	text, err := encode(withFormats(s.doc, known))
	if err != nil {
		return brief(err)
	}
	var whole jsonschema.Schema
	if err := json.Unmarshal(text, &whole); err != nil {
		return brief(err)
	}
	resolved, err := whole.Resolve(nil) // without a loader: nothing remote
	if err != nil {
		return brief(err)
	}
	s.resolved = resolved
	return nil
}

// Where schemas stand within a schema.
var (
	inMaps  = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
	inLists = []string{"allOf", "anyOf", "oneOf", "prefixItems"}
	inOnes  = []string{"items", "contains", "additionalItems", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "not", "if", "then", "else", "contentSchema"}
	inRefs  = []string{"$ref", "$dynamicRef", "$recursiveRef"}
	kinds   = []string{"null", "boolean", "object", "array", "number", "integer", "string"}
)

// wellFormed finds what the library lets pass, remote references, and all that redaction
// could not follow; it notes unknown types.
func (s *schema) wellFormed(v any, at string) error {
	m, ok := v.(map[string]any)
	if !ok {
		if _, ok := v.(bool); ok {
			return nil
		}
		return fmt.Errorf("%s: want a schema", at)
	}
	names, isList := m["type"].([]any)
	if one, ok := m["type"]; ok && !isList {
		names = []any{one}
	}
	for _, name := range names {
		if text, ok := name.(string); !ok || !slices.Contains(kinds, text) {
			s.unknown = fmt.Errorf("%s/type: %v is no type", at, name) // of secrets it says nothing
		}
	}
	for _, word := range inRefs {
		ref, ok := m[word].(string)
		if ok && !strings.HasPrefix(ref, "#") {
			return errRemote
		}
		if _, found := lookup(s.doc, ref); ok && !found {
			return fmt.Errorf("%s/%s: %.100q leads nowhere in this schema: write a path such as #/$defs/name, in which %%20 is a blank and ~1 a slash within a name; anchors are not followed", at, word, ref)
		}
	}
	if _, ok := m["$id"].(string); ok && at != "" {
		return fmt.Errorf("%s/$id: only the root of a schema may have one: references below would lead elsewhere", at)
	}
	for _, word := range inMarks {
		if _, isBool := m[word].(bool); m[word] != nil && !isBool {
			return fmt.Errorf("%s/%s: want true or false", at, word)
		}
	}
	var errs []error
	for _, word := range inMaps {
		parts, isMap := m[word].(map[string]any)
		if m[word] != nil && !isMap {
			return fmt.Errorf("%s/%s: want an object of schemas", at, word)
		}
		for name, one := range parts {
			if word != "dependencies" || list(one) == nil { // there it may be a list of names
				errs = append(errs, s.wellFormed(one, at+"/"+word+"/"+name))
			}
		}
	}
	for _, word := range inLists {
		if _, isList := m[word].([]any); m[word] != nil && !isList {
			return fmt.Errorf("%s/%s: want a list of schemas", at, word)
		}
		for _, one := range list(m[word]) {
			errs = append(errs, s.wellFormed(one, at+"/"+word))
		}
	}
	for _, word := range inOnes {
		one, ok := m[word]
		if word == "items" && list(one) != nil {
			if !draft7(s.doc) {
				return fmt.Errorf("%s/items: a list of schemas is called prefixItems since 2020", at)
			}
			for _, one := range list(one) {
				errs = append(errs, s.wellFormed(one, at+"/items"))
			}
			continue
		}
		if ok {
			errs = append(errs, s.wellFormed(one, at+"/"+word))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// draft7 reports whether a schema says that it is of JSON Schema's draft 7, which many
// generators still write.
func draft7(doc any) bool {
	m, _ := doc.(map[string]any)
	text, _ := m["$schema"].(string)
	return strings.HasSuffix(strings.TrimSuffix(text, "#"), "://json-schema.org/draft-07/schema")
}

// check returns the mistakes of a value, each placed under path. The sentences name the
// rules that were broken and never quote the value: it may hold what was expanded from
// a reference, or what the schema calls secret.
func (s *schema) check(path string, v any) []wire.Problem {
	if s == nil || s.resolved == nil {
		return nil
	}
	err := s.resolved.Validate(native(v))
	if err == nil {
		return nil
	}
	// The library judges, and stops at the first mistake; strict finds all of those
	// whose keywords it knows.
	all := strict{root: s.doc, formats: true}
	if all.value(path, v, s.doc); len(all.bad) > 0 {
		return all.bad
	}
	text := err.Error()
	for {
		rest, ok := strings.CutPrefix(text, "validating ")
		if !ok {
			break
		}
		where, more, ok := strings.Cut(rest, ": ")
		if !ok {
			break
		}
		if strings.HasPrefix(where, "/") {
			path += place(where)
		}
		text = more
	}
	text, _, _ = strings.Cut(text, ":")
	return []wire.Problem{{Path: path, Message: "does not keep " + text}}
}

// native makes numbers what the library knows. Those that a float cannot hold are
// checked as the nearest that it can.
func native(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v // too large: as a string it fits no number's schema
		}
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = native(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = native(v[k])
		}
		return out
	}
	return v
}

var schemaStep = regexp.MustCompile(`/(?:properties|patternProperties)/([^/]+)|/(items|prefixItems/[0-9]+)`)

// place turns where a schema stands into where its value does.
func place(at string) (out string) {
	for _, m := range schemaStep.FindAllStringSubmatch(at, -1) {
		if m[1] != "" {
			out += "." + m[1]
		} else {
			out += "[]"
		}
	}
	return out
}

func brief(err error) error {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if len(text) > 300 {
		text = text[:300]
	}
	return errors.New(text)
}

// endless reports whether some reference leads back to itself without a step into the
// value: checking would never end. References into the document only; a schema of which
// that cannot be said within maxCost steps counts as endless.
func endless(doc any) bool {
	w := &refWalk{doc: doc, state: make(map[string]int)}
	w.all(doc)
	return w.looped
}

type refWalk struct {
	doc    any
	state  map[string]int // 1 while it is followed, 2 when it was
	steps  int
	looped bool
}

// all finds every reference, wherever it stands.
func (w *refWalk) all(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, word := range inRefs {
			if ref, ok := v[word].(string); ok {
				w.follow(ref)
			}
		}
		for _, one := range v {
			w.all(one)
		}
	case []any:
		for _, one := range v {
			w.all(one)
		}
	}
}

func (w *refWalk) follow(ref string) {
	switch w.state[ref] {
	case 1:
		w.looped = true
		return
	case 2:
		return
	}
	w.state[ref] = 1
	if target, ok := lookup(w.doc, ref); ok {
		w.here(target)
	}
	w.state[ref] = 2
}

// here follows what judges the same value.
func (w *refWalk) here(v any) {
	if w.steps++; w.steps > maxCost {
		w.looped = true
	}
	m, ok := v.(map[string]any)
	if !ok || w.looped {
		return
	}
	for _, word := range inRefs {
		if ref, ok := m[word].(string); ok {
			w.follow(ref)
		}
	}
	for _, word := range []string{"allOf", "anyOf", "oneOf"} {
		for _, one := range list(m[word]) {
			w.here(one)
		}
	}
	for _, word := range []string{"not", "if", "then", "else"} {
		w.here(m[word])
	}
	for _, word := range []string{"dependentSchemas", "dependencies"} {
		parts, _ := m[word].(map[string]any)
		for _, one := range parts {
			w.here(one)
		}
	}
}

// schemaCost counts the visits a value can cost at most, following references inside
// the document, and whether it is recursive. It is exact for what has no recursion and
// counts a recursive reference once.
func schemaCost(doc any) (cost int, cyclic bool) {
	w := &costs{doc: doc, done: make(map[string]int), open: make(map[string]bool)}
	return w.of(doc), w.cyclic
}

type costs struct {
	doc    any
	done   map[string]int
	open   map[string]bool
	cyclic bool
	nodes  int
}

func (w *costs) of(v any) int {
	w.nodes++
	if w.nodes > maxCost {
		return maxCost + 1
	}
	sum := 1
	switch v := v.(type) {
	case map[string]any:
		for key, part := range v {
			if ref, ok := part.(string); ok && slices.Contains(inRefs, key) {
				sum += w.ref(ref)
				continue
			}
			switch key {
			case "$defs", "definitions", "components", "enum", "const", "default", "examples", "required":
				continue // counted where they are referred to
			}
			sum = min(sum+w.of(part), maxCost+1)
		}
	case []any:
		for _, part := range v {
			sum = min(sum+w.of(part), maxCost+1)
		}
	}
	return min(sum, maxCost+1)
}

func (w *costs) ref(ref string) int {
	if w.open[ref] {
		w.cyclic = true
		return 1
	}
	if c, ok := w.done[ref]; ok {
		return c
	}
	target, ok := lookup(w.doc, ref)
	if !ok {
		w.cyclic = true // an anchor: what it leads to is not known here
		return 1
	}
	w.open[ref] = true
	c := w.of(target)
	delete(w.open, ref)
	w.done[ref] = c
	return c
}
