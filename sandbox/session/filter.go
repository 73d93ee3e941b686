package session

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"enclave/wire"
)

// Limits of a filter.
const (
	maxFilter      = 4 << 10  // bytes of its text
	maxFilterRules = 20       // rules, and patterns of all of them
	maxFilterValue = 16 << 10 // bytes of a value that patterns look at
)

// Filter says which events a reader wants. It does not change. What opens and ends a
// session always passes, and so does what is of the connection alone.
type Filter struct {
	exclude bool
	rules   []filterRule
}

type filterRule struct {
	types    []string
	patterns []filterPattern
	all      bool // every pattern has to match, not one
}

type filterPattern struct {
	field []string // nil is the whole payload
	re    *regexp.Regexp
}

// filterTypes are what a filter can name.
func filterTypes() []string {
	return []string{TypeStdout, TypeLog, TypeCall, TypeProgress, TypeResult, TypePartial, TypeDeadline, TypeCatalog, TypeInit, TypeFinal, TypeHeartbeat, TypeError}
}

// ParseFilter reads a filter: types that are wanted (stdout,log), types that are not
// (-tool_progress), or rules as a JSON object, which look at fields too.
func ParseFilter(text string) (*Filter, error) {
	switch {
	case len(text) > maxFilter:
		return nil, fmt.Errorf("more than %d bytes", maxFilter)
	case strings.HasPrefix(text, "{"):
		return parseRules(text)
	}
	f := new(Filter)
	var one filterRule
	for i, name := range strings.Split(text, ",") {
		name, no := strings.CutPrefix(strings.TrimSpace(name), "-")
		if i > 0 && no != f.exclude {
			return nil, fmt.Errorf("%.40s: either name the types that are wanted, or those that are not", name)
		}
		f.exclude = no
		if err := knownType(name); err != nil {
			return nil, err
		}
		one.types = append(one.types, name)
	}
	f.rules = []filterRule{one}
	return f, nil
}

func knownType(name string) error {
	if !slices.Contains(filterTypes(), name) {
		return fmt.Errorf("%.40q is no type of event: there are %s", name, strings.Join(filterTypes(), ", "))
	}
	return nil
}

// filterText is the JSON form.
type filterText struct {
	Mode  string `json:"mode"`
	Rules []struct {
		Types *struct {
			Types []string `json:"types"`
		} `json:"types"`
		Content *struct {
			Match    string `json:"match"`
			Patterns []struct {
				Type    string `json:"type"`
				Pattern string `json:"pattern"`
				Field   string `json:"field"`
				Fold    bool   `json:"caseInsensitive"`
			} `json:"patterns"`
		} `json:"content"`
	} `json:"rules"`
}

func parseRules(text string) (*Filter, error) {
	var t filterText
	if err := wire.Unmarshal([]byte(text), &t); err != nil {
		return nil, err
	}
	if t.Mode != "include" && t.Mode != "exclude" {
		return nil, fmt.Errorf("mode: want include or exclude")
	}
	if len(t.Rules) == 0 || len(t.Rules) > maxFilterRules {
		return nil, fmt.Errorf("rules: want 1 to %d", maxFilterRules)
	}
	patterns := 0
	f := &Filter{exclude: t.Mode == "exclude"}
	for i, r := range t.Rules {
		var out filterRule
		at := fmt.Sprintf("rules[%d]", i)
		if r.Types == nil && r.Content == nil {
			return nil, fmt.Errorf("%s: want types, content, or both", at)
		}
		if r.Types != nil {
			out.types = append([]string{}, r.Types.Types...)
			for _, name := range out.types {
				if err := knownType(name); err != nil {
					return nil, fmt.Errorf("%s.types: %w", at, err)
				}
			}
		}
		if c := r.Content; c != nil {
			if patterns += len(c.Patterns); len(c.Patterns) == 0 || patterns > maxFilterRules || (c.Match != "" && c.Match != "any" && c.Match != "all") {
				return nil, fmt.Errorf("%s.content: want a pattern, at most %d in all, and match any or all", at, maxFilterRules)
			}
			out.all = c.Match == "all"
			for k, p := range c.Patterns {
				re, err := pattern(p.Type, p.Pattern, p.Fold)
				if err != nil {
					return nil, fmt.Errorf("%s.content.patterns[%d]: %w", at, k, err)
				}
				var field []string
				if p.Field != "" {
					field = strings.Split(p.Field, ".")
				}
				out.patterns = append(out.patterns, filterPattern{field, re})
			}
		}
		f.rules = append(f.rules, out)
	}
	return f, nil
}

// pattern makes a linear-time regular expression of every kind of pattern.
func pattern(kind, text string, fold bool) (*regexp.Regexp, error) {
	var re string
	switch kind {
	case "exact":
		re = `^` + regexp.QuoteMeta(text) + `$`
	case "prefix":
		re = `^` + regexp.QuoteMeta(text)
	case "glob":
		// Two stars cross a slash, one does not.
		re = strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`, `\?`, `[^/]`).Replace(regexp.QuoteMeta(text))
		re = `^` + re + `$`
	case "regex":
		re = text
	default:
		return nil, fmt.Errorf("type: want exact, prefix, glob or regex")
	}
	if kind != "regex" {
		re = `(?s)` + re
	}
	if fold {
		re = `(?i)` + re
	}
	return regexp.Compile(re)
}

// Passes reports whether a reader wants an event. A nil filter wants all.
func (f *Filter) Passes(e Event) bool {
	if f == nil || e.Type == TypeInit || e.Type == TypeFinal || e.Type == TypeError || e.Type == TypeHeartbeat {
		return true
	}
	return slices.ContainsFunc(f.rules, func(r filterRule) bool { return r.matches(e) }) != f.exclude
}

func (r filterRule) matches(e Event) bool {
	if r.types != nil && !slices.Contains(r.types, e.Type) {
		return false
	}
	if r.patterns == nil {
		return true
	}
	one := func(p filterPattern) bool { return p.matches(e) }
	if r.all {
		return !slices.ContainsFunc(r.patterns, func(p filterPattern) bool { return !one(p) })
	}
	return slices.ContainsFunc(r.patterns, one)
}

func (p filterPattern) matches(e Event) bool {
	text := string(e.Payload)
	if p.field != nil {
		var ok bool
		if text, ok = fieldOf(e, p.field); !ok {
			return false
		}
	}
	return len(text) <= maxFilterValue && p.re.MatchString(text)
}

// fieldOf finds a field of an event by its path; what is no text is its JSON.
func fieldOf(e Event, path []string) (string, bool) {
	switch path[0] {
	case "type":
		return e.Type, len(path) == 1
	case "payload":
	default:
		return "", false
	}
	at := e.Payload
	for _, key := range path[1:] {
		var m map[string]json.RawMessage
		if len(at) > maxFilterValue || json.Unmarshal(at, &m) != nil {
			return "", false
		}
		next, ok := m[key]
		if !ok {
			return "", false
		}
		at = next
	}
	var text string
	if json.Unmarshal(at, &text) == nil {
		return text, true
	}
	return string(at), true
}
