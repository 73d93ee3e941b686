package admin

import (
	"context"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// Control is what the API needs of the control plane beside its store.
type Control interface {
	// Change runs do, which changes the store, in its turn, and then brings what the
	// control plane holds in memory to what the store says of everything that do
	// touched, also when do fails half-way. It returns how many connected systems
	// have to apply it.
	Change(ctx context.Context, do func(context.Context) (Touched, wire.Revision, error)) (api.Changed, error)
	// Live is what is known of a system while it is connected; ok is false when it is not.
	Live(id wire.SystemID) (live store.Live, ok bool)
	// PolicyState is the derived state of a policy at an instant.
	PolicyState(id wire.PolicyID, now time.Time) string
	// Status is where the organisation is, and who has not applied rev yet.
	Status(rev wire.Revision) api.RevisionStatus
	// WaitApplied waits until every connected system that rev affects has applied it.
	// It returns the status at its end and, when ctx ended it, the error of ctx.
	WaitApplied(ctx context.Context, rev wire.Revision) (api.RevisionStatus, error)
	// News is closed at the next change of anything the activity log records.
	News() <-chan struct{}
}

// Touched names what a change may have changed, to be read again.
type Touched struct {
	Systems  []wire.SystemID
	Policies []wire.PolicyID
	Relays   bool
	All      bool
}

// Empty reports whether nothing was touched.
func (t *Touched) Empty() bool {
	return !t.All && !t.Relays && len(t.Systems) == 0 && len(t.Policies) == 0
}

// Add joins what another change touched.
func (t *Touched) Add(o Touched) {
	t.Systems = append(t.Systems, o.Systems...)
	t.Policies = append(t.Policies, o.Policies...)
	t.Relays = t.Relays || o.Relays
	t.All = t.All || o.All
}
