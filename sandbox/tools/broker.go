package tools

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/score"
)

// Observer is told what a run does while it does it. Its methods are called from many
// goroutines and must not block for long.
type Observer interface {
	// ToolCall is told of a call before it is made; args are redacted.
	ToolCall(id uint64, tool string, args json.RawMessage)
	// ToolProgress is told how far a call to a service is, and how many bytes of the
	// answer have come; never more often than some twenty times a call and try.
	ToolProgress(id uint64, tool string, phase Phase, received int64)
	// ToolResult is told of its end; code is empty for a good one.
	ToolResult(id uint64, tool string, code Code, took time.Duration)
	Output(line sandbox.Line)
}

// ValueObserver is an Observer that is also told what each call came to, after
// ToolResult: what the script gets, without what is secret.
type ValueObserver interface {
	ToolValue(id uint64, tool string, v Value)
}

// Value is what a call came to. What may be shown of it is made when it is asked for: that
// takes time which nobody should spend on what nobody reads.
type Value struct {
	Failed bool
	Size   int                                      // bytes of the value, about; of a secret one, of what stands in its place
	Shown  func() (json.RawMessage, *sandbox.Error) // one of the two
}

// Broker is the host's half of a run: a Session behind the contract of package sandbox.
type Broker struct {
	*Session
	Observer Observer // nil tells nobody
	Second   Second   // gives the scoring gate its second opinion; may be nil

	failed atomic.Pointer[sandbox.Error] // the last call that failed
}

// Place tells an error where it comes from: one that a script let pass has the place of
// the call that failed, where the worker knows of none.
func (b *Broker) Place(e *sandbox.Error) {
	if last := b.failed.Load(); last != nil && e.Line == 0 && e.Code == last.Code && e.Message == last.Message {
		e.Line, e.Column = last.Line, last.Column
	}
}

// Second is somebody who can be asked about a script by its features. via dials through
// the run's own system; it is nil when the run has none.
type Second interface {
	Ask(ctx context.Context, f score.Features, via func(ctx context.Context, network, addr string) (net.Conn, error)) (score.Verdict, error)
}

var errNobody = errors.New("nobody is there to ask")

// Opinion implements sandbox.Advisor.
func (b *Broker) Opinion(ctx context.Context, f score.Features) (score.Verdict, error) {
	if b.Second == nil {
		return score.Verdict{}, errNobody
	}
	var via func(context.Context, string, string) (net.Conn, error)
	if d := b.Session.cfg.Overlay; d != nil {
		via = d.DialContext
	}
	v, err := b.Second.Ask(ctx, f, via)
	if err != nil {
		b.Session.reg.log.Warn("no second opinion", "run", b.Session.cfg.Run, "error", err)
	}
	return v, err
}

// CallTool implements sandbox.Broker.
func (b *Broker) CallTool(ctx context.Context, c sandbox.Call) (json.RawMessage, *sandbox.Error) {
	began := time.Now()
	if b.Observer != nil {
		b.Observer.ToolCall(c.ID, c.Name, b.Redact(c.Name, c.Args))
	}
	var done atomic.Bool
	phase := func(Phase, int64) {}
	if b.Observer != nil {
		phase = func(p Phase, received int64) {
			if !done.Load() { // a connection may say something after its answer
				b.Observer.ToolProgress(c.ID, c.Name, p, received)
			}
		}
	}
	out, err := b.follow(ctx, c.Name, c.Args, phase)
	done.Store(true)
	var code Code
	if err != nil {
		code = asError(err).Code
	}
	if b.Observer != nil {
		b.Observer.ToolResult(c.ID, c.Name, code, time.Since(began))
	}
	var failed *sandbox.Error
	if err != nil {
		out, failed = nil, &sandbox.Error{Code: sandbox.Code(code), Message: sandbox.Short(asError(err).Message), Line: c.Line, Column: c.Column}
	}
	if failed != nil {
		b.failed.Store(failed)
	}
	if v, ok := b.Observer.(ValueObserver); ok {
		size := len(out)
		if t := b.reg.tools[c.Name]; t != nil && t.has(Sealed) {
			size = min(size, len(Redacted))
		}
		v.ToolValue(c.ID, c.Name, Value{failed != nil, size, func() (json.RawMessage, *sandbox.Error) {
			red := b.knowing(c.Name, c.Args)
			if failed != nil {
				clean := *failed
				clean.Message = red.text(clean.Message)
				return nil, &clean
			}
			return b.shown(c.Name, out, red), nil
		}})
	}
	return out, failed
}

// shown is what a watcher sees of a result: nothing of a secret tool's, and of others'
// neither what a secret tool has returned before nor the secrets of the arguments.
func (b *Broker) shown(name string, out json.RawMessage, red *redactor) json.RawMessage {
	t := b.reg.tools[name]
	if t == nil || out == nil || red == b.reg.redact { // it is hidden from the script, too
		return out
	}
	var v any = Redacted
	if !red.blind && !t.has(Sealed) {
		if value, err := decode(out); err == nil {
			v = value
		}
	}
	text, err := encode(red.hide(v, t.result))
	if err != nil {
		return nil
	}
	return text
}

// Output implements sandbox.Broker.
func (b *Broker) Output(l sandbox.Line) {
	if b.Observer != nil {
		l.Text = b.Clean(l.Text)
		b.Observer.Output(l)
	}
}

// Offered is what a run for this caller may name, for its Spec.
func (r *Registry) Offered(who Caller) (out []sandbox.Tool) {
	for _, name := range r.order {
		t := r.tools[name]
		if !t.permits(who) {
			continue
		}
		out = append(out, sandbox.Tool{Name: t.name, Description: t.description, Declared: t.rules.Attributes != nil,
			Reads: t.has(Reads), Writes: t.has(Writes), Sends: t.has(Sends), Secret: t.has(Sealed)})
	}
	return out
}
