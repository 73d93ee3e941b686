package pool

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"enclave/sandbox"
	"enclave/sandbox/engine"
	"enclave/sandbox/jail"
	"enclave/sandbox/score"
)

// allowance is what a worker may map beside the script's own memory before the kernel
// refuses: the collector's spare room, stacks, and the text of what crosses.
const allowance = 64 << 20

// Run implements sandbox.Runner.
func (p *Pool) Run(ctx context.Context, spec sandbox.Spec, b sandbox.Broker) sandbox.Result {
	began := time.Now()
	failed := func(e *sandbox.Error) sandbox.Result {
		return sandbox.Result{Error: e, Stats: sandbox.Stats{Duration: time.Since(began)}}
	}
	spec, bad := spec.Resolved()
	if bad != nil {
		return failed(bad)
	}
	caller := ctx
	ctx, cancel := context.WithDeadline(ctx, began.Add(spec.Limits.Timeout))
	defer cancel()
	leave, ok := p.place(ctx, spec.Tenant)
	if !ok {
		if caller.Err() != nil {
			return failed(sandbox.Errorf(sandbox.CodeCancelled, "the run was cancelled"))
		}
		return failed(sandbox.Errorf(sandbox.CodeBusy, "no place came free: too many scripts run"))
	}
	defer leave()
	w, owed, bad := p.bound(ctx, spec)
	if bad != nil {
		if caller.Err() != nil {
			bad = sandbox.Errorf(sandbox.CodeCancelled, "the run was cancelled")
		}
		return failed(bad)
	}
	owe := func() {}
	if owed {
		owe = sync.OnceFunc(func() { p.wanted <- struct{}{} })
		defer owe()
	}
	r := &running{pool: p, w: w, owe: owe, spec: spec, broker: b, caller: caller, began: began, deadline: began.Add(spec.Limits.Timeout)}
	res := r.run(ctx)
	res.Stats.Duration = time.Since(began)
	res.Stats.Worker, res.Stats.Reused = w.os.Pid, w.runs > 1
	return res
}

// bound returns a worker for the spec, held to the limits of its level. A worker may have
// died while it waited: then there is another.
func (p *Pool) bound(ctx context.Context, spec sandbox.Spec) (w *process, owed bool, bad *sandbox.Error) {
	seconds := uint64(0)
	if sandbox.OneRunAProcess(spec.Level) {
		seconds = uint64(spec.Limits.Timeout/time.Second)*2 + 3
	}
	for range 1 + p.cfg.Warm {
		if w, owed, bad = p.take(ctx, spec); bad != nil {
			return nil, false, bad
		}
		w.runs++
		w.tenant = spec.Tenant
		if w.memory != 0 {
			return w, owed, nil
		}
		w.memory = spec.Limits.MemoryBytes
		err := jail.Bound(w.os.Pid, w.memory+allowance, seconds)
		if err == nil {
			return w, owed, nil
		}
		p.cfg.Log.Error("sandbox worker cannot be bound to its limits", "pid", w.os.Pid, "error", err)
		p.retire(w)
		if owed {
			p.wanted <- struct{}{}
		}
	}
	return nil, false, sandbox.Errorf(sandbox.CodeInternal, "no worker could be bound to its limits")
}

// running is one run on one worker.
type running struct {
	pool     *Pool
	w        *process
	spec     sandbox.Spec
	broker   sandbox.Broker
	caller   context.Context
	began    time.Time
	deadline time.Time
	owe      func() // the worker that is to be made for the next run

	asked  bool // for a second opinion
	calls  int
	output int64
	lines  int
	seen   uint64 // the highest ID of a call so far

	out atomic.Int64 // calls under way
	// mu keeps the frames of answers whole. A worker that does not read stops its own
	// answers and nothing else, until it is killed.
	mu sync.Mutex
}

// errBroken is a worker that does what no worker does: it is compromised, or a defect.
var errBroken = errors.New("the worker broke the protocol")

