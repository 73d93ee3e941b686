package tools

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// importer turns what a server or document offers into tools.
type importer struct {
	registry *Registry
	rules    *Import
	prefix   string
	seen     map[string]bool
}

func (im *importer) wanted(name string) bool {
	im.seen[name] = true
	return im.rules.Only == nil || slices.Contains(im.rules.Only, name)
}

// missing reports names of tools.json that the import did not have: a rule for a tool
// under another name would protect nothing.
func (im *importer) missing() error {
	var gone []string
	for _, name := range im.rules.Only {
		if !im.seen[name] {
			gone = append(gone, name)
		}
	}
	for name := range im.rules.Tools {
		if !im.seen[name] {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	return fmt.Errorf("tools.json names what is not there: %s", strings.Join(slices.Compact(gone), ", "))
}

// maxDescription bounds a foreign description.
const maxDescription = 4096

// add makes a tool of an imported one. kind is what it is taken for unless tools.json
// says more exactly; what a server says of its own tools is no basis for that.
func (im *importer) add(name, description string, args, result json.RawMessage, kind []Attribute, b backend, overlay bool) error {
	t := &tool{name: toolName(im.prefix, name), backend: b, overlay: overlay}
	if len(t.name) > maxName {
		return fmt.Errorf("%.40q: the name is longer than %d", name, maxName)
	}
	if len(description) > maxDescription {
		description = strings.ToValidUTF8(description[:maxDescription], "")
	}
	t.description = description
	var err error
	if t.args, err = compile(args, true); err != nil {
		im.registry.log.Warn("imported tool left out: the schema of its arguments cannot be used", "tool", t.name, "error", err)
		return nil
	}
	if im.rules.Rules != nil {
		t.rules = *im.rules.Rules
	}
	if one, ok := im.rules.Tools[name]; ok {
		t.rules = one
	}
	if t.rules.Attributes == nil {
		t.rules.Attributes = kind
	}
	var unchecked error
	if t.result, unchecked, err = foreignResult(result); err != nil {
		if !t.rules.UncheckedResult {
			im.registry.log.Warn("imported tool left out: what of its results is secret cannot be told from their schema; unchecked_result in tools.json lets it in", "tool", t.name, "error", err)
			return nil
		}
		im.registry.log.Warn("results of an imported tool are passed unchecked, without what their keys give away", "tool", t.name, "error", err)
		result = nil
	}
	if unchecked != nil {
		im.registry.log.Warn("results of an imported tool are passed unchecked, without what their schema calls secret", "tool", t.name, "error", unchecked)
	}
	t.argsText, t.resultText = args, result
	return im.registry.add(t)
}

// foreignResult reads what a foreign server says of its own answers. Whether they keep it
// protects nobody, and few keep formats; what it calls secret does. So a schema that values
// cannot be checked against, which unchecked tells, is used for redaction alone, and one that
// cannot be followed is an error.
func foreignResult(text json.RawMessage) (s *schema, unchecked, err error) {
	if string(text) == "null" {
		return nil, nil, nil
	}
	if s, err = readSchema(text); s == nil || err != nil {
		return nil, nil, err
	}
	return s, s.judge(true, nil), nil
}

// toolName makes a foreign name one that a script can call.
func toolName(prefix, name string) string {
	mapped := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == ':' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name)
	full := prefix + mapped
	if full == "" || !(full[0] >= 'a' && full[0] <= 'z' || full[0] >= 'A' && full[0] <= 'Z') {
		full = "t" + full
	}
	return full
}
