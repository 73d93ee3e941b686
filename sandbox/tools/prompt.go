package tools

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"enclave/sandbox/script"
)

// Prompt is what a model has to know to write scripts for a run: the language at a level,
// and the tools. Foreign descriptions are cut and stand in one line each, as comments: a
// server's words are no instructions, and who shows them to a model should know whose
// they are.
func Prompt(r script.Rules, list []Info) string {
	var b strings.Builder
	fmt.Fprintf(&b, `Write the body of an async JavaScript function. Answer with the code alone.

- "await" and "return" stand at the top; the value of "return", or of a last statement that
  is an expression, is the result. It has to be JSON.
- Tools are called as await callTool("name", { ... }): the name is a literal, the arguments
  are one object. A call that fails throws an Error with name, code and message.
- parallel(items, fn) runs fn(item, index) for up to 100 items at once and returns their results;
  Promise.all(list) waits for a list of at most 100. Nothing else of Promise is there.
- There are const, let, functions, arrows, destructuring, for, for...of, while, switch, try,
  templates, spread, regular expressions (linear: no look-around, no back-references).
- There are no imports, network, files, timers, process, eval, this, classes, generators, getters,
  setters, Proxy, Reflect, for...in, nor the keys constructor, prototype and __proto__.
- Globals: %s.
- Limits: %s in all, %d iterations, %d tool calls, %d lines.

Tools:
`, strings.Join(r.Globals, ", "), r.Run.Timeout, r.Run.Iterations, r.Run.ToolCalls, r.Text.Lines)
	if len(list) == 0 {
		b.WriteString("// there are none\n")
	}
	for _, t := range list {
		fmt.Fprintf(&b, "callTool(%q, %s): %s", t.Name, shape(t.Arguments), shape(t.Result))
		if text := told(t.Description); text != "" {
			b.WriteString(" //" + strings.TrimPrefix(text, ":"))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// shape writes a schema the way TypeScript writes a type, as far as a model needs it.
func shape(text json.RawMessage) string {
	doc, err := decode(text)
	if len(text) == 0 || err != nil {
		return "any"
	}
	s := shaper{root: doc, left: maxShapeParts}
	return s.of(doc, 0)
}

// Limits of a shape: beyond them stands "any".
const (
	maxShapeDepth = 5
	maxShapeParts = 200
)

type shaper struct {
	root any
	left int
}

func (s *shaper) of(v any, depth int) string {
	m, ok := v.(map[string]any)
	if s.left--; !ok || s.left < 0 || depth > maxShapeDepth {
		return "any"
	}
	if ref, ok := m["$ref"].(string); ok {
		target, _ := lookup(s.root, ref)
		return s.of(target, depth+1)
	}
	if enum := list(m["enum"]); len(enum) > 0 && len(enum) <= 20 {
		parts := []string{}
		for _, one := range enum {
			parts = append(parts, short(one))
		}
		return strings.Join(parts, " | ")
	}
	if c, ok := m["const"]; ok {
		return short(c)
	}
	for _, word := range []string{"anyOf", "oneOf"} {
		if all := list(m[word]); len(all) > 0 && len(all) <= 10 {
			parts := []string{}
			for _, one := range all {
				parts = append(parts, s.of(one, depth+1))
			}
			return strings.Join(slices.Compact(parts), " | ")
		}
	}
	if all := list(m["allOf"]); len(all) == 1 {
		return s.of(all[0], depth+1)
	}
	kinds := list(m["type"])
	if one, ok := m["type"].(string); ok {
		kinds = []any{one}
	}
	parts := []string{}
	for _, kind := range kinds {
		switch kind {
		case "object":
			parts = append(parts, s.fields(m, depth))
		case "array":
			parts = append(parts, "Array<"+s.of(m["items"], depth+1)+">")
		case "integer", "number":
			parts = append(parts, fmt.Sprint(kind)+bounds(m))
		default:
			text := fmt.Sprint(kind)
			if f, ok := m["format"].(string); ok && argName.MatchString(f) {
				text += " (" + f + ")"
			}
			parts = append(parts, text)
		}
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, " | ")
	case m["properties"] != nil:
		return s.fields(m, depth)
	}
	return "any"
}

func bounds(m map[string]any) string {
	low, hasLow := m["minimum"].(json.Number)
	high, hasHigh := m["maximum"].(json.Number)
	if !hasLow && !hasHigh {
		return ""
	}
	return " (" + low.String() + ".." + high.String() + ")"
}

func (s *shaper) fields(m map[string]any, depth int) string {
	props, _ := m["properties"].(map[string]any)
	if len(props) == 0 {
		return "{}"
	}
	out := []string{}
	for _, name := range slices.Sorted(maps.Keys(props)) {
		if s.left <= 0 {
			out = append(out, "…")
			break
		}
		mark := "?"
		if slices.Contains(list(m["required"]), any(name)) {
			mark = ""
		}
		shown := name
		if !plainKey.MatchString(name) {
			shown = fmt.Sprintf("%.*q", maxShownKey, name)
		}
		out = append(out, shown+mark+": "+s.of(props[name], depth+1))
	}
	return "{ " + strings.Join(out, ", ") + " }"
}
