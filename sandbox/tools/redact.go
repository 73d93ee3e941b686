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
	if s == nil {
		return r.value(v, nil, nil, 0)
	}
	if _, secret := s.marked(s.doc); secret {
		return Redacted
	}
	return r.value(v, s, s.doc, 0)
}

// maxHide bounds the depth of schemas that are followed beside a value.
const maxHide = 64

// value is hide for a part of a value; at is what of the schema s speaks of it.
func (r *redactor) value(v any, s *schema, at any, depth int) any {
	if depth > maxHide {
		return Redacted // nothing that was checked is this deep
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, one := range v {
			sub, hidden := r.member(s, at, key)
			if hidden {
				out[r.text(key)] = Redacted
			} else {
				out[r.text(key)] = r.value(one, s, sub, depth+1)
			}
		}
		return out
	case []any:
		item := s.items(at)
		if _, secret := s.marked(item); secret {
			return Redacted
		}
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = r.value(one, s, item, depth+1)
		}
		return out
	case string:
		return r.text(v)
	}
	return v
}

// member finds what a schema says of a member, and whether it is hidden.
func (r *redactor) member(s *schema, at any, key string) (sub any, hidden bool) {
	sub = s.property(at, key)
	said, secret := s.marked(sub)
	return sub, secret || !said && r.keys.MatchString(key)
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
