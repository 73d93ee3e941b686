package screen

import (
	"context"
	"errors"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Stewards are the parts of the API that keep an enclave going.
type Stewards interface {
	Enroller
	Truster
	Namer
	Sealer
	Runner
}

// Enroller manages enrolment keys. A key opens nothing by itself: a dry run only says
// whether the server would do it.
type Enroller interface {
	Keys(ctx context.Context) ([]api.Key, error)
	// CreateKey returns the secret, the only time that anybody sees it.
	CreateKey(ctx context.Context, k api.KeyCreate) (api.KeyCreated, error)
	KeyVerb(ctx context.Context, dry bool, id, verb string) (api.Impact, error)
}

// Truster manages what is asked of systems, and who meets it.
type Truster interface {
	Requirements(ctx context.Context) ([]api.Requirement, error)
	AddRequirement(ctx context.Context, dry bool, r wire.Requirement) (api.Impact, error)
	// Mark says that a system meets a requirement until an instant; zero is until it is
	// taken away.
	Mark(ctx context.Context, dry bool, system, requirement string, until time.Time) (api.Impact, error)
	Unmark(ctx context.Context, dry bool, system, requirement string) (api.Impact, error)
	DropRequirement(ctx context.Context, dry bool, id string) (api.Impact, error)
}

// Namer manages DNS.
type Namer interface {
	Zones(ctx context.Context) ([]api.Zone, error)
	Records(ctx context.Context) ([]api.Record, error)
	Resolve(ctx context.Context, name, as string, at time.Time) (api.Resolution, error)
	AddZone(ctx context.Context, dry bool, z wire.Zone) (api.Impact, error)
	AddRecord(ctx context.Context, dry bool, r wire.Record) (api.Impact, error)
	DropName(ctx context.Context, dry bool, name string, zone bool) (api.Impact, error)
}

// Sealer manages how the state of the control plane is sealed; it has no dry run either.
type Sealer interface {
	Seal(ctx context.Context) (api.Seal, error)
	SealDo(ctx context.Context, verb string) (api.Seal, error)
	SealAdd(ctx context.Context, in api.SealAdd) (api.Seal, error)
	SealRemove(ctx context.Context, in api.SealRemove) (api.Seal, error)
	Unlock(ctx context.Context, in api.Unlock) (api.Seal, error)
}

// Runner asks a sandbox server for its sessions. Without one Sessions returns ErrNoSandbox;
// what runs have done stands in the audit trail all the same.
type Runner interface {
	Sessions(ctx context.Context) ([]Session, error)
	CancelSession(ctx context.Context, id string) error
}

// ErrNoSandbox is returned where no sandbox server was named.
var ErrNoSandbox = errors.New("no sandbox server was named")

// Session is a run that a sandbox server holds for who asks.
type Session struct {
	ID    string
	Run   string
	State string
	At    time.Time
}
