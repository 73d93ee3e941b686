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
	h := r.hiding(s)
	if _, secret := h.top.marked(); secret {
		return Redacted
	}
	return h.value(v, h.top, 0)
}

// hiding is the way through one value.
type hiding struct {
	*redactor
	schema *schema
	top    views // of the whole value
	left   int   // steps
}

func (r *redactor) hiding(s *schema) *hiding {
	h := &hiding{redactor: r, schema: s, left: maxFollowed}
	if s != nil && s.speaks { // else it has nothing to say here, however large it is
		h.top = h.views(s.doc)
	}
	return h
}

// views are those of the schema, until too many were asked for.
func (h *hiding) views(at any) (out views) {
	if at == nil {
		return nil
	}
	if h.left > 0 {
		out = h.schema.views(at)
		h.left -= len(out)
	}
	if h.left <= 0 {
		return views{unknown}
	}
	return out
}

// maxHide bounds the depth of schemas that are followed beside a value.
const maxHide = 64

// value is hide for a part of a value, of which a schema says what all have.
func (h *hiding) value(v any, all views, depth int) any {
	if depth > maxHide {
		return Redacted // nothing that was checked is this deep
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, one := range v {
			sub, hidden := h.member(all, key)
			if hidden {
				out[h.text(key)] = Redacted
			} else {
				out[h.text(key)] = h.value(one, sub, depth+1)
			}
		}
		return out
	case []any:
		item := h.views(all.items())
		if _, secret := item.marked(); secret {
			return Redacted
		}
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = h.value(one, item, depth+1)
		}
		return out
	case string:
		return h.text(v)
	}
	return v
}

// member finds what a schema says of a member, and whether it is hidden.
func (h *hiding) member(all views, key string) (sub views, hidden bool) {
	switch {
	case len(all) == 0:
	case h.left <= 0:
		return views{unknown}, true
	default:
		part, steps := h.schema.property(all, key)
		h.left -= steps
		sub = h.views(part)
	}
	said, secret := sub.marked()
	return sub, secret || !said && h.keys.MatchString(key)
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

// maxAuditArgs bounds the arguments in an audit record, and maxAuditLook those that are
// searched for secrets to find out whether they are too long: scripts write them.
const (
	maxAuditArgs = 4 << 10
	maxAuditLook = 64 << 10
)

// forAudit is what a record keeps of arguments, which have size bytes.
func (r *redactor) forAudit(args any, size int, s *schema) json.RawMessage {
	if r.blind {
		return json.RawMessage(`{"_omitted":"this run holds too many secrets to look for"}`)
	}
	if size <= maxAuditLook {
		text, err := encode(r.hide(args, s))
		if err == nil && len(text) <= maxAuditArgs {
			return text
		}
		size = len(text)
	}
	b, _ := encode(map[string]any{"_omitted_bytes": size})
	return b
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
