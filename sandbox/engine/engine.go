// Package engine runs one script in one fresh realm, inside a worker process.
//
// It admits the source (package script), asks the scoring gate (package score),
// counts in the compiled program (count.go), and drives the promises of the tools
// until the script's own promise settles. The realm holds the globals of the level
// and nothing else, each made when it is first used; its built-ins are frozen
// (template.go), and those that loop or allocate natively take a toll from the budget
// first (guard.go). A run ends by its value, by what it threw, or by a halt that nothing
// in the script can catch.
//
// It refuses to be a wall: what it lets slip ends at the deadline or the memory limit
// that the parent and the kernel hold around the process (packages pool and jail).
// Nothing but JSON text comes out of it, and no message of Go's.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/dop251/goja"

	"enclave/sandbox"
	"enclave/sandbox/score"
	"enclave/sandbox/script"
)

// Host is where a run's calls and lines go. Neither method waits for an answer.
type Host interface {
	Call(c sandbox.Call)
	Output(l sandbox.Line)
}

// Answer is the host's answer to a call.
type Answer struct {
	ID    uint64          `json:"id"`
	Value json.RawMessage `json:"value,omitempty"`
	Error *sandbox.Error  `json:"error,omitempty"`
}

// Engine makes realms ahead of time and runs scripts in them, one after the other.
type Engine struct {
	count    *counter
	shape    *shape
	tolls    tolls
	parallel *goja.Program // nil until a script uses it
	names    *template     // of the global object of a realm
	seeds    *goja.Program // furnish
	// templates are those of the built-ins, made when a realm first has one; what they
	// make is for the realm now.
	templates map[string]*template
	now       *realm
	ready     *realm
}

// New returns an engine, or says that the interpreter is not the one that it knows.
func New() (*Engine, error) {
	count, err := newCounter()
	if err != nil {
		return nil, err
	}
	shape, err := newShape()
	if err != nil {
		return nil, err
	}
	e := &Engine{count: count, shape: shape, tolls: newTolls(), templates: map[string]*template{}}
	if e.seeds, err = compile("seeds", seedSource); err != nil {
		return nil, err
	}
	e.names = e.scope()
	return e, nil
}

// Prepare makes the realm of the next run, if there is none yet. It has the globals of
// every level: which of them a script may name, Admit decides.
func (e *Engine) Prepare() (err error) {
	if e.ready == nil {
		e.ready, err = e.newRealm()
	}
	return err
}

// run is the state of one run. It belongs to the run's goroutine.
type run struct {
	spec    sandbox.Spec
	host    Host
	program *script.Program
	began   time.Time
	calls   int
	waiting map[uint64]pending
	queue   []sandbox.Call
	thrown  map[*goja.Object]sandbox.Code
	output  int64
	lines   int
	muted   bool
	threw   goja.Value // what was thrown last that is no error, and so does not say where
	threwAt []goja.StackFrame
}

