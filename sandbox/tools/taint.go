package tools

import (
	"encoding/json"
	"errors"
	"maps"
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
//
// A text is taken apart when it is new, and then no more than the trove holds: a script that
// asks for the same secret all the time, or for ever more of them, keeps the host busy with
// neither.
func (s *Session) taint(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := len(s.tainted.held)
	if s.tainted.full {
		return
	}
	if s.tainted.all(v); s.tainted.full || len(s.tainted.held) > had {
		s.red.Store(s.reg.redact.with(&s.tainted))
	}
}

// trove collects secrets, each once, until there are more than can be looked for: what it
// is given comes from scripts and services, and each would be looked for in every text.
type trove struct {
	held  map[string]bool
	bytes int
	full  bool // there are too many: it holds none
}

func (t *trove) add(s string) {
	if t.full || t.held[s] {
		return
	}
	if t.bytes += len(s); t.bytes > maxTaintBytes || len(t.held) >= maxTaints {
		*t = trove{full: true}
		return
	}
	if t.held == nil {
		t.held = make(map[string]bool)
	}
	t.held[s] = true
}

// all takes the strings of a value that are long enough to be looked for.
func (t *trove) all(v any) {
	if t.full {
		return
	}
	switch v := v.(type) {
	case string:
		if len(v) < minSecret || v == Redacted || t.held[v] {
			return
		}
		if t.add(v); t.full {
			return
		}
		for word := range strings.FieldsFuncSeq(v, func(r rune) bool { return !strings.ContainsRune(wordRunes, r) }) {
			if len(word) >= minWord && len(word) < len(v) {
				if t.add(word); t.full {
					return
				}
			}
		}
	case []any:
		for _, one := range v {
			t.all(one)
		}
	case map[string]any:
		for _, one := range v {
			t.all(one)
		}
	}
}

// with is r that hides more, or, of what is too much to look for, everything.
func (r *redactor) with(in *trove) *redactor {
	if r.blind || !in.full && len(in.held) == 0 {
		return r
	}
	next := *r
	if in.full {
		next.secrets, next.blind = nil, true
		return &next
	}
	next.secrets = longestFirst(slices.AppendSeq(slices.Clone(r.secrets), maps.Keys(in.held)))
	return &next
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
	if t == nil || red.blind {
		return red
	}
	v, err := decode(args)
	if err != nil {
		return red
	}
	var in trove
	h := red.hiding(t.args)
	if _, secret := h.top.marked(); secret {
		in.all(v)
	} else {
		h.found(v, h.top, 0, &in)
	}
	return red.with(&in)
}

// found takes the strings of a value that value would hide.
func (h *hiding) found(v any, all views, depth int, in *trove) {
	if in.full {
		return
	}
	if depth > maxHide {
		in.all(v)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for key, one := range v {
			if sub, hidden := h.member(all, key); hidden {
				in.all(one)
			} else {
				h.found(one, sub, depth+1, in)
			}
		}
	case []any:
		item := h.views(all.items())
		_, secret := item.marked()
		for _, one := range v {
			if secret {
				in.all(one)
			} else {
				h.found(one, item, depth+1, in)
			}
		}
	}
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
