package wire

import (
	"encoding/json"
	"time"
)

// Routes of runs alone. A run is an ephemeral system that a sandbox made for one script.
const (
	PathRecord = "/agent/v1/record" // POST RunRecord -> 204
	PathLeave  = "/agent/v1/leave"  // POST {} -> 204; the identity ends
)

// Lives of a run's identity.
const (
	DefaultRunLife = 10 * time.Minute
	MaxRunLife     = time.Hour
	RunSVIDLife    = 10 * time.Minute
	// RunRetention is how long a run that left without a word is still there.
	RunRetention = 10 * time.Second
)

// Limits of what a run may have recorded.
const (
	MaxRunRecord  = 16 << 10 // bytes of one detail
	MaxRunRecords = 5000     // records of one run
)

// RunInfo makes an EnrolRequest one for a run. It needs an ephemeral key, whose tags
// bound those of the run.
type RunInfo struct {
	Tags    []Tag `json:"tags,omitempty"`         // none is all of the key's
	Seconds int   `json:"life_seconds,omitempty"` // 0 is DefaultRunLife
}

// Life is how long the run may last.
func (r *RunInfo) Life() time.Duration {
	if r.Seconds == 0 {
		return DefaultRunLife
	}
	return time.Duration(r.Seconds) * time.Second
}

// RunRecord is a record of what a run does, for the audit trail. The run's identity is
// its actor; the record cannot name another.
type RunRecord struct {
	Action string          `json:"action"` // one of RunActions
	Detail json.RawMessage `json:"detail"` // an object
}

// RunActions are what a run may have recorded.
func RunActions() []string { return []string{"run.start", "run.end", "tool.call", "tool.result"} }
