package tools

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// importOpenAPI makes a tool of each operation of a document (OpenAPI 3.0 or 3.1, as
// JSON or YAML). The document says what there is; where it is and what it may is tools.json's.
func (r *Registry) importOpenAPI(o *OpenAPI, s secrets, cfg Config) error {
	text, err := readLimited(under(cfg.Dir, o.Document), MaxDocument)
	if err != nil {
		return err
	}
	doc, err := readDocument(text)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Document, err)
	}
	if ver, _ := doc["openapi"].(string); !strings.HasPrefix(ver, "3.") {
		return fmt.Errorf("%s: want an OpenAPI document of version 3", o.Document)
	}
	allow, err := prefixes(o.Allow)
	if err != nil {
		return err
	}
	var client *http.Client
	if !o.Overlay {
		client = httpClient(guarded(allow), keptConns)
		r.closers = append(r.closers, idle{client})
	}
	paths, _ := doc["paths"].(map[string]any)
	im := importer{registry: r, rules: &o.Import, prefix: o.Prefix, seen: make(map[string]bool)}
	hush := newSilence(doc)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item, _ := paths[path].(map[string]any)
		for _, method := range []string{"get", "head", "post", "put", "patch", "delete"} {
			op, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			if err := im.operation(hush, path, method, item, op, o, client, s); err != nil {
				return err
			}
		}
	}
	return im.missing()
}

// operation imports one.
func (im *importer) operation(hush *silence, path, method string, item, op map[string]any, o *OpenAPI, client *http.Client, s secrets) error {
	doc := hush.doc
	id, _ := op["operationId"].(string)
	if id == "" {
		id = method + strings.ReplaceAll(strings.ReplaceAll(path, "{", ""), "}", "")
	}
	if !im.wanted(id) {
		return nil
	}
	e := &endpoint{method: strings.ToUpper(method), client: client, headers: s.injectAll(o.Headers), spread: make(map[string]string)}
	url := strings.TrimSuffix(o.Server, "/") + path
	props, required := make(map[string]any), []any{}
	var query []string
	for _, p := range append(list(item["parameters"]), list(op["parameters"])...) {
		param, _ := deref(doc, p).(map[string]any)
		name, _ := param["name"].(string)
		where, _ := param["in"].(string)
		if !argName.MatchString(name) {
			im.registry.log.Warn("parameter left out: its name cannot be an argument", "operation", id, "name", name)
			continue
		}
		switch where {
		case "path":
		case "query":
			if !slices.Contains(query, name) {
				query = append(query, name)
			}
		case "header":
			e.spread[name] = name
		default:
			continue // a cookie is a secret, and secrets are the operator's
		}
		props[name] = orAny(param["schema"])
		if must, _ := param["required"].(bool); (must || where == "path") && !slices.Contains(required, any(name)) {
			required = append(required, name)
		}
	}
	if len(query) > 0 {
		url += "{?" + strings.Join(query, ",") + "}"
	}
	var err error
	if e.url, err = parseTemplate(url); err != nil {
		im.registry.log.Warn("operation left out", "operation", id, "error", err)
		return nil
	}
	if body, ok := deref(doc, op["requestBody"]).(map[string]any); ok {
		e.body = "body"
		props["body"] = orAny(jsonSchemaOf(body["content"]))
		if must, _ := body["required"].(bool); must {
			required = append(required, "body")
		}
	}
	args := map[string]any{"type": "object", "properties": props, "required": required, "additionalProperties": false}
	result := success(hush, op)
	ver, _ := doc["openapi"].(string)
	self := pruner{doc: doc, old: strings.HasPrefix(ver, "3.0")}
	argsText, resultText := self.schema(args), self.schema(result)
	if result != nil && (self.left < 0 || len(resultText) > MaxSchema) && hush.of(result) {
		im.registry.log.Warn("results of an imported tool are passed unchecked, without what their keys give away: their schema is too large, and calls nothing secret", "tool", id, "at_most", MaxSchema)
		resultText = nil
	}
	text, _ := op["summary"].(string)
	if more, _ := op["description"].(string); more != "" {
		text = strings.TrimSpace(text + "\n" + more)
	}
	kind := []Attribute{Reads}
	if method != "get" && method != "head" {
		kind = []Attribute{Reads, Writes, Sends}
	}
	return im.add(id, text, argsText, resultText, kind, e, o.Overlay)
}

// goodCode is what responses call an answer that is no error.
var goodCode = regexp.MustCompile(`^2([0-9][0-9]|XX)$`)

