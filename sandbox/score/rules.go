package score

import (
	"fmt"
	"slices"
	"strings"
)

type judge struct {
	f     Features
	tools map[string]Tool // those that say what they do
}

func (j judge) reads(name string) bool {
	if t, ok := j.tools[name]; ok {
		return t.Reads || t.Secret
	}
	return has(split(name), readWords)
}

func (j judge) sends(name string) bool {
	if t, ok := j.tools[name]; ok {
		return t.Sends
	}
	return has(split(name), sendWords)
}

// how says why a tool counts as what it counts as.
func (j judge) how(name string) string {
	if _, ok := j.tools[name]; ok {
		return "declared"
	}
	return "by its name"
}

// sensitiveFields: 35, what each category adds, and 5 for each further field, at most 60.
func (j judge) sensitiveFields() (Signal, bool) {
	points, line := 35, 0
	var seen, fields []string
	known := map[string]bool{}
	add := func(name string, at int) {
		if known[name] {
			return
		}
		known[name] = true
		kind, p := sensitive(name)
		if kind == "" {
			return
		}
		if line == 0 {
			line = at
		}
		if len(fields) > 0 {
			points += 5
		}
		fields = append(fields, name)
		if !slices.Contains(seen, kind) {
			seen = append(seen, kind)
			points += p
		}
	}
	for _, n := range j.f.Names {
		add(n.Text, n.Line)
	}
	for _, c := range j.f.Calls {
		for _, k := range c.Keys {
			add(k, c.Line)
		}
		for _, s := range c.Strings {
			if !strings.ContainsAny(s, " \t\n") {
				add(s, c.Line)
			}
		}
		if t := j.tools[c.Tool]; t.Secret {
			add("the secret tool "+c.Tool, c.Line)
		}
	}
	if len(fields) == 0 {
		return Signal{}, false
	}
	return Signal{Name: "SENSITIVE_FIELD", Points: min(points, 60), Line: line,
		Detail: fmt.Sprintf("names of %s data: %s", strings.Join(seen, " and "), some(fields))}, true
}

// some lists the first few of many.
func some(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + fmt.Sprintf(" and %d more", len(list)-5)
	}
	return strings.Join(list, ", ")
}

// excessiveLimit: 25 above 10,000, 10 more above 100,000 and 15 more above 1,000,000.
func (j judge) excessiveLimit() (Signal, bool) {
	points := 0
	for _, step := range []struct {
		above  float64
		points int
	}{{10_000, 25}, {100_000, 10}, {1_000_000, 15}} {
		if j.f.MaxLimit > step.above {
			points += step.points
		}
	}
	return Signal{Name: "EXCESSIVE_LIMIT", Points: points, Line: j.f.MaxLimitLine,
		Detail: fmt.Sprintf("asks for as many as %.0f", j.f.MaxLimit)}, points > 0
}

// wildcardQuery: 20 for asking for everything.
func (j judge) wildcardQuery() (Signal, bool) {
	for _, c := range j.f.Calls {
		for _, s := range c.Strings {
			if s == "*" || s == "**" || s == "%" {
				return Signal{Name: "WILDCARD_QUERY", Points: 20, Line: c.Line, Detail: fmt.Sprintf("%s is asked for %q", c.Tool, s)}, true
			}
		}
		t, declared := j.tools[c.Tool]
		if c.NoArgs && (declared && t.Reads || !declared && has(split(c.Tool), queryWords)) {
			return Signal{Name: "WILDCARD_QUERY", Points: 20, Line: c.Line,
				Detail: fmt.Sprintf("%s reads (%s) and is asked for everything: the call has no arguments", c.Tool, j.how(c.Tool))}, true
		}
	}
	return Signal{}, false
}

// loopToolCall: 25 for each tool in a loop, 10 for each level beyond one, 15 if the
// loop runs over a tool's result; at most 50.
func (j judge) loopToolCall() (Signal, bool) {
	var names []string
	known := map[string]bool{}
	deepest, line, over := 0, 0, false
	for _, c := range j.f.Calls {
		if c.Loop == 0 {
			continue
		}
		if line == 0 {
			line = c.Line
		}
		if !known[c.Tool] {
			known[c.Tool] = true
			names = append(names, c.Tool)
		}
		deepest, over = max(deepest, c.Loop), over || c.OverTool
	}
	if len(names) == 0 {
		return Signal{}, false
	}
	points, detail := 25*len(names)+10*(deepest-1), some(names)+" called in a loop"
	if deepest > 1 {
		detail += fmt.Sprintf(", %d loops deep", deepest)
	}
	if over {
		points += 15
		detail += ", over what a tool returned"
	}
	return Signal{Name: "LOOP_TOOL_CALL", Points: min(points, 50), Line: line, Detail: detail}, true
}

// exfilPattern: 50 for a call that reads with one that sends right after it.
func (j judge) exfilPattern() (Signal, bool) {
	for i := 1; i < len(j.f.Calls); i++ {
		a, b := j.f.Calls[i-1].Tool, j.f.Calls[i].Tool
		if j.reads(a) && j.sends(b) {
			return Signal{Name: "EXFIL_PATTERN", Points: 50, Line: j.f.Calls[i].Line,
				Detail: fmt.Sprintf("%s reads (%s), then %s sends (%s)", a, j.how(a), b, j.how(b))}, true
		}
	}
	return Signal{}, false
}

// extremeValue: 30 for an argument above a million.
func (j judge) extremeValue() (Signal, bool) {
	for _, c := range j.f.Calls {
		for _, n := range c.Numbers {
			if n > 1_000_000 {
				return Signal{Name: "EXTREME_VALUE", Points: 30, Line: c.Line, Detail: fmt.Sprintf("%s is given %.0f", c.Tool, n)}, true
			}
		}
	}
	return Signal{}, false
}

// dynamicTool: 20 for each call that does not say which tool, at most 40.
func (j judge) dynamicTool() (Signal, bool) {
	n, line := 0, 0
	for _, c := range j.f.Calls {
		if c.Tool == "" {
			if n++; line == 0 {
				line = c.Line
			}
		}
	}
	return Signal{Name: "DYNAMIC_TOOL", Points: min(20*n, 40), Line: line, Detail: fmt.Sprintf("%d calls do not say which tool", n)}, n > 0
}

// bulkOperation: 15 for each tool whose name says that it does many things at once
// and that declares nothing better, at most 30.
func (j judge) bulkOperation() (Signal, bool) {
	var names []string
	known := map[string]bool{}
	line := 0
	for _, c := range j.f.Calls {
		if _, declared := j.tools[c.Tool]; declared || known[c.Tool] || !has(split(c.Tool), bulkWords) {
			continue
		}
		known[c.Tool] = true
		names = append(names, c.Tool)
		if line == 0 {
			line = c.Line
		}
	}
	return Signal{Name: "BULK_OPERATION", Points: min(15*len(names), 30), Line: line, Detail: "by their names, many things at once: " + some(names)}, len(names) > 0
}
