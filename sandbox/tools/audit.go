package tools

import (
	"context"
	"encoding/json"
	"time"
)

// Record is one audit record of a run. Actions: tool.call before a call that writes or
// sends, tool.result after every call; the runner adds run.start, run.score and run.end.
type Record struct {
	At       time.Time       `json:"at"`
	Action   string          `json:"action"`
	Run      string          `json:"run"`
	User     string          `json:"user,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	System   string          `json:"system,omitempty"` // the run's own, when it joined the overlay
	Tool     string          `json:"tool,omitempty"`
	Call     int             `json:"call,omitempty"` // the number of the call in its run, from 1
	Args     json.RawMessage `json:"args,omitempty"` // redacted
	Bytes    int             `json:"bytes,omitempty"`
	Duration time.Duration   `json:"duration_ns,omitempty"`
	Outcome  string          `json:"outcome,omitempty"` // "ok" or a code
	Script   string          `json:"script,omitempty"`  // sha256 of the text
	Level    string          `json:"level,omitempty"`
	Score    *int            `json:"score,omitempty"`
	Signals  []string        `json:"signals,omitempty"`
	Calls    int             `json:"calls,omitempty"`
}

// Sink keeps records. When it returns an error, what the record is about does not
// happen, or its result is not given out.
type Sink interface {
	Append(ctx context.Context, r Record) error
}

// Discard keeps nothing; it is for trials without an audit file.
type Discard struct{}

// Append does nothing.
func (Discard) Append(context.Context, Record) error { return nil }
