package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"enclave/wire"
)

// Caller is whom a run acts for.
type Caller struct {
	User   string
	Tenant string
}

func (t *tool) permits(who Caller) bool {
	return (t.rules.Users == nil || slices.Contains(t.rules.Users, who.User)) &&
		(t.rules.Tenants == nil || slices.Contains(t.rules.Tenants, who.Tenant))
}

// SessionConfig is what one run brings.
type SessionConfig struct {
	Run     string // its ID, in every record
	System  string // its system on the overlay, if it has one
	Caller  Caller
	Level   string
	Calls   int    // of all tools; 0 has no limit here
	Overlay Dialer // nil when the run has not joined
	Audit   Sink   // nil is Discard
	Bounds  Bounds
}

// Bounds make those of every tool smaller for one run; 0 changes nothing.
type Bounds struct {
	Deadline    time.Duration // of a call
	ResultBytes int64         // of a call
}

func (s *Session) deadline(t *tool) time.Duration {
	if d := s.cfg.Bounds.Deadline; d > 0 {
		return min(d, t.deadline())
	}
	return t.deadline()
}

func (s *Session) resultBytes(t *tool) int64 {
	if n := s.cfg.Bounds.ResultBytes; n > 0 {
		return min(n, t.resultBytes())
	}
	return t.resultBytes()
}

// Session carries the calls of one run. It is safe for many goroutines. Close it when
// the run has ended: calls after that are refused, and running ones cut off.
type Session struct {
	reg  *Registry
	cfg  SessionConfig
	refs refs
	red  atomic.Pointer[redactor] // for all but the script: hides what secret tools returned too
	ctx  context.Context
	end  context.CancelFunc

	calls  atomic.Int64
	mu     sync.Mutex // guards what follows; held to look and to note, never while calling
	made   map[string]int
	seen   map[Attribute]bool
	remote map[*mcpRemote]*mcpServer
	open   sync.WaitGroup
	shut   bool

	tainted trove // what secret tools have returned
}

// Session starts the calls of a run.
func (r *Registry) Session(cfg SessionConfig) *Session {
	if cfg.Audit == nil {
		cfg.Audit = Discard{}
	}
	ctx, end := context.WithCancel(context.Background())
	s := &Session{reg: r, cfg: cfg, refs: refs{quotas: QuotasFor(cfg.Level), shelf: r.shelf, tenant: cfg.Caller.Tenant}, ctx: ctx, end: end,
		made: make(map[string]int), seen: make(map[Attribute]bool), remote: make(map[*mcpRemote]*mcpServer)}
	s.red.Store(r.redact)
	return s
}

// Close ends the session and waits for its calls.
func (s *Session) Close() error {
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	s.end()
	s.open.Wait()
	s.leave()
	s.refs.clear()
	return nil
}

// Calls is how many calls were made.
func (s *Session) Calls() int { return int(s.calls.Load()) }

// Redact returns what of a call's arguments others may see: logs, streams, records.
func (s *Session) Redact(name string, args json.RawMessage) json.RawMessage {
	v, err := decode(args)
	if err != nil {
		return nil
	}
	var sc *schema
	if t := s.reg.tools[name]; t != nil {
		sc = t.args
	}
	return s.red.Load().forAudit(v, len(args), sc)
}

// Clean returns a text of the run without what is secret, for everybody but the script.
func (s *Session) Clean(text string) string { return s.red.Load().text(text) }

// Call makes one call. args is a JSON object of at most MaxArgs bytes. An error is
// always an *Error.
func (s *Session) Call(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	return s.follow(ctx, name, args, func(Phase, int64) {})
}