func (r *running) run(ctx context.Context) sandbox.Result {
	w, p := r.w, r.pool
	slow := p.watch(w, r.owe)
	hard := time.AfterFunc(time.Until(r.deadline)+sandbox.KillGrace, w.cut)
	stop := context.AfterFunc(r.caller, w.cut)
	calls, endCalls := context.WithCancel(ctx)
	res, err := r.talk(calls)
	endCalls()
	stopped := !slow.stop()
	stopped = hard.Stop() && stopped
	stopped = stop() && stopped
	if err != nil {
		w.kill()
		res = sandbox.Result{Error: r.why(err)}
	}
	res.Stats.ToolCalls, res.Stats.Output = r.calls, r.output
	quiet := r.out.Load() == 0
	// A worker that has given way cannot be raised again without privileges.
	reusable := err == nil && stopped && quiet && r.caller.Err() == nil && w.tenant != "" && !sandbox.OneRunAProcess(r.spec.Level)
	if reusable && (res.OK || !slices.Contains([]sandbox.Code{sandbox.CodeInternal, sandbox.CodeTimeout, sandbox.CodeMemory}, res.Error.Code)) {
		p.keep(w)
	} else {
		p.retire(w)
	}
	return res
}

// talk sends the spec and serves the worker until its result.
func (r *running) talk(ctx context.Context) (sandbox.Result, error) {
	send := r.spec
	send.Limits.Timeout = max(time.Until(r.deadline), time.Millisecond)
	if err := writeFrame(r.w.in, kindRun, send); err != nil {
		return sandbox.Result{}, err
	}
	for {
		k, body, err := readFrame(r.w.reader)
		if errors.Is(err, errKind) || errors.Is(err, errLarge) {
			return sandbox.Result{}, errBroken
		}
		if err != nil {
			return sandbox.Result{}, err
		}
		switch k {
		case kindLine:
			var l sandbox.Line
			if parse(body, &l) != nil || !r.line(l) {
				return sandbox.Result{}, errBroken
			}
		case kindCall:
			var c sandbox.Call
			if parse(body, &c) != nil || !r.call(ctx, c) {
				return sandbox.Result{}, errBroken
			}
		case kindEnd:
			res, err := parseEnding(body)
			if err != nil || r.w.reader.Buffered() > 0 { // the end is the last word
				return sandbox.Result{}, errBroken
			}
			return r.believe(res), nil
		default:
			return sandbox.Result{}, errBroken
		}
	}
}

// line passes on a line of the console within the limits of the run, with room for the
// one that says that they are spent.
func (r *running) line(l sandbox.Line) bool {
	r.output += int64(len(l.Text))
	r.lines++
	if r.output > r.spec.Limits.OutputBytes+200 || r.lines > r.spec.Limits.OutputLines+1 {
		return false
	}
	if l.Stream != sandbox.StreamOut && l.Stream != sandbox.StreamWarn && l.Stream != sandbox.StreamErr {
		return false
	}
	l.Text = strings.ToValidUTF8(l.Text, "\uFFFD")
	r.broker.Output(l)
	return true
}

// call hands a call to the broker; the answer goes back when it comes.
func (r *running) call(ctx context.Context, c sandbox.Call) bool {
	if c.Name == sandbox.OpinionCall {
		return r.advise(ctx, c)
	}
	r.calls++
	l := r.spec.Limits
	known := slices.ContainsFunc(r.spec.Tools, func(t sandbox.Tool) bool { return t.Name == c.Name })
	if r.calls > l.ToolCalls || c.ID <= r.seen || !known || int64(len(c.Args)) > l.ArgumentBytes || len(c.Args) == 0 || c.Args[0] != '{' {
		return false
	}
	r.seen = c.ID
	if r.out.Add(1) > int64(l.Pending) {
		return false
	}
	r.pool.work.Go(func() {
		v, e := r.broker.CallTool(ctx, c)
		r.answer(ctx, c.ID, v, e)
	})
	return true
}

