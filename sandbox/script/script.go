// Package script decides whether a text is a program that may run, and makes it
// ready for the engine.
//
// The text is AgentScript (docs/format/agentscript.md): the body of an async
// function, whose last expression is its value and whose only way out is callTool.
// Admit looks at the text before any parser does, parses it, walks the tree against
// a list of what is allowed, resolves every name in its scope, and compiles. What it
// does not know it refuses. All findings carry the line and column of the user's own
// text; nothing is ever rewritten as text.
//
// The package is pure: no clock, no files, no runtime. What static rules cannot
// decide (the value of a computed key, the text of a regular expression made at run
// time) becomes a call of a Helper that the engine supplies.
package script

import (
	"github.com/dop251/goja"

	"enclave/sandbox/score"
)

// Severity says whether a finding refuses the script.
type Severity string

// The severities.
const (
	Refused Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that is wrong with a script, or worth knowing.
type Finding struct {
	Rule     string   `json:"rule"` // the check that speaks, stable: "unknown-global"
	Code     string   `json:"code"` // stable, upper case: "UNKNOWN_GLOBAL"
	Severity Severity `json:"severity"`
	Message  string   `json:"message"` // what, why, what instead
	Line     int      `json:"line"`    // from 1
	Column   int      `json:"column"`  // from 1, in characters
	Length   int      `json:"length"`  // characters that the finding is about, at least 1
}

// Options are what a run adds to its level.
type Options struct {
	Level   Level
	Text    *TextLimits // nil: those of the level
	Globals []string    // custom globals by name
	Tools   []string    // names of the tools that exist; nil: not known, any well-formed name passes
}

// Helper is a function that the engine passes to a program's main function. Scripts
// cannot name one.
type Helper int

// The helpers, in the order of main's parameters.
const (
	// GuardKey takes the value of a computed key and returns it as a string or
	// number, coerced exactly once; it throws for a dangerous one.
	GuardKey Helper = iota
	// MakeRegexp takes pattern and flags, both strings, and returns what a regular
	// expression literal stands for. The pattern has passed CheckRegexp.
	MakeRegexp
	// Spread takes what a spread, new Map or new Set is about to walk
	// through natively, and returns it, or ends the run if that is too much.
	Spread
	// Big takes the use of an operand, a BigUse, and the operand, and returns it as a
	// primitive, or ends the run if it is a BigInt too large for that use. Only
	// programs with a BigInt literal call it: there is no other way to make one.
	Big
	// Trace takes what is about to be asked for its stack, and returns it.
	Trace
	// Throw takes what is about to be thrown, and returns it.
	Throw
	// Copy takes an object whose properties a spread is about to copy,
	// and returns it, or ends the run if that is too much.
	Copy
)

// Name is the name of the script's own text in the places that a runtime reports.
const Name = "<script>"

// BigUse is what an operand that may be a BigInt is used for.
type BigUse int

// The uses, with what a BigInt may be there. They bound the result of each operator to
// some 2^20 bits, which take milliseconds.
const (
	BigFactor   BigUse = iota // of * and left of <<: at most 2^19 bits
	BigBase                   // of **: at most 512 bits
	BigExponent               // of **: at most 10,000
	BigShift                  // right of << and >>: at most 2^19 either way
)

// Most is the most that a BigInt may have for a use: bits, or its absolute value.
func (u BigUse) Most() (bits int, value int64) {
	switch u {
	case BigBase:
		return 512, 0
	case BigExponent:
		return 0, 10_000
	case BigShift:
		return 0, 1 << 19
	}
	return 1 << 19, 0
}

// Program is an admitted script. It is immutable and may run in many runtimes.
type Program struct {
	// Main evaluates to an async function of one parameter a Helper, in their order;
	// calling it runs the script and returns the promise of its value.
	Main     *goja.Program
	Source   string // the user's own text
	Features score.Features
	Level    Level
	Tools    []string // static names of the tools that it may call, sorted

	chars charIndex
}

// Place maps an offset in the text that was compiled to the one in the file that Main
// names as its source. That file has one byte for each character of the user's text: with
// all offsets of Main mapped, the places that a runtime reports are lines and columns, in
// characters, of the user's own text. What lies outside maps to its ends.
func (p *Program) Place(offset int) int { return p.chars.at(offset - len(prefix)) }