// Run runs spec, which must be resolved, until its value, its failure, its deadline or
// the end of ctx. Answers are read while the script waits.
func (e *Engine) Run(ctx context.Context, spec sandbox.Spec, host Host, answers <-chan Answer) (res sandbox.Result) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Limits.Timeout, errDeadline)
	defer cancel()
	names := make([]string, len(spec.Tools))
	for i, t := range spec.Tools {
		names[i] = t.Name
	}
	program, findings := script.Admit(spec.Source, script.Options{Level: spec.Level, Tools: names})
	res.Findings = findings
	if program == nil {
		res.Error = &sandbox.Error{Code: sandbox.CodeValidation, Message: "the script was refused"}
		for _, f := range findings {
			if f.Severity == script.Refused {
				res.Error.Message, res.Error.Line, res.Error.Column = sandbox.Short(f.Message), f.Line, f.Column
				break
			}
		}
		return res
	}
	if spec.Gate != sandbox.GateOff {
		v := score.Score(program.Features, declared(spec.Tools), score.Policy{})
		if spec.Opinion {
			v = score.Ask(program.Features, v, &advice{ctx, host, answers}, score.Policy{FailClosed: spec.Level == sandbox.Strict})
		}
		res.Verdict = &v
		if v.Action == score.Block && spec.Gate == sandbox.GateBlock {
			res.Error = sandbox.Errorf(sandbox.CodeBlocked, "the scoring gate gave the script %d of 100 points: see the signals", v.Score)
			return res
		}
	}
	if err := e.Prepare(); err != nil {
		res.Error = sandbox.Errorf(sandbox.CodeInternal, "the realm could not be made")
		return res
	}
	r := e.ready
	e.ready = nil
	r.run = &run{spec: spec, host: host, program: program, began: began, waiting: map[uint64]pending{}, thrown: map[*goja.Object]sandbox.Code{}}
	sample := []metrics.Sample{{Name: heapObjects}}
	m := r.m
	m.n, m.max, m.memory, m.base = -entry, spec.Limits.Iterations, spec.Limits.MemoryBytes, heapOf(sample)
	debug.SetMemoryLimit(m.base + m.memory + memorySlack)
	e.count.instrument(program, r)

	res.Value, res.Error = r.execute(ctx, answers)
	if f := m.forbid.Load(); f != nil && spec.Level != sandbox.Permissive && (res.Error == nil || res.Error.Code == sandbox.CodeScript) {
		res.Value, res.Error = nil, f
	}
	res.OK = res.Error == nil
	m.saw(heapOf(sample) - m.base)
	res.Stats = sandbox.Stats{Iterations: max(0, min(m.n, m.max)), ToolCalls: r.run.calls, Output: r.run.output, Memory: m.peak.Load()}
	return res
}

// entry is what it costs to reach the script: two functions that are not its own.
const entry = 2

// memorySlack is what the process needs beside the script's own heap before the
// collector is to hurry.
const memorySlack = 16 << 20

var errDeadline = errors.New("deadline")

func declared(tools []sandbox.Tool) []score.Tool {
	out := make([]score.Tool, len(tools))
	for i, t := range tools {
		out[i] = score.Tool{Name: t.Name, Declared: t.Declared, Reads: t.Reads, Writes: t.Writes, Sends: t.Sends, Secret: t.Secret}
	}
	return out
}

// execute runs the program and drives its promises.
func (r *realm) execute(ctx context.Context, answers <-chan Answer) (value []byte, failed *sandbox.Error) {
	watching, done := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); r.m.watch(watching) }()
	release := context.AfterFunc(ctx, func() { r.m.end(endOf(ctx, r.run.spec.Limits.Timeout)) })
	defer func() {
		release()
		done()
		<-ended
		if x := recover(); x != nil {
			value, failed = nil, r.recovered(x)
		}
	}()
	main, err := r.rt.RunProgram(r.run.program.Main)
	if err != nil {
		return nil, r.failure(err)
	}
	f, ok := goja.AssertFunction(main)
	if !ok {
		return nil, sandbox.Errorf(sandbox.CodeInternal, "the program is no function")
	}
	got, err := f(goja.Undefined(), r.helpers()...)
	if err != nil {
		return nil, r.failure(err)
	}
	p, ok := got.Export().(*goja.Promise)
	if !ok {
		return nil, sandbox.Errorf(sandbox.CodeInternal, "the program gave no promise")
	}
	for p.State() == goja.PromiseStatePending {
		if len(r.run.waiting) == 0 {
			if e := r.m.stop.Load(); e != nil {
				return nil, e
			}
			return nil, sandbox.Errorf(sandbox.CodeScript, "the script waits for what nothing will settle")
		}
		select {
		case <-ctx.Done():
			return nil, endOf(ctx, r.run.spec.Limits.Timeout)
		case a := <-answers:
			if err := r.settle(a); err != nil {
				return nil, r.failure(err)
			}
		}
	}
	if e := r.m.stop.Load(); e != nil {
		return nil, e
	}
	if p.State() == goja.PromiseStateRejected {
		return nil, r.thrown(p.Result(), nil)
	}
	return r.result(p.Result())
}

