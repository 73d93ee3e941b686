package sandbox

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Code says what kind of end a run had. The list is part of the contract with scripts
// of operators: codes are added, never changed.
type Code string

// The codes of a run that failed.
const (
	// Before anything ran.
	CodeBadSpec    Code = "BAD_SPEC"           // the host asked for what cannot be
	CodeValidation Code = "VALIDATION_ERROR"   // the source was refused: see the findings
	CodeBlocked    Code = "SCORING_BLOCKED"    // the gate: see the verdict
	CodeWalls      Code = "WALLS_MISSING"      // this machine cannot give the walls of the level
	CodeBusy       Code = "BUSY"               // no worker came free in time
	CodePolicy     Code = "POLICY_DENIED"      // the operator's policy has no such run
	CodeScript     Code = "EXECUTION_ERROR"    // the script threw
	CodeTimeout    Code = "TIMEOUT"            // the deadline passed
	CodeIterations Code = "ITERATION_LIMIT"    // the budget of iterations ran out
	CodeMemory     Code = "MEMORY_LIMIT"       // the memory limit, watched or by the kernel
	CodeDepth      Code = "DEPTH_LIMIT"        // calls nested too deep
	CodeToolLimit  Code = "TOOL_CALL_LIMIT"    // more calls than the level has
	CodeValue      Code = "RESULT_NOT_JSON"    // what the script returned is no JSON, or too large
	CodeSecurity   Code = "SECURITY_VIOLATION" // a forbidden name was reached for, caught or not
	CodeCancelled  Code = "CANCELLED"          // the host's context ended
	CodeInternal   Code = "INTERNAL_ERROR"     // a defect of ours; the worker is gone
	CodeWorker     Code = "WORKER_DIED"        // the worker ended in a way that no limit explains
)

// The codes of a call that failed. A script can catch these.
const (
	CodeUnknownTool  Code = "UNKNOWN_TOOL"
	CodeToolArgs     Code = "INVALID_TOOL_ARGS"    // no object, no JSON, too large, or against the schema
	CodeToolResult   Code = "TOOL_RESULT_NOT_SAFE" // too large, no JSON, or against the schema
	CodeToolFailed   Code = "TOOL_CALL_FAILED"
	CodeToolDenied   Code = "TOOL_DENIED" // permission or policy
	CodeToolTimeout  Code = "TOOL_TIMEOUT"
	CodeToolRate     Code = "TOOL_RATE_LIMIT"
	CodeToolSequence Code = "TOOL_SEQUENCE" // the operator's policy about what may follow what
	CodeReference    Code = "REFERENCE_FAILED"
)

// Valid reports whether c is shaped like a code: tools of the host bring their own.
func (c Code) Valid() bool {
	for i := range len(c) {
		if x := c[i]; (x < 'A' || x > 'Z') && x != '_' {
			return false
		}
	}
	return len(c) > 0 && len(c) <= 40
}

// Error is what went wrong, for whoever asked for the run. It never holds anything of
// the host but what the operator wrote.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Name is the class of what the script threw, such as TypeError.
	Name string `json:"name,omitempty"`
	// Line and Column are in the author's text, from 1; 0 when not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// Error makes it an error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf returns an Error whose message has at most MaxErrorText bytes.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: Short(fmt.Sprintf(format, args...))}
}

// Short cuts a message at MaxErrorText bytes, between characters, and makes it valid UTF-8.
func Short(s string) string {
	if len(s) > MaxErrorText {
		cut := MaxErrorText - len("…")
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
