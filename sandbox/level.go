package sandbox

import (
	"slices"
	"time"

	"enclave/sandbox/script"
)

// Level says how much a script is trusted; the zero value is STANDARD in a Spec.
type Level = script.Level

// The levels, strictest first. At Strict and Secure every run has a process of its own.
const (
	Strict     = script.Strict
	Secure     = script.Secure
	Standard   = script.Standard
	Permissive = script.Permissive
)

// OneRunAProcess reports whether a process at level l ends with its first run.
func OneRunAProcess(l Level) bool { return l != Standard && l != Permissive }

// Limits bound one run. In a Spec a zero means what the level says.
type Limits struct {
	// Timeout is the one deadline for everything: admission, execution, tools, and the
	// conversion of the answer.
	Timeout time.Duration `json:"timeoutNs,omitempty"`
	// Iterations is one budget a run: each pass of a loop and each call of a function
	// (callbacks and recursion included) takes one, and what built-ins do natively is
	// charged by the element. A script can neither reset it nor catch its end.
	Iterations int64 `json:"iterations,omitempty"`
	// ToolCalls may be made in all, Pending of them be under way at once.
	ToolCalls int `json:"toolCalls,omitempty"`
	Pending   int `json:"pending,omitempty"`
	// OutputBytes and OutputLines bound the console. What is over is dropped, and the
	// last line says so; the run goes on.
	OutputBytes int64 `json:"outputBytes,omitempty"`
	OutputLines int   `json:"outputLines,omitempty"`
	// MemoryBytes is for the script's own heap. The worker as a whole has a fixed
	// allowance on top, and the kernel ends it there.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// ArgumentBytes bound the arguments of a call, ResultBytes the result of a tool,
	// ValueBytes what the script returns, all as JSON text; Depth bounds the nesting
	// and Nodes the number of values in each of them.
	ArgumentBytes int64 `json:"argumentBytes,omitempty"`
	ResultBytes   int64 `json:"resultBytes,omitempty"`
	ValueBytes    int64 `json:"valueBytes,omitempty"`
	Depth         int   `json:"depth,omitempty"`
	Nodes         int   `json:"nodes,omitempty"`
}

// Absolute bounds: no level and no override goes beyond them.
const (
	MaxSource    = 1 << 20 // bytes of a source
	MaxTimeout   = 10 * time.Minute
	MaxMemory    = 1 << 30
	MaxPayload   = 16 << 20 // bytes of one argument, result or value
	MaxDepth     = 200
	MaxTools     = 1000
	MaxPending   = 1000
	MaxItems     = 100 // items of one parallel
	KillGrace    = 250 * time.Millisecond
	MaxErrorText = 1000 // bytes of an error's message
)

const mib = 1 << 20

// LimitsOf returns the limits of a level. Those of time, iterations, calls and output
// are the ones that scripts of this language were written for; depth and nodes are
// not: the 50 values that STRICT once had refuse a list of 51 numbers.
func LimitsOf(l Level) Limits {
	r := l.Rules().Run
	return Limits{
		Timeout: r.Timeout, Iterations: r.Iterations, ToolCalls: r.ToolCalls, Pending: min(r.ToolCalls, 100),
		OutputBytes: int64(r.ConsoleBytes), OutputLines: r.ConsoleCalls, MemoryBytes: r.Memory,
		ArgumentBytes: int64(r.PayloadBytes), ResultBytes: int64(r.PayloadBytes), ValueBytes: int64(r.PayloadBytes),
		Depth: 50, Nodes: 200_000,
	}
}

// With returns l with what o sets put over it.
func (l Limits) With(o Limits) Limits {
	over(&l.Timeout, o.Timeout)
	over(&l.Iterations, o.Iterations)
	over(&l.ToolCalls, o.ToolCalls)
	over(&l.Pending, o.Pending)
	over(&l.OutputBytes, o.OutputBytes)
	over(&l.OutputLines, o.OutputLines)
	over(&l.MemoryBytes, o.MemoryBytes)
	over(&l.ArgumentBytes, o.ArgumentBytes)
	over(&l.ResultBytes, o.ResultBytes)
	over(&l.ValueBytes, o.ValueBytes)
	over(&l.Depth, o.Depth)
	over(&l.Nodes, o.Nodes)
	return l
}

func over[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// Resolved returns the spec with its level and all limits filled in, or what is wrong
// with it.
func (s Spec) Resolved() (Spec, *Error) {
	if s.Level == "" {
		s.Level = Standard
	}
	if !slices.Contains(script.Levels(), s.Level) {
		return s, Errorf(CodeBadSpec, "level %.40q: want STRICT, SECURE, STANDARD or PERMISSIVE", s.Level)
	}
	if s.Filename == "" {
		s.Filename = "script.js"
	}
	s.Limits = LimitsOf(s.Level).With(s.Limits)
	switch l := s.Limits; {
	case len(s.Source) > MaxSource:
		return s, Errorf(CodeBadSpec, "the source has %d bytes, more than %d", len(s.Source), MaxSource)
	case len(s.Tools) > MaxTools:
		return s, Errorf(CodeBadSpec, "%d tools are more than %d", len(s.Tools), MaxTools)
	case l.Timeout < 0 || l.Timeout > MaxTimeout:
		return s, Errorf(CodeBadSpec, "a timeout is between 0 and %v", MaxTimeout)
	case l.MemoryBytes < mib || l.MemoryBytes > MaxMemory:
		return s, Errorf(CodeBadSpec, "a memory limit is between 1 MiB and %d MiB", MaxMemory/mib)
	case l.Pending < 0 || l.Pending > MaxPending || l.ToolCalls < 0 || l.Iterations < 0 || l.OutputBytes < 0 || l.OutputLines < 0:
		return s, Errorf(CodeBadSpec, "a limit is below zero, or more than %d calls are to be under way", MaxPending)
	case outside(l.ArgumentBytes, MaxPayload) || outside(l.ResultBytes, MaxPayload) || outside(l.ValueBytes, MaxPayload):
		return s, Errorf(CodeBadSpec, "a payload limit is between 1 and %d bytes", MaxPayload)
	case outside(l.Depth, MaxDepth) || l.Nodes < 1:
		return s, Errorf(CodeBadSpec, "a depth is between 1 and %d", MaxDepth)
	}
	for _, t := range s.Tools {
		if !script.ValidToolName(t.Name) {
			return s, Errorf(CodeBadSpec, "the tool name %.40q is not a letter followed by letters, digits, colons, underscores, dots or hyphens", t.Name)
		}
	}
	return s, nil
}

func outside[T int | int64](v, most T) bool { return v < 1 || v > most }
