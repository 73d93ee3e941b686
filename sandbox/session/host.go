package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/tools"
	"enclave/wire"
)

// Node is a run's own system on the overlay.
type Node interface {
	tools.Dialer
	tools.Sink      // appends to control's audit log, as this run
	System() string // its ID
	Close() error   // ends the identity; the overlay forgets it
}

// Joiner gives runs systems of their own.
type Joiner interface {
	Join(ctx context.Context, run string, tags []string) (Node, error)
}

// Host makes whole runs: identity, audit, tools, script. It is safe for many goroutines.
type Host struct {
	Runner sandbox.Runner
	Tools  *tools.Registry // to begin with; Replace changes them
	Audit  tools.Sink      // nil keeps no record
	Joiner Joiner          // nil: runs cannot join the overlay
	Second tools.Second    // asked by the scoring gate; nil: the rules alone decide
	Logger *slog.Logger    // nil discards

	mu  sync.Mutex // guards now
	now *catalogue // nil until the first run: Tools
}

// Request is one run as its caller asked for it.
type Request struct {
	ID     string // of NewRunID; empty makes one
	Spec   sandbox.Spec
	Caller tools.Caller
	Join   bool
	Tags   []string     // that the run's system asks for; the enrolment key decides
	Call   tools.Bounds // of each call, beside the tool's own
}

// NewRunID makes the ID of a run. It is a name on the overlay too.
func NewRunID() string { return "run-" + wire.NewID(16) }

// both keeps a record in two places.
type both [2]tools.Sink

func (b both) Append(ctx context.Context, r tools.Record) error {
	return errors.Join(b[0].Append(ctx, r), b[1].Append(ctx, r))
}

// Run makes one run, from its first record to its last. Every failure is a Result.
func (h *Host) Run(ctx context.Context, req Request, watch tools.Observer) sandbox.Result {
	began := time.Now()
	if req.ID == "" {
		req.ID = NewRunID()
	}
	log := h.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("run", req.ID)
	spec, bad := req.Spec.Resolved()
	if bad != nil {
		return failed(bad, began)
	}
	set := h.take()
	defer func() {
		if err := h.release(set); err != nil {
			log.Error("close the tools that were replaced", "error", err)
		}
	}()
	spec.Tools = set.reg.Offered(req.Caller)
	spec.Tenant, spec.Opinion = req.Caller.Tenant, h.Second != nil
	ctx, cancel := context.WithTimeout(ctx, spec.Limits.Timeout+joinTime)
	defer cancel()

	sink := h.Audit
	if sink == nil {
		sink = tools.Discard{}
	}
	cfg := tools.SessionConfig{Run: req.ID, Caller: req.Caller, Level: string(spec.Level), Calls: spec.Limits.ToolCalls, Bounds: req.Call}
	rec := tools.Record{Run: req.ID, User: req.Caller.User, Tenant: req.Caller.Tenant, Script: hash(spec.Source), Level: string(spec.Level)}
	if req.Join {
		if h.Joiner == nil {
			return failed(sandbox.Errorf(sandbox.CodeBadSpec, "this sandbox is not part of an overlay: start it with a control plane to join"), began)
		}
		node, err := h.Joiner.Join(ctx, req.ID, req.Tags)
		if err != nil {
			log.Error("join the overlay", "error", err)
			refused := rec
			refused.At, refused.Action, refused.Outcome = time.Now().UTC(), "run.end", string(sandbox.CodePolicy)
			if err := sink.Append(context.WithoutCancel(ctx), refused); err != nil {
				log.Error("audit record not kept", "error", err)
			}
			return failed(sandbox.Errorf(sandbox.CodePolicy, "the run could not join the overlay"), began)
		}
		defer func() {
			if err := node.Close(); err != nil {
				log.Error("leave the overlay", "error", err)
			}
		}()
		cfg.Overlay, cfg.System, rec.System = node, node.System(), node.System()
		sink = both{sink, node}
	}
	cfg.Audit = sink
	start := rec
	start.At, start.Action = time.Now().UTC(), "run.start"
	if err := sink.Append(ctx, start); err != nil {
		log.Error("audit record not kept", "error", err)
		return failed(sandbox.Errorf(sandbox.Code(tools.AuditFailed), "the run could not be recorded, so it was not made"), began)
	}
	s := set.reg.Session(cfg)
	broker := &tools.Broker{Session: s, Observer: watch, Second: h.Second}
	result := h.Runner.Run(ctx, spec, broker)
	s.Close()
	if e := result.Error; e != nil {
		broker.Place(e)
		e.Message, e.Name = s.Clean(e.Message), s.Clean(e.Name)
	}

	end := rec
	end.At, end.Action, end.Duration, end.Calls = time.Now().UTC(), "run.end", time.Since(began), s.Calls()
	tellOutcome(&end, &result)
	if err := sink.Append(context.WithoutCancel(ctx), end); err != nil {
		log.Error("audit record not kept", "error", err)
		return failed(sandbox.Errorf(sandbox.Code(tools.AuditFailed), "the end of the run could not be recorded, so its result is withheld"), began)
	}
	return result
}

// tellOutcome has the last record of a run say what it came to.
func tellOutcome(end *tools.Record, result *sandbox.Result) {
	switch {
	case result.OK:
		end.Outcome = "ok"
	case result.Error != nil:
		end.Outcome = string(result.Error.Code)
	default:
		end.Outcome = string(sandbox.CodeInternal)
	}
	if v := result.Verdict; v != nil {
		end.Score = &v.Score
		for _, sig := range v.Signals {
			end.Signals = append(end.Signals, sig.Name)
		}
	}
}

// joinTime is what joining may take beside the run's own deadline.
const joinTime = 10 * time.Second

func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func failed(e *sandbox.Error, began time.Time) sandbox.Result {
	return sandbox.Result{Error: e, Stats: sandbox.Stats{Duration: time.Since(began)}}
}