// result writes what the script returned. Getters and toJSON run in here, under the
// same budget.
func (r *realm) result(v goja.Value) (value []byte, failed *sandbox.Error) {
	if v == nil || goja.IsUndefined(v) {
		return nil, nil
	}
	l := r.run.spec.Limits
	var err error
	if ex := r.rt.Try(func() {
		value, err = r.encode(v, bounds{l.ValueBytes, l.Depth, l.Nodes})
	}); ex != nil {
		return nil, r.failure(ex)
	}
	var large tooLarge
	switch {
	case errors.As(err, &large):
		return nil, sandbox.Errorf(sandbox.CodeValue, "what the script returned cannot be taken: %s", string(large))
	case errors.Is(err, omitted{}):
		return nil, sandbox.Errorf(sandbox.CodeValue, "what the script returned is a function or a symbol")
	case err != nil:
		return nil, r.failure(err)
	}
	return value, nil
}

func endOf(ctx context.Context, timeout time.Duration) *sandbox.Error {
	if context.Cause(ctx) == errDeadline {
		return sandbox.Errorf(sandbox.CodeTimeout, "the run took longer than %v", timeout)
	}
	return sandbox.Errorf(sandbox.CodeCancelled, "the run was cancelled")
}

// recovered makes an error of a Go panic: a halt, or a defect of the interpreter.
func (r *realm) recovered(x any) *sandbox.Error {
	switch x := x.(type) {
	case *halt:
		return x.err
	case runtime.Error:
		// A built-in of the interpreter tripped over what the script changed under it,
		// such as an array that its own comparator shortens.
		return sandbox.Errorf(sandbox.CodeScript, "a built-in failed: what it worked on changed meanwhile")
	case error:
		return r.failure(x)
	}
	return sandbox.Errorf(sandbox.CodeInternal, "the interpreter failed on this script")
}

// failure makes an error of what the interpreter returned.
func (r *realm) failure(err error) *sandbox.Error {
	var interrupted *goja.InterruptedError
	var deep *goja.StackOverflowError
	var ex *goja.Exception
	switch {
	case errors.As(err, &interrupted):
		if e, ok := interrupted.Value().(*sandbox.Error); ok {
			return e
		}
	case errors.As(err, &deep):
		return sandbox.Errorf(sandbox.CodeDepth, "calls were nested deeper than %d", maxCalls)
	case errors.As(err, &ex):
		return r.thrown(ex.Value(), ex.Stack())
	}
	return sandbox.Errorf(sandbox.CodeInternal, "the interpreter failed on this script")
}

// thrown describes what the script threw and did not catch. Only strings are read of
// it, and nothing of it is called.
func (r *realm) thrown(v goja.Value, stack []goja.StackFrame) *sandbox.Error {
	e := &sandbox.Error{Code: sandbox.CodeScript}
	o, ok := v.(*goja.Object)
	if r.run.threw != nil && r.run.threw.StrictEquals(v) {
		stack = r.run.threwAt
	}
	if !ok {
		e.Message = sandbox.Short(fmt.Sprint(v))
		e.Line, e.Column = firstPlace(stack)
		return e
	}
	if code, ok := r.run.thrown[o]; ok {
		e.Code = code
	}
	if ex := r.rt.Try(func() { e.Name, e.Message = text(o, "name"), text(o, "message") }); ex != nil {
		e.Message = ""
	}
	if len(e.Name) > 64 {
		e.Name = e.Name[:64]
	}
	e.Name = strings.ToValidUTF8(e.Name, "")
	if e.Message = sandbox.Short(e.Message); e.Message == "" && e.Name == "" {
		e.Message = "the script threw an object"
	}
	if own := r.e.shape.frames(o); own != nil {
		stack = *own
	}
	e.Line, e.Column = firstPlace(stack)
	return e
}
