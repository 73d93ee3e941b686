// Package corpus is the collection of scripts that the sandbox is held to: hostile
// ones, each refused by a named rule or contained at run time, and valid ones with
// the value that they have.
//
// A file holds the scripts of one class. Each begins with a line
//
//	-- NAME: EXPECTATION --
//
// and runs to the next such line. EXPECTATION is "refused CODE", for what admission
// must find; "contained", for what must end, by itself or by a limit, without a trace
// of the host and without harm to the next run, or "contained CODE CODE…" where only
// these ends are right, KILLED among them where the process alone cannot stop itself and
// the wall around it must; or "value JSON". A class of valid scripts runs at STRICT
// unless the expectation begins with the name of a level and a space.
//
// The runner of the scripts gives them the tools of Tools; what each does is said
// there. The package holds text only: it starts nothing.
package corpus

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"enclave/sandbox/script"
)

//go:embed hostile/*.txt valid/*.txt
var files embed.FS

// Kind is how a script must end.
type Kind string

// The kinds.
const (
	Refused   Kind = "refused"
	Contained Kind = "contained"
	Value     Kind = "value"
)

// Script is one of the corpus.
type Script struct {
	Class  string // "hostile/prototype"
	Name   string // "define-property"
	Source string
	Level  script.Level
	Kind   Kind
	Code   string   // the finding's, if Refused
	Codes  []string // the only right ends, if Contained and not empty
	Value  string   // JSON, if Value
}

// Patience is how long a script may take that must end by itself: no machine is so busy
// that it would not have ended.
const Patience = 30 * time.Second

// Deadline is what a runner gives a script: deadline where that may be its end, and
// otherwise so much that its end does not depend on what else the machine does.
func (s Script) Deadline(deadline time.Duration) time.Duration {
	if s.Kind == Contained && (len(s.Codes) == 0 || slices.Contains(s.Codes, "TIMEOUT") || slices.Contains(s.Codes, "KILLED")) {
		return deadline
	}
	return Patience
}

// Path names a script in messages: "hostile/prototype/define-property".
func (s Script) Path() string { return s.Class + "/" + s.Name }

// Tools are what the scripts may call, with what a runner must make them do:
//
//	echo        returns its arguments
//	users:list  returns {"items":[{"id":1,"name":"Ann","age":30},{"id":2,"name":"Bob","age":25},
//	            {"id":3,"name":"Cyd","age":35}],"total":3}, items cut at the argument limit
//	users:get   returns the user of the argument id, or null
//	fail        fails with a message that holds a path of the host: nothing of it may be seen
//	slow        answers after 10 ms with {"ok":true}
//	never       never answers
//	poison      returns {"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"then":1,"a":[1]}
func Tools() []string {
	return []string{"echo", "users:list", "users:get", "fail", "slow", "never", "poison"}
}

// Load returns all scripts, by file and in the order of the text.
func Load() ([]Script, error) {
	var all []Script
	for _, dir := range []string{"hostile", "valid"} {
		entries, err := files.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			data, err := files.ReadFile(path.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			list, err := Parse(dir+"/"+strings.TrimSuffix(e.Name(), ".txt"), string(data))
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
	}
	return all, nil
}

// Parse reads the scripts of one class. In a text, {{N*TEXT}} stands for N times
// TEXT and {{U+XXXX}} for a character that an editor may not show; they may nest.
func Parse(class, text string) ([]Script, error) {
	var all []Script
	seen := map[string]bool{}
	for i, line := range strings.SplitAfter(text, "\n") {
		head, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "-- ")
		head, ok2 := strings.CutSuffix(head, " --")
		if !ok || !ok2 {
			if len(all) == 0 {
				if strings.TrimSpace(line) != "" {
					return nil, fmt.Errorf("%s line %d: text before the first script", class, i+1)
				}
				continue
			}
			all[len(all)-1].Source += line
			continue
		}
		s, err := header(head)
		if err != nil {
			return nil, fmt.Errorf("%s line %d: %w", class, i+1, err)
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("%s line %d: a second %q", class, i+1, s.Name)
		}
		seen[s.Name] = true
		s.Class = class
		all = append(all, s)
	}
	for i := range all {
		src, err := expand(strings.TrimRight(all[i].Source, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", all[i].Path(), err)
		}
		all[i].Source = src
		if all[i].Value, err = expand(all[i].Value); err != nil {
			return nil, fmt.Errorf("%s: %w", all[i].Path(), err)
		}
	}
	return all, nil
}

func header(head string) (Script, error) {
	name, rest, ok := strings.Cut(head, ": ")
	if !ok || name == "" || strings.ContainsAny(name, " \t/") {
		return Script{}, fmt.Errorf("want NAME: EXPECTATION, not %q", head)
	}
	s := Script{Name: name, Level: script.Strict}
	for _, l := range script.Levels() {
		if after, ok := strings.CutPrefix(rest, string(l)+" "); ok {
			s.Level, rest = l, after
		}
	}
	kind, rest, _ := strings.Cut(rest, " ")
	s.Kind = Kind(kind)
	switch s.Kind {
	case Refused:
		s.Code = rest
	case Contained:
		s.Codes = strings.Fields(rest)
	case Value:
		s.Value = rest
		if !json.Valid([]byte(rest)) {
			return s, fmt.Errorf("the value %q is no JSON", rest)
		}
	default:
		return s, fmt.Errorf("%q is none of refused, contained, value", kind)
	}
	if s.Kind == Refused && (rest == "" || strings.Contains(rest, " ")) {
		return s, fmt.Errorf("refused wants one code")
	}
	return s, nil
}

// maxExpanded bounds one script.
const maxExpanded = 2 << 20

// expand replaces what stands in double braces, the innermost first.
func expand(src string) (string, error) {
	for from := 0; ; {
		end := strings.Index(src[from:], "}}")
		if end < 0 {
			return src, nil
		}
		end += from
		start := strings.LastIndex(src[:end], "{{")
		if start < 0 {
			from = end + 1
			continue
		}
		inside := src[start+2 : end]
		count, what, times := strings.Cut(inside, "*")
		var n int
		var r rune
		with := ""
		if _, err := fmt.Sscanf(inside, "U+%X", &r); err == nil {
			with = string(r)
		} else if _, err := fmt.Sscanf(count, "%d", &n); err == nil && times && n > 0 {
			if len(src)+n*len(what) > maxExpanded {
				return "", fmt.Errorf("{{%s}} is too long", inside)
			}
			with = strings.Repeat(what, n)
		} else {
			from = end + 1
			continue
		}
		src = src[:start] + with + src[end+2:]
		from = start
	}
}
