package tools

import (
	"context"
	"encoding/json"
	"time"
)

// Record is one audit record of a run. Actions: tool.call before a call that writes or
// sends, tool.result after every call; the runner adds run.start, run.score and run.end;
// a server adds tokens.change, which is of no run.
type Record struct {
	At       time.Time       `json:"at"`
	Action   string          `json:"action"`
	Run      string          `json:"run,omitempty"`
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
	Tokens   *TokenChange    `json:"tokens,omitempty"`
}

// TokenChange says how the tokens that a server accepts changed. Names are user@tenant,
// each once and a bounded number of them; a token is in no record.
type TokenChange struct {
	Held      int      `json:"held"` // accepted from now on
	Added     int      `json:"added,omitempty"`
	Removed   int      `json:"removed,omitempty"`
	Prolonged int      `json:"prolonged,omitempty"` // that end later than before
	AddedOf   []string `json:"added_of,omitempty"`  // of those that end later, too
	RemovedOf []string `json:"removed_of,omitempty"`
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
