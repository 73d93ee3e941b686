package tools

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// Limits of what a run's secrets are remembered by. Beyond them nothing of the run is
// shown any more.
const (
	maxTaints     = 256
	maxTaintBytes = 256 << 10
)

// A secret may stand within a text: its long words count for themselves.
const (
	minWord   = 10
	wordRunes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+/=.~-"
)

// taint remembers the strings that a tool declared secret has returned. The script has
// them; records, streams and logs do not show them, under whatever key or in whatever
// text they come back.
func (s *Session) taint(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.red.Load()
	next.secrets = append(slices.Clone(next.secrets), stringsIn(v, nil)...)
	next.secrets = longestFirst(next.secrets)
	size := 0
	for _, one := range next.secrets {
		size += len(one)
	}
	if len(next.secrets) > maxTaints+len(s.reg.redact.secrets) || size > maxTaintBytes {
		next.secrets, next.blind = nil, true
	}
	s.red.Store(&next)
}

// maxCause bounds it, in bytes, after the secrets are out.
const maxCause = 1 << 10

// cause is what the log tells of a failed call: without the secrets of its arguments,
// which a service may repeat and an error of the network has in its URL.
func (s *Session) cause(name string, args json.RawMessage, err error) string {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	red := s.knowing(name, args)
	text := red.text(err.Error())
	return strings.ToValidUTF8(text[:min(len(text), maxCause)], "")
}

// knowing is what hides the secrets of one call, too: those of its arguments.
func (s *Session) knowing(name string, args json.RawMessage) *redactor {
	red, t := s.red.Load(), s.reg.tools[name]
	if t == nil || t.args == nil {
		return red
	}
	v, err := decode(args)
	if err != nil {
		return red
	}
	more := red.found(v, t.args, t.args.doc, 0, nil)
	if len(more) == 0 {
		return red
	}
	next := *red
	next.secrets = longestFirst(append(slices.Clone(red.secrets), more...))
	return &next
}

// found are the strings of a value that hide would hide.
func (r *redactor) found(v any, s *schema, at any, depth int, out []string) []string {
	if depth > maxHide {
		return out
	}
	switch v := v.(type) {
	case map[string]any:
		for key, one := range v {
			if sub, hidden := r.member(s, at, key); hidden {
				out = stringsIn(one, out)
			} else {
				out = r.found(one, s, sub, depth+1, out)
			}
		}
	case []any:
		item := s.items(at)
		_, secret := s.marked(item)
		for _, one := range v {
			if secret {
				out = stringsIn(one, out)
			} else {
				out = r.found(one, s, item, depth+1, out)
			}
		}
	}
	return out
}

// stringsIn are the strings of a value that are long enough to be looked for.
func stringsIn(v any, out []string) []string {
	switch v := v.(type) {
	case string:
		if len(v) < minSecret || v == Redacted {
			return out
		}
		out = append(out, v)
		for _, word := range strings.FieldsFunc(v, func(r rune) bool { return !strings.ContainsRune(wordRunes, r) }) {
			if len(word) >= minWord && len(word) < len(v) && len(out) <= maxTaints {
				out = append(out, word)
			}
		}
	case []any:
		for _, one := range v {
			out = stringsIn(one, out)
		}
	case map[string]any:
		for _, one := range v {
			out = stringsIn(one, out)
		}
	}
	return out
}

// longestFirst puts the longest first, each once: one may hold another.
func longestFirst(list []string) []string {
	slices.SortFunc(list, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		if a < b {
			return -1
		}
		return 1
	})
	return slices.Compact(list)
}
