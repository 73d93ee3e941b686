package tools

import (
	"encoding/json"
	"regexp"
	"strings"
)

// Redacted stands where a value was hidden.
const Redacted = "[REDACTED]"

// DefaultKeys matches keys whose values are hidden unless the schema says otherwise.
const DefaultKeys = `(?i)(^|[_.-])(pass(word|wd|phrase)?|secret|token|credentials?|authorization|cookie|api[_-]?key|private[_-]?key|access[_-]?key|session[_-]?(id|key))($|[_.-])|(?i:password|apikey|secretkey|accesstoken|refreshtoken|privatekey|clientsecret)`

// minSecret is the shortest secret that is looked for in answers; a shorter one would
// be found by chance.
const minSecret = 6

// A secret of several lines is seldom repeated as one: each line of a size that tells
// something is looked for, too. minPiece is the shortest beginning of one that counts.
const (
	minLine  = 16
	minPiece = 3
)

// redactor hides values. It is immutable.
type redactor struct {
	keys    *regexp.Regexp
	secrets []string // values that no answer may repeat, the longest first
	blind   bool     // there are too many: everything is hidden
}

// hide returns v without what is secret: what the schema calls x-secret or writeOnly,
// what a key's name gives away unless the schema says "x-secret": false there, and the
// operator's own secrets wherever they stand. v is not changed.
func (r *redactor) hide(v any, s *schema) any {
	var doc any
	if s != nil {
		doc = s.doc
	}
	return r.value(v, doc, doc, 0)
}

// maxHide bounds the depth of schemas that are followed beside a value.
const maxHide = 64

func (r *redactor) value(v, at, root any, depth int) any {
	if depth > maxHide {
		return Redacted // nothing that was checked is this deep
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, one := range v {
			sub, said, secret := property(at, root, key)
			switch {
			case said && secret, !said && r.keys.MatchString(key):
				out[r.text(key)] = Redacted
			default:
				out[r.text(key)] = r.value(one, sub, root, depth+1)
			}
		}
		return out
	case []any:
		item := items(at, root)
		if _, secret := marked(item, root); secret {
			return Redacted
		}
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = r.value(one, item, root, depth+1)
		}
		return out
	case string:
		return r.text(v)
	}
	return v
}

// text cuts the operator's secrets out.
func (r *redactor) text(s string) string {
	if r.blind && s != "" {
		return Redacted
	}
	for _, secret := range r.secrets {
		if strings.Contains(s, secret) {
			s = strings.ReplaceAll(s, secret, Redacted)
		}
	}
	return s
}

// edge cuts a piece of a secret off the end of a text, which somebody else cut there.
func (r *redactor) edge(s string) string {
	end := len(s)
	for _, secret := range r.secrets {
		for n := min(len(secret)-1, len(s)); n >= minPiece; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				end = min(end, len(s)-n)
				break
			}
		}
	}
	return s[:end]
}

// marked reports what a schema says about its value being secret.
func marked(at, root any) (said, secret bool) {
	for _, m := range views(at, root) {
		for _, word := range []string{"x-secret", "writeOnly"} {
			if b, ok := m[word].(bool); ok {
				said, secret = said || word == "x-secret" || b, secret || b
			}
		}
	}
	return said, secret
}

// property finds the schema of a member and what it says. Several may apply; one that
// says secret is enough.
func property(at, root any, key string) (sub any, said, secret bool) {
	var all []any
	for _, m := range views(at, root) {
		props, _ := m["properties"].(map[string]any)
		if p, ok := props[key]; ok {
			all = append(all, p)
		} else if p, ok := m["additionalProperties"].(map[string]any); ok {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, false, false
	}
	sub = map[string]any{"allOf": all}
	said, secret = marked(sub, root)
	return sub, said, secret
}

func items(at, root any) any {
	var all []any
	for _, m := range views(at, root) {
		if it, ok := m["items"].(map[string]any); ok {
			all = append(all, it)
		}
		if list, ok := m["prefixItems"].([]any); ok {
			all = append(all, list...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return map[string]any{"allOf": all}
}

// maxViews bounds how many schemas are followed for one value.
const maxViews = 128

// views are the schemas that speak about the same value: behind references and in
// combinations, where any branch that hides a value hides it.
func views(at, root any) (out []map[string]any) {
	todo := []any{at}
	for len(todo) > 0 && len(out) < maxViews {
		m, ok := todo[0].(map[string]any)
		todo = todo[1:]
		if !ok {
			continue
		}
		out = append(out, m)
		if ref, ok := m["$ref"].(string); ok {
			if target, ok := lookup(root, ref); ok {
				todo = append(todo, target)
			}
		}
		for _, word := range []string{"allOf", "anyOf", "oneOf"} {
			list, _ := m[word].([]any)
			todo = append(todo, list...)
		}
		todo = append(todo, m["then"], m["else"])
	}
	return out
}

// maxAuditArgs bounds the arguments in an audit record.
const maxAuditArgs = 4 << 10

// forAudit is what a record keeps of arguments.
func (r *redactor) forAudit(args any, s *schema) json.RawMessage {
	text, err := encode(r.hide(args, s))
	if r.blind {
		text = []byte(`{"_omitted":"this run holds too many secrets to look for"}`)
	}
	if err != nil || len(text) > maxAuditArgs {
		b, _ := encode(map[string]any{"_omitted_bytes": len(text)})
		return b
	}
	return text
}

func newRedactor(keys string, secrets []string) (*redactor, error) {
	if keys == "" {
		keys = DefaultKeys
	}
	re, err := regexp.Compile(keys)
	if err != nil {
		return nil, err
	}
	r := &redactor{keys: re}
	for _, s := range secrets {
		if len(s) >= minSecret {
			r.secrets = append(r.secrets, s)
		}
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= minLine && line != s {
				r.secrets = append(r.secrets, line)
			}
		}
	}
	r.secrets = longestFirst(r.secrets)
	return r, nil
}