// follow is Call, and tells how far it is.
func (s *Session) follow(ctx context.Context, name string, args json.RawMessage, phase func(Phase, int64)) (json.RawMessage, error) {
	began := time.Now()
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		return nil, failure(Aborted, nil, "the run has ended")
	}
	s.open.Add(1)
	s.mu.Unlock()
	defer s.open.Done()

	rec := Record{Action: "tool.result", Run: s.cfg.Run, System: s.cfg.System, User: s.cfg.Caller.User, Tenant: s.cfg.Caller.Tenant,
		Call: int(s.calls.Add(1)), Outcome: "ok"}
	if len(name) <= maxName {
		rec.Tool = name
	}
	out, err := s.call(ctx, name, args, &rec, phase)
	if err != nil {
		e := asError(err)
		if e.cause != nil {
			s.reg.log.Warn("tool call failed", "run", s.cfg.Run, "tool", rec.Tool, "code", e.Code, "cause", s.cause(name, args, e.cause))
		}
		e.Message = s.reg.redact.text(e.Message)
		err, out, rec.Outcome = e, nil, string(e.Code)
	}
	rec.At, rec.Duration, rec.Bytes = time.Now().UTC(), time.Since(began), len(out)
	if aerr := s.cfg.Audit.Append(context.WithoutCancel(ctx), rec); aerr != nil {
		s.reg.log.Error("audit record not kept", "run", s.cfg.Run, "tool", rec.Tool, "error", aerr)
		return nil, failure(AuditFailed, aerr, "the call could not be recorded, so its result is withheld")
	}
	return out, err
}

// maxName is the longest name of a tool.
const maxName = 256

func (s *Session) call(ctx context.Context, name string, text json.RawMessage, rec *Record, phase func(Phase, int64)) (json.RawMessage, error) {
	if ctx.Err() != nil { // also where the tool would not look
		return nil, failure(Aborted, ctx.Err(), "the call was cancelled")
	}
	if s.cfg.Calls > 0 && rec.Call > s.cfg.Calls {
		return nil, failure(TooManyCalls, nil, "this run may call tools %d times", s.cfg.Calls)
	}
	if len(text) > MaxArgs {
		return nil, failure(RequestTooLarge, nil, "the arguments have %d bytes, at most %d", len(text), MaxArgs)
	}
	t := s.reg.tools[name]
	if t == nil || !t.permits(s.cfg.Caller) {
		// One that is not permitted is told like one that does not exist, except to the
		// record.
		if t != nil {
			rec.Args = s.Redact(name, text)
			return nil, failure(Forbidden, nil, "this caller may not use this tool")
		}
		return nil, failure(UnknownTool, nil, "there is no tool of this name")
	}
	args, err := s.arguments(t, text, rec)
	if err != nil {
		return nil, err
	}
	if t.overlay && s.cfg.Overlay == nil {
		return nil, failure(NoHandler, nil, "this tool is on the overlay, and the run has not joined it")
	}
	if err := s.admit(t); err != nil {
		return nil, err
	}
	if t.has(Writes) || t.has(Sends) {
		intent := *rec
		intent.Action, intent.At, intent.Outcome = "tool.call", time.Now().UTC(), ""
		if err := s.cfg.Audit.Append(ctx, intent); err != nil {
			return nil, failure(AuditFailed, err, "the call could not be recorded, so it was not made")
		}
	}
	v, err := s.serve(ctx, t, args, phase)
	if err != nil {
		return nil, err
	}
	return s.result(t, v)
}

// arguments checks and expands what the script passed.
func (s *Session) arguments(t *tool, text json.RawMessage, rec *Record) (map[string]any, error) {
	if len(text) == 0 {
		text = json.RawMessage("{}")
	}
	if err := wire.CheckJSON(text); err != nil {
		return nil, failure(InvalidArgs, err, "the arguments are not an object that can be passed: %v", err)
	}
	v, err := decode(text)
	if err != nil {
		return nil, failure(InvalidArgs, err, "the arguments are not JSON")
	}
	rec.Args = s.red.Load().forAudit(v, len(text), t.args)
	v, err = s.refs.expand(v, int64(len(text)))
	if err != nil {
		return nil, err
	}
	args, ok := v.(map[string]any)
	if !ok {
		return nil, failure(InvalidArgs, nil, "the arguments have to be an object")
	}
	if bad := t.args.check("args", v); len(bad) > 0 {
		return nil, failure(InvalidArgs, nil, "%s", s.Clean(summary(bad)))
	}
	return args, nil
}