// advise hands the gate's question to a broker that can answer it: once, before any call.
func (r *running) advise(ctx context.Context, c sandbox.Call) bool {
	if !r.spec.Opinion || r.asked || r.calls > 0 || c.ID != 0 || int64(len(c.Args)) > r.spec.Limits.ArgumentBytes {
		return false
	}
	r.asked = true
	r.out.Add(1)
	r.pool.work.Go(func() {
		var v json.RawMessage
		fail := sandbox.Errorf(sandbox.CodeToolFailed, "there is no second opinion")
		var f score.Features
		if a, ok := r.broker.(sandbox.Advisor); ok && parse(c.Args, &f) == nil {
			if said, err := a.Opinion(ctx, f); err == nil {
				if b, err := json.Marshal(said); err == nil {
					v, fail = b, nil
				}
			}
		}
		r.answer(ctx, 0, v, fail)
	})
	return true
}

func (r *running) answer(ctx context.Context, id uint64, v json.RawMessage, e *sandbox.Error) {
	a := engine.Answer{ID: id, Value: v, Error: e}
	switch {
	case e != nil:
		a.Value, a.Error = nil, &sandbox.Error{Code: e.Code, Message: sandbox.Short(e.Message)}
	case int64(len(v)) > r.spec.Limits.ResultBytes:
		a.Value, a.Error = nil, sandbox.Errorf(sandbox.CodeToolResult, "the tool's result is larger than %d bytes", r.spec.Limits.ResultBytes)
	case len(v) == 0:
		a.Value = json.RawMessage("null")
	case !json.Valid(v):
		a.Value, a.Error = nil, sandbox.Errorf(sandbox.CodeToolResult, "the tool's result is no JSON")
	}
	b, err := appendFrame(nil, kindAnswer, a)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Add(-1)
	if err != nil || ctx.Err() != nil {
		return // the run is over; the worker may be another run's by now
	}
	_, _ = r.w.in.Write(b) // a worker that is gone is seen by the reader
}

// believe keeps of a worker's result what can be true: known codes, short clean text.
func (r *running) believe(res sandbox.Result) sandbox.Result {
	if int64(len(res.Value)) > r.spec.Limits.ValueBytes {
		res.Value, res.OK = nil, false
		res.Error = sandbox.Errorf(sandbox.CodeValue, "what the script returned is larger than %d bytes", r.spec.Limits.ValueBytes)
	}
	if res.OK != (res.Error == nil) {
		return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeWorker, "the worker gave no clear answer")}
	}
	if e := res.Error; e != nil {
		if !e.Code.Valid() {
			e.Code = sandbox.CodeWorker
		}
		e.Message, e.Name = clean(sandbox.Short(e.Message)), clean(e.Name[:min(len(e.Name), 64)])
		if e.Code == sandbox.CodeTimeout { // the worker was told what was left of it
			e.Message = sandbox.Errorf(e.Code, "the run took longer than %v", r.spec.Limits.Timeout).Message
		}
		e.Line, e.Column = max(e.Line, 0), max(e.Column, 0)
	}
	return res
}

// clean takes out what would move the cursor of a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// why explains a worker that ended, or was ended, without a result.
func (r *running) why(err error) *sandbox.Error {
	switch {
	case errors.Is(err, errBroken):
		r.pool.cfg.Log.Error("sandbox worker broke the protocol", "pid", r.w.os.Pid)
		return sandbox.Errorf(sandbox.CodeWorker, "the worker broke the protocol and was killed")
	case r.caller.Err() != nil:
		return sandbox.Errorf(sandbox.CodeCancelled, "the run was cancelled")
	case !time.Now().Before(r.deadline):
		return sandbox.Errorf(sandbox.CodeTimeout, "the run took longer than %v, and its worker was killed", r.spec.Limits.Timeout)
	}
	<-r.w.gone // it has ended by itself
	state := r.w.state
	switch {
	case state != nil && state.ExitCode() == goFatal, state != nil && signalled(state.Sys()) == syscall.SIGKILL:
		return sandbox.Errorf(sandbox.CodeMemory, "the worker ran out of its memory or stack, and ended")
	}
	r.pool.cfg.Log.Error("sandbox worker ended", "pid", r.w.os.Pid, "state", describe(state))
	return sandbox.Errorf(sandbox.CodeWorker, "the worker ended before the script did")
}

// goFatal is the exit code of a Go program whose run time gives up: out of memory, or
// out of stack. Panics are recovered in the engine and never come to this.
const goFatal = 2

func describe(s *os.ProcessState) string {
	if s == nil {
		return "unknown"
	}
	return s.String()
}
