package api

import (
	"encoding/json"

	"enclave/wire"
)

// Revision is one revision with the policy set as it was then.
type Revision struct {
	RevisionEntry
	Set wire.PolicySet `json:"set"`
}

// SetDiff is what differs between the policy sets of two revisions.
type SetDiff struct {
	From    wire.Revision `json:"from"`
	To      wire.Revision `json:"to"`
	Changes []PartChange  `json:"changes"`
}

// PartChange is one part of a policy set that was added, removed or changed.
type PartChange struct {
	Part   string          `json:"part"` // policy, requirement, tag, tests
	ID     string          `json:"id,omitempty"`
	Name   string          `json:"name,omitempty"`
	Change string          `json:"change"` // added, removed, changed
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Requirement is a trust requirement with its version.
type Requirement struct {
	wire.Requirement
	Version wire.Revision `json:"version"` // for If-Match
}
