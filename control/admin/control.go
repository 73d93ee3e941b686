package admin

import (
	"context"
	"net/netip"
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
	// Order is Change as an administrator may want it: only tried, or guarded by the
	// tests that are kept. do may run twice, first in a trial.
	Order(ctx context.Context, how How, do func(context.Context) (Touched, wire.Revision, error)) (Outcome, error)
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
	// Stopping is closed when the server goes down, or locks its state: whoever follows
	// would keep it waiting for the whole grace that it gives to requests.
	Stopping() <-chan struct{}
}

// Answers is what the API asks of the policy engine and of agents, beside changes. None
// changes anything that is kept.
type Answers interface {
	Explain(from netip.Addr, to netip.Addr, proto wire.Proto, port uint16, at time.Time) api.Explanation
	Forecast(ctx context.Context, now, until time.Time) ([]api.Coming, error)
	// Graph is of senders and receivers that carry these tags; an empty one is everybody.
	Graph(at time.Time, from, to wire.Tag) api.Graph
	TagGraph(at time.Time) api.TagGraph
	// Access is what a system may open and who may open what to it; more says that there is.
	Access(id wire.SystemID, at time.Time) (list []api.Access, more bool)
	// RunTests judges assertions at now, or those that are kept when list is nil.
	RunTests(list []wire.Assertion, now time.Time) []api.TestResult
	// Requirement is the trust requirement of that ID as it is in force.
	Requirement(id string) (wire.Requirement, bool)
	// Resolve tells what a name stands for, for the system as, and why.
	Resolve(name string, as wire.SystemID, now time.Time) api.Resolution
	// Names reports whether some gateway policy names a DNS name.
	Names(name string) bool
	Reports
}

// Reports is what the API asks of connected agents. Who does not answer within two
// seconds is left out.
type Reports interface {
	Flows(ctx context.Context) []api.LiveFlow
	// Paths tells how a system reaches its peers; ok is false when it does not answer.
	Paths(ctx context.Context, id wire.SystemID) (list []api.PeerPath, ok bool)
	// Denied is what filters refused of late, the most recent first.
	Denied(ctx context.Context) []api.Denied
	// CutFlows ends flows at both ends and returns how many ends said so.
	CutFlows(ctx context.Context, list []api.LiveFlow, cause string) (ends int)
}

// How says how a change is wanted.
type How struct {
	DryRun bool     // tell what it would do, and do nothing
	Impact bool     // do it, and tell what it does
	Guard  bool     // refuse it when a kept test that passes would fail
	Force  []string // tests that it may break
}

// Outcome is what became of a change.
type Outcome struct {
	api.Changed
	Impact *api.Impact // when it was asked for
}

// Touched names what a change may have changed, to be read again.
type Touched struct {
	Systems  []wire.SystemID
	Policies []wire.PolicyID
	Relays   bool
	DNS      bool // zones and records
	Rules    bool // requirements, tag trust, tests, the pending change
	All      bool
}

// Empty reports whether nothing was touched.
func (t *Touched) Empty() bool {
	return !t.All && !t.Relays && !t.DNS && !t.Rules && len(t.Systems) == 0 && len(t.Policies) == 0
}

// Add joins what another change touched.
func (t *Touched) Add(o Touched) {
	t.Systems = append(t.Systems, o.Systems...)
	t.Policies = append(t.Policies, o.Policies...)
	t.Relays = t.Relays || o.Relays
	t.DNS = t.DNS || o.DNS
	t.Rules = t.Rules || o.Rules
	t.All = t.All || o.All
}