// summary is the mistakes in one sentence, as many as it holds.
func summary(bad []wire.Problem) string {
	var b strings.Builder
	for i, one := range bad {
		text := one.Error()
		if i > 0 && b.Len()+len(text) > maxSummary {
			fmt.Fprintf(&b, "; and %d more", len(bad)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(text)
	}
	return b.String()
}

// admit takes the call into account, or refuses it. It is one step: of two calls at the
// same time, each sees the other or is seen by it.
func (s *Session) admit(t *tool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if max := t.rules.Limits.Calls; max > 0 && s.made[t.name] >= max {
		return failure(TooManyCalls, nil, "this run may call this tool %d times", max)
	}
	for _, q := range s.reg.sequences {
		if s.seen[q.After] && t.has(q.Refuse) {
			return failure(SequenceRefused, nil, "after a tool that %s, none that %s", verb(q.After), verb(q.Refuse))
		}
	}
	if !s.reg.rates.allow(t, s.cfg.Caller, time.Now()) {
		l := t.rules.Limits.Rate
		return failure(RateLimited, nil, "this tool takes %d calls in %s from one user; try again later", l.Calls, l.Per)
	}
	s.made[t.name]++
	for _, a := range t.rules.Attributes {
		s.seen[a] = true
	}
	return nil
}

func verb(a Attribute) string {
	if a == Sealed {
		return "returns secrets"
	}
	return string(a)
}

// retryWait is the pause before a second try; it doubles.
const retryWait = 50 * time.Millisecond

// serve asks the backend, again where that was declared harmless.
func (s *Session) serve(ctx context.Context, t *tool, args map[string]any, phase func(Phase, int64)) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline(t))
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	info := callInfo{max: s.resultBytes(t), overlay: s.cfg.Overlay, run: s.cfg.Run, told: s.reg.teller(t), phase: phase, servers: s.servers}
	tries := 1
	if t.rules.Idempotent {
		tries += min(t.rules.Retries, maxRetries)
	}
	wait := retryWait
	for {
		v, err := t.backend.call(ctx, args, info)
		tries--
		if err == nil {
			return v, nil
		}
		switch {
		case s.ctx.Err() != nil:
			return nil, failure(Aborted, err, "the run has ended")
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, failure(TimedOut, err, "the tool gave no answer within %s", s.deadline(t))
		case ctx.Err() != nil:
			return nil, failure(Aborted, err, "the call was cancelled")
		case tries == 0 || !mayRetry(err):
			return nil, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait *= 2
	}
}

// mayRetry keeps refusals, which another try cannot change, from being tried again.
func mayRetry(err error) bool { return asError(err).Code == Failed }

// result checks, hides and lifts what a backend returned.
func (s *Session) result(t *tool, v any) (json.RawMessage, error) {
	if bad := t.result.check("result", v); len(bad) > 0 {
		return nil, failure(ResultNotSafe, Problems(bad), "the tool's result does not fit its schema")
	}
	v = s.reg.redact.hide(v, t.result)
	if t.has(Sealed) {
		s.taint(v)
	}
	v, err := s.refs.lift(v)
	if err != nil {
		return nil, err
	}
	out, err := encode(v)
	switch {
	case err != nil:
		return nil, failure(ResultNotJSON, err, "the tool's result is not JSON")
	case int64(len(out)) > s.resultBytes(t):
		return nil, failure(ResponseTooLarge, nil, "the tool's result has %d bytes, at most %d", len(out), s.resultBytes(t))
	}
	return out, nil
}