// success is the schema of the operation's good answers; nil says nothing of them. A server
// may give any of them, so what one calls secret is hidden in all.
func success(hush *silence, op map[string]any) map[string]any {
	responses, _ := op["responses"].(map[string]any)
	of := func(code string) any {
		res, _ := deref(hush.doc, responses[code]).(map[string]any)
		return jsonSchemaOf(res["content"])
	}
	var all []any
	said := false
	for _, code := range slices.Sorted(maps.Keys(responses)) {
		if !goodCode.MatchString(code) {
			continue
		}
		sch := of(code)
		said = said || sch != nil
		if sch == nil && (code == "204" || code == "205") { // which have no body
			sch = map[string]any{"type": "null"}
		}
		if sch = orAny(sch); !slices.ContainsFunc(all, func(one any) bool { return reflect.DeepEqual(one, sch) }) {
			all = append(all, sch)
		}
	}
	// That of default, mostly an error's, would only blur what a good one looks like.
	if sch := of("default"); sch != nil && (len(all) == 0 || !hush.of(sch)) {
		all, said = append(all, sch), true
	}
	switch {
	case !said:
		return nil
	case len(all) == 1:
		return map[string]any{"allOf": all}
	}
	return map[string]any{"anyOf": all}
}

func jsonSchemaOf(content any) any {
	m, _ := content.(map[string]any)
	for _, kind := range slices.Sorted(maps.Keys(m)) {
		if kind == "application/json" || strings.HasSuffix(kind, "+json") {
			one, _ := m[kind].(map[string]any)
			return one["schema"]
		}
	}
	return nil
}

// deref follows one reference within the document.
func deref(doc map[string]any, v any) any {
	if m, ok := v.(map[string]any); ok {
		if ref, ok := m["$ref"].(string); ok {
			v, _ = lookup(doc, ref)
		}
	}
	return v
}

func list(v any) []any { l, _ := v.([]any); return l }

func orAny(v any) any {
	if v == nil {
		return map[string]any{}
	}
	return v
}

// pruner makes a schema of a document stand alone: what it refers to comes along as
// definitions.
type pruner struct {
	doc  map[string]any
	old  bool // version 3.0, whose nullable JSON Schema does not know
	left int  // parts that it may still copy
}

// maxPruned bounds the parts of what stands alone. Each takes two bytes or more, so that
// compile would refuse what is larger.
const maxPruned = MaxSchema / 2

func (p *pruner) schema(v map[string]any) json.RawMessage {
	if v == nil {
		return nil
	}
	p.left = maxPruned
	found := make(map[string]any)
	out, _ := p.walk(v, found).(map[string]any)
	if len(found) > 0 {
		out["$defs"] = found
	}
	if p.left < 0 {
		out = map[string]any{"$ref": "#/what is too large"} // refused, whoever reads it
	}
	b, err := encode(out)
	if err != nil {
		return nil // it was decoded from JSON
	}
	return b
}

func (p *pruner) walk(v any, found map[string]any) any {
	if p.left--; p.left < 0 {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, one := range v {
			out[k] = p.walk(one, found)
		}
		if ref, ok := v["$ref"].(string); ok {
			out["$ref"] = p.follow(ref, found)
		}
		if null, _ := v["nullable"].(bool); p.old && null {
			return orNull(out)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = p.walk(one, found)
		}
		return out
	}
	return v
}

// orNull is a schema that lets null pass, too. Generators write nullable beside a reference,
// alone or in allOf, and mean that.
func orNull(out map[string]any) map[string]any {
	for _, word := range []string{"$ref", "allOf", "anyOf", "oneOf"} {
		if out[word] != nil {
			return map[string]any{"anyOf": []any{out, map[string]any{"type": "null"}}}
		}
	}
	if kind, ok := out["type"].(string); ok {
		out["type"] = []any{kind, "null"}
	}
	if enum, ok := out["enum"].([]any); ok {
		out["enum"] = append(slices.Clone(enum), nil)
	}
	return out
}

// follow takes what a reference leads to along and returns the reference to it there. One
// that leads nowhere in the document, or to all of it, leads nowhere after that.
func (p *pruner) follow(ref string, found map[string]any) string {
	if !strings.HasPrefix(ref, "#") {
		return ref // to another document, which is refused
	}
	target, ok := lookup(p.doc, ref)
	steps, _ := pointer(ref)
	if !ok || len(steps) == 0 {
		return refTo("not in this document", ref)
	}
	for i, step := range steps {
		steps[i] = tildes.Replace(step)
	}
	name := strings.Join(steps, "/") // the same for all ways to write it
	if _, done := found[name]; !done {
		found[name] = nil // being made: a recursive one finds itself here
		found[name] = p.walk(target, found)
	}
	return refTo("$defs", name)
}
