package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/tools"
)

// State says how far a session is.
type State string

// The states.
const (
	Starting  State = "starting" // waits for its turn, or for a worker
	Running   State = "running"
	Waiting   State = "waiting_for_tool"
	Completed State = "completed"
	Cancelled State = "cancelled"
	Failed    State = "failed"
)

// live is one session.
type live struct {
	id, run string
	who     tools.Caller
	log     *Log
	cancel  context.CancelCauseFunc
	began   time.Time
	expires time.Time
	budget  time.Duration // of the run
	partial bool          // tell what each call came to
	strict  bool          // end at the first call that fails
	calls   atomic.Int64  // under way
	over    func() bool   // whether its token or its server has ended; cancel follows

	mu     sync.Mutex // guards what follows
	state  State
	ended  time.Time
	errors []PathError // at most maxPathErrors
}

const (
	maxPathErrors = 100
	maxPartial    = 64 << 10 // bytes of a value that an event tells
)

var (
	errCancelled = errors.New("cancelled by its client")
	errShutdown  = errors.New("the server goes down")
	errTokenGone = errors.New("the token that started it is accepted no more")
	errFirst     = errors.New("a tool call failed, and this session ends with the first one that does")
)

func (s *live) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.IsZero() {
		s.state = state
	}
}

// work waits for the session's turn and makes its run. It is the session's goroutine.
func (s *live) work(ctx context.Context, host *Host, q *Queue, req Request) {
	leave, err := q.Enter(ctx, s.who.Tenant)
	if err == nil && s.over() { // its turn came by the end of those before it
		leave()
		<-ctx.Done()
		err = ctx.Err()
	}
	var result sandbox.Result
	if err != nil {
		result = sandbox.Result{Error: sandbox.Errorf(sandbox.CodeBusy, "the run's turn did not come")}
	} else {
		s.set(Running)
		result = host.Run(ctx, req, s)
		leave()
	}
	s.finish(ctx, result)
}

// finish appends the end of the log.
func (s *live) finish(ctx context.Context, result sandbox.Result) {
	state := Completed
	switch cause := context.Cause(ctx); {
	case result.OK:
	case errors.Is(cause, errCancelled), errors.Is(cause, errShutdown), errors.Is(cause, errTokenGone):
		state = Cancelled
		result.Error = sandbox.Errorf(sandbox.CodeCancelled, "%v", cause)
	case errors.Is(cause, errFirst):
		state = Failed
		result.Error = sandbox.Errorf(sandbox.CodeCancelled, "%v", cause)
	case errors.Is(cause, context.DeadlineExceeded) || (result.Error != nil && result.Error.Code == sandbox.CodeTimeout):
		state = Failed
		budget := s.budget
		if errors.Is(cause, context.DeadlineExceeded) {
			budget = s.expires.Sub(s.began)
		}
		s.log.Append(TypeDeadline, DeadlinePayload{time.Since(s.began).Milliseconds(), budget.Milliseconds()})
		if errors.Is(cause, context.DeadlineExceeded) {
			result.Error = sandbox.Errorf(sandbox.CodeTimeout, "the session's life has ended")
		}
	default:
		state = Failed
	}
	final := FinalPayload{OK: result.OK, Result: result.Value, Stats: FinalStats{Duration: time.Since(s.began).Milliseconds(),
		ToolCalls: result.Stats.ToolCalls, Stdout: result.Stats.Output, Iterations: result.Stats.Iterations, Memory: result.Stats.Memory}}
	if result.Error != nil {
		final.Error = result.Error
	}
	if len(result.Findings) > 0 {
		final.Findings = result.Findings
	}
	if result.Verdict != nil {
		final.Verdict = result.Verdict
	}
	s.mu.Lock()
	s.state, s.ended = state, time.Now()
	final.Errors = s.errors
	s.mu.Unlock()
	s.log.Append(TypeFinal, final)
}

// ToolCall implements tools.Observer.
func (s *live) ToolCall(id uint64, tool string, args json.RawMessage) {
	s.calls.Add(1)
	s.set(Waiting)
	s.log.Append(TypeCall, CallPayload{callID(id), tool, args})
}

// ToolProgress implements tools.Observer.
func (s *live) ToolProgress(id uint64, _ string, phase tools.Phase, received int64) {
	s.log.Append(TypeProgress, ProgressPayload{callID(id), string(phase), time.Since(s.began).Milliseconds(), received})
}

// ToolResult implements tools.Observer.
func (s *live) ToolResult(id uint64, _ string, code tools.Code, took time.Duration) {
	if s.calls.Add(-1) == 0 {
		s.set(Running)
	}
	s.log.Append(TypeResult, ResultPayload{callID(id), code == "", string(code), took.Milliseconds()})
}

// ToolValue implements tools.ValueObserver.
func (s *live) ToolValue(id uint64, tool string, v tools.Value) {
	if v.Failed && s.strict {
		s.cancel(errFirst)
	}
	if !s.partial {
		return
	}
	p := PartialPayload{Path: []string{tool, callID(id)}, HasNext: s.calls.Load() > 0}
	var err *sandbox.Error
	if v.Size > maxPartial {
		p.Omitted = v.Size
	} else if p.Data, err = v.Shown(); len(p.Data) > maxPartial {
		p.Data, p.Omitted = nil, len(p.Data)
	}
	if err != nil {
		p.Error = &PathError{string(err.Code), err.Message, p.Path}
		s.mu.Lock()
		if len(s.errors) < maxPathErrors {
			s.errors = append(s.errors, *p.Error)
		}
		s.mu.Unlock()
	}
	s.log.Append(TypePartial, p)
}

// Output implements tools.Observer.
func (s *live) Output(l sandbox.Line) {
	switch l.Stream {
	case sandbox.StreamWarn:
		s.log.Append(TypeLog, LogPayload{"warn", l.Text})
	case sandbox.StreamErr:
		s.log.Append(TypeLog, LogPayload{"error", l.Text})
	default:
		s.log.Append(TypeStdout, StdoutPayload{l.Text + "\n"})
	}
}

func callID(id uint64) string { return fmt.Sprintf("c_%d", id) }

// Info is what a caller may know of its session.
type Info struct {
	ID        string    `json:"sessionId"`
	Run       string    `json:"run"`
	State     State     `json:"state"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	LastSeq   uint64    `json:"lastSeq"`
	StreamURL string    `json:"streamUrl"`
	CancelURL string    `json:"cancelUrl"`
}

func (s *live) info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Info{s.id, s.run, s.state, s.began.UTC(), s.expires.UTC(), s.log.Last(), "/sessions/" + s.id + "/stream", "/sessions/" + s.id + "/cancel"}
}

func (s *live) endedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}
