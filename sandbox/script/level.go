package script

import (
	"fmt"
	"strings"
	"time"
)

// Level says how much a script is trusted. The names are those of AgentScript.
type Level string

// The levels, least trusted first. Standard is the default.
const (
	Strict     Level = "STRICT"
	Secure     Level = "SECURE"
	Standard   Level = "STANDARD"
	Permissive Level = "PERMISSIVE"
)

// Levels lists all levels, least trusted first.
func Levels() []Level { return []Level{Strict, Secure, Standard, Permissive} }

// ParseLevel reads a level's name in any case; the empty name is Standard.
func ParseLevel(s string) (Level, error) {
	if s == "" {
		return Standard, nil
	}
	for _, l := range Levels() {
		if strings.EqualFold(s, string(l)) {
			return l, nil
		}
	}
	return "", fmt.Errorf("level %.40q: want STRICT, SECURE, STANDARD or PERMISSIVE", s)
}

// TextLimits bound the user's text before anything parses it. Each is the cost of
// one kind of bomb; Tokens and Chain have no counterpart in AgentScript and hold
// what the others only suggest: the memory of the tree and the depth of recursion.
type TextLimits struct {
	Bytes         int `json:"bytes"`           // of the whole text, in UTF-8
	Lines         int `json:"lines"`           // LF, CRLF and CR end one
	LineBytes     int `json:"line_bytes"`      // of one line
	Nesting       int `json:"nesting"`         // open brackets of all kinds, templates included
	Operators     int `json:"operators"`       // operator characters in a row
	StringBytes   int `json:"string_bytes"`    // one string or template literal, as written
	StringTotal   int `json:"string_total"`    // all of them
	RegexpBytes   int `json:"regexp_bytes"`    // one regular expression literal
	Regexps       int `json:"regexps"`         // how many of them
	Tokens        int `json:"tokens"`          // words, literals and operators
	Chain         int `json:"chain"`           // operators and prefixes pending at one point of the text
	BigIntExpon   int `json:"bigint_exponent"` // literal exponent of a BigInt power
	InvisibleMost int `json:"invisible_most"`  // invisible characters in strings and comments; more are refused
}

// RunLimits are the level's defaults for one run. Every one counts for the whole
// run: the script can neither reset it nor catch that it is spent.
type RunLimits struct {
	Timeout      time.Duration `json:"timeout_ns"`
	Iterations   int64         `json:"iterations"` // loop bodies, calls and callbacks together
	ToolCalls    int           `json:"tool_calls"`
	Memory       int64         `json:"memory_bytes"`
	ConsoleBytes int           `json:"console_bytes"`
	ConsoleCalls int           `json:"console_calls"`
	PayloadBytes int           `json:"payload_bytes"` // arguments, a result, the value: each
}

// Rules is everything a level decides.
type Rules struct {
	Level   Level      `json:"level"`
	Text    TextLimits `json:"text"`
	Run     RunLimits  `json:"run"`
	Globals []string   `json:"globals"` // in order of the alphabet
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Rules returns what l decides; an unknown level has the rules of Strict.
func (l Level) Rules() Rules {
	r := Rules{Level: l, Globals: globalsOf(l)}
	// Input and string totals stop at 1 MiB at every level: a tree costs a hundred
	// times its text, and what does not fit the worker's memory is no limit.
	switch l {
	case Permissive:
		r.Text = TextLimits{Bytes: mib, Lines: 100_000, LineBytes: 50_000, Nesting: 100, Operators: 50, StringBytes: mib, StringTotal: mib, RegexpBytes: 1000, Regexps: 50, Tokens: 200_000, InvisibleMost: 1 << 30}
		r.Run = RunLimits{Timeout: 60 * time.Second, Iterations: 100_000, ToolCalls: 1000, ConsoleBytes: 10 * mib, ConsoleCalls: 10_000}
	case Standard:
		r.Text = TextLimits{Bytes: mib, Lines: 10_000, LineBytes: 10_000, Nesting: 50, Operators: 20, StringBytes: 500 * kib, StringTotal: mib, RegexpBytes: 500, Regexps: 30, Tokens: 150_000, InvisibleMost: 1 << 30}
		r.Run = RunLimits{Timeout: 30 * time.Second, Iterations: 10_000, ToolCalls: 100, ConsoleBytes: mib, ConsoleCalls: 1000}
	case Secure:
		r.Text = TextLimits{Bytes: mib, Lines: 5000, LineBytes: 8000, Nesting: 40, Operators: 15, StringBytes: 100 * kib, StringTotal: mib, RegexpBytes: 200, Regexps: 20, Tokens: 100_000, InvisibleMost: 3}
		r.Run = RunLimits{Timeout: 15 * time.Second, Iterations: 5000, ToolCalls: 50, ConsoleBytes: 256 * kib, ConsoleCalls: 500}
	default:
		r.Text = TextLimits{Bytes: 500 * kib, Lines: 2000, LineBytes: 5000, Nesting: 30, Operators: 10, StringBytes: 50 * kib, StringTotal: 500 * kib, RegexpBytes: 100, Regexps: 10, Tokens: 50_000, InvisibleMost: 3}
		r.Run = RunLimits{Timeout: 5 * time.Second, Iterations: 1000, ToolCalls: 10, ConsoleBytes: 64 * kib, ConsoleCalls: 100}
	}
	r.Text.Chain, r.Text.BigIntExpon = 1000, 10_000
	r.Run.Memory, r.Run.PayloadBytes = 64*mib, 5*mib
	return r
}
