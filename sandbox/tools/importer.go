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
	// A foreign server's own word about the format of its answers is a note: few keep it.
	if t.result, err = compileAs(result, true, nil); err != nil {
		im.registry.log.Warn("the schema of an imported tool's result cannot be used; results are passed as they are", "tool", t.name, "error", err)
		t.result, result = nil, nil
	}
	t.argsText, t.resultText = args, result
	if im.rules.Rules != nil {
		t.rules = *im.rules.Rules
	}
	if one, ok := im.rules.Tools[name]; ok {
		t.rules = one
	}
	if t.rules.Attributes == nil {
		t.rules.Attributes = kind
	}
	return im.registry.add(t)
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
