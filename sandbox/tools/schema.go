package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"enclave/wire"
)

// schema is a compiled JSON Schema and the document it came from, which redaction
// reads for its own keywords.
type schema struct {
	compiled *jsonschema.Schema
	doc      any
}

// maxCost bounds how many times the validator may visit a part of a schema for one
// value. A few nested references that double each time would otherwise cost it years.
const maxCost = 50_000

var errRemote = errors.New("a schema may not refer to another document")

type noRemote struct{}

func (noRemote) Load(string) (any, error) { return nil, errRemote }

// compile reads a JSON Schema 2020-12. Foreign ones, which came with an import, may not
// be recursive: a hostile server could make one that takes for ever.
func compile(text json.RawMessage, foreign bool) (*schema, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if len(text) > MaxSchema {
		return nil, fmt.Errorf("the schema has %d bytes, at most %d", len(text), MaxSchema)
	}
	if err := wire.CheckJSON(text); err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if cost, cyclic := schemaCost(doc); cost > maxCost || (cyclic && foreign) {
		return nil, fmt.Errorf("the schema is too involved to check values against")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noRemote{})
	c.AssertFormat()
	const at = "tool:///schema"
	if err := c.AddResource(at, doc); err != nil {
		return nil, brief(err)
	}
	s, err := c.Compile(at)
	if err != nil {
		return nil, brief(err)
	}
	return &schema{s, doc}, nil
}

// check returns every mistake of a value, placed under path.
func (s *schema) check(path string, v any) []wire.Problem {
	if s == nil {
		return nil
	}
	err := s.compiled.Validate(v)
	var bad *jsonschema.ValidationError
	if err == nil {
		return nil
	}
	if !errors.As(err, &bad) {
		return []wire.Problem{{Path: path, Message: "does not fit its schema"}}
	}
	var out []wire.Problem
	leaves(bad, path, message.NewPrinter(language.English), &out)
	return out
}

// maxProblems is how many mistakes are told at once.
const maxProblems = 100

// leaves gathers the mistakes at the bottom of the tree: above them stand only "one of
// the following is wrong".
func leaves(e *jsonschema.ValidationError, path string, p *message.Printer, out *[]wire.Problem) {
	if len(*out) >= maxProblems {
		return
	}
	if len(e.Causes) == 0 {
		*out = append(*out, wire.Problem{Path: path + jsonPath(e.InstanceLocation), Message: e.ErrorKind.LocalizedString(p)})
		return
	}
	for _, c := range e.Causes {
		leaves(c, path, p, out)
	}
}

// jsonPath writes a location as $ does in our other messages: tools[0].name.
func jsonPath(loc []string) string {
	var b strings.Builder
	for _, part := range loc {
		switch {
		case part != "" && strings.Trim(part, "0123456789") == "":
			b.WriteString("[" + part + "]")
		default:
			b.WriteString("." + part)
		}
	}
	return b.String()
}

func brief(err error) error {
	text := err.Error()
	if i := strings.Index(text, "tool:///schema"); i >= 0 {
		text = strings.ReplaceAll(text, "tool:///schema", "")
	}
	if strings.Contains(text, errRemote.Error()) { // the library does not wrap it
		return errRemote
	}
	if len(text) > 300 {
		text = text[:300]
	}
	return errors.New(strings.ReplaceAll(text, "\n", " "))
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
			if ref, ok := part.(string); ok && (key == "$ref" || key == "$dynamicRef") {
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

// lookup follows a JSON pointer fragment (RFC 6901).
func lookup(doc any, ref string) (any, bool) {
	rest, ok := strings.CutPrefix(ref, "#")
	if !ok || (rest != "" && rest[0] != '/') {
		return nil, false
	}
	for _, part := range strings.Split(rest, "/")[1:] {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		m, isMap := doc.(map[string]any)
		if doc, ok = m[part]; !isMap || !ok {
			return nil, false
		}
	}
	return doc, true
}
