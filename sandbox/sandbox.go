// Package sandbox runs what an AI wrote and lets it reach only its tools.
//
// It holds the words that the parts share. A Spec is one run: the source, the level
// and the names of the tools. A Runner (package pool) gives it a worker process of
// its own behind the walls of package jail; the worker (package engine) admits the
// source (package script), runs it, and answers with a Result. On the way a script
// speaks to the outside only through the Broker: the host's half, which decides about
// each call (package tools) and keeps the output.
//
// What crosses between the two is bounded JSON text, both ways. A Result is built
// from a code of the list in errors.go and a short message; no path, type name or
// stack of the host is ever in it. The host never parses the script.
package sandbox

import (
	"context"
	"encoding/json"
	"time"

	"enclave/sandbox/score"
	"enclave/sandbox/script"
)

// Runner runs scripts. Run returns within the timeout of the spec's limits and the
// kill grace, whatever the script does; the answer to every failure is a Result, so
// that there is nothing else to look at. Cancelling ctx ends the run as CodeCancelled.
// Run may be called concurrently.
type Runner interface {
	Run(ctx context.Context, spec Spec, b Broker) Result
}

// Broker is the host's half of a run. Its methods are called concurrently for one run
// (at most Limits.Pending calls at once); ctx ends with the run.
type Broker interface {
	// CallTool decides about a call and makes it. The result is any JSON value of at
	// most Limits.ResultBytes. An error's code and message reach the script, as the
	// code and message of what callTool throws: they must carry nothing of the host.
	CallTool(ctx context.Context, c Call) (json.RawMessage, *Error)
	// Output takes a line of the script's console. It must not block for long: the
	// script waits for it.
	Output(l Line)
}

// Advisor is a Broker that can give the scoring gate a second opinion. The features are
// what a worker says of the script, and bounded like the arguments of a call.
type Advisor interface {
	Opinion(ctx context.Context, f score.Features) (score.Verdict, error)
}

// OpinionCall is how a worker asks for it, as a call with number 0. No tool can have
// this name.
const OpinionCall = "!opinion"

// Spec is one run.
type Spec struct {
	// Source is the text as its author wrote it, at most MaxSource bytes.
	Source string `json:"source"`
	// Filename is what messages call the text; default "script.js".
	Filename string `json:"filename,omitempty"`
	Level    Level  `json:"level,omitempty"`
	// Limits override those of the level where they are not zero.
	Limits Limits `json:"limits"`
	// Tools are what callTool may name. A name that is not here is refused before
	// anything runs, and again by the host at the call.
	Tools []Tool `json:"tools,omitempty"`
	// Tenant says who may share a process with whom. A worker that ran a script of one
	// tenant never runs one of another; empty shares with nobody.
	Tenant string `json:"-"`
	// Gate says what the scoring gate does: GateOff, GateWarn or GateBlock (default).
	Gate Gate `json:"gate,omitempty"`
	// Opinion has the gate ask the host, which is to be an Advisor, about a script that
	// the rules give points. Without an answer STRICT blocks.
	Opinion bool `json:"opinion,omitempty"`
}

// Tool is what the script's side knows of a tool: the host keeps the rest.
type Tool struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// What the tool does to the world, as declared by who registered it. The scoring
	// gate reads these instead of guessing from names. Declared says that they were
	// declared at all, so that the four false ones mean something.
	Declared bool `json:"declared,omitempty"`
	Reads    bool `json:"reads,omitempty"`
	Writes   bool `json:"writes,omitempty"`
	Sends    bool `json:"sends,omitempty"`
	Secret   bool `json:"secret,omitempty"`
}

// Call is one call of a tool, as the script made it.
type Call struct {
	// ID counts the calls of a run, from 1.
	ID   uint64          `json:"id"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"` // an object
	// Line and Column are where the script called, from 1; 0 when not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// Stream says what a line of the console is for.
type Stream string

// The streams of the console. log, info and debug write to StreamOut.
const (
	StreamOut  Stream = "stdout"
	StreamWarn Stream = "warn"
	StreamErr  Stream = "stderr"
)

// Line is one line of the script's console, without its newline.
type Line struct {
	Stream Stream `json:"stream"`
	Text   string `json:"text"`
}

// Result is the end of a run.
type Result struct {
	OK bool `json:"ok"`
	// Value is what the script returned, as JSON; absent when it failed, or returned
	// undefined.
	Value    json.RawMessage `json:"value,omitempty"`
	Error    *Error          `json:"error,omitempty"`
	Stats    Stats           `json:"stats"`
	Findings []Finding       `json:"findings,omitempty"`
	Verdict  *Verdict        `json:"verdict,omitempty"`
}

// Stats is what a run used.
type Stats struct {
	Duration   time.Duration `json:"durationNs"`   // from Run's call to its return
	CPU        time.Duration `json:"cpuNs"`        // of the worker, for this run
	Iterations int64         `json:"iterations"`   // passes of loops, calls of functions, and work of built-ins
	ToolCalls  int           `json:"toolCalls"`    // made, refused ones included
	Output     int64         `json:"outputBytes"`  // bytes written to the console
	Memory     int64         `json:"memoryBytes"`  // highest seen in the script's heap
	Worker     int           `json:"-"`            // process ID, for the log
	Reused     bool          `json:"reusedWorker"` // the process had run for this tenant before
}

// Finding is one reason not to run a source, at its place in the author's text.
type Finding = script.Finding

// Verdict is what the scoring gate said.
type Verdict = score.Verdict

// Gate says what the scoring gate does with a risky script.
type Gate string

// The settings of the gate. The zero value blocks.
const (
	GateBlock Gate = ""     // refuse from 70 points on
	GateWarn  Gate = "warn" // score and say so, run all the same
	GateOff   Gate = "off"  // do not score
)
