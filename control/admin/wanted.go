package admin

import (
	"context"
	"encoding/json"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// Wanted is how a change is wanted; every change of what decides who reaches whom
// takes it. It is exported because huma looks into no other embedded shape.
type Wanted struct {
	DryRun bool     `query:"dry_run" doc:"Tell what the change would do, as an Impact, and change nothing"`
	Force  []string `query:"force,explode" maxItems:"256" doc:"A kept test that the change may break, by its name; may be repeated"`
	Reason string   `query:"reason" maxLength:"4096" doc:"Why, for the activity log"`
}

// Tried is how a change is wanted that no map shows, of keys and tokens: there is no test
// that it could break.
type Tried struct {
	DryRun bool   `query:"dry_run" doc:"Tell whether the change would be made, with an Impact that is empty, and change nothing"`
	Reason string `query:"reason" maxLength:"4096" doc:"Why, for the activity log"`
}

// order makes a change of which no map tells, or tries it. do may run twice.
func (w *Tried) order(ctx context.Context, a *API, do func(context.Context, store.Change) (wire.Revision, error)) (Outcome, error) {
	c, err := change(ctx, "")
	if err != nil {
		return Outcome{}, err
	}
	c.Reason = w.Reason
	return a.order(ctx, How{DryRun: w.DryRun}, func(ctx context.Context) (Touched, wire.Revision, error) {
		rev, err := do(ctx, c)
		return Touched{}, rev, err
	})
}

func (w *Wanted) how() How { return How{DryRun: w.DryRun, Guard: true, Force: w.Force} }

// change is the store.Change of the request.
func (w *Wanted) change(ctx context.Context, ifMatch string) (store.Change, error) {
	c, err := change(ctx, ifMatch)
	c.Reason = w.Reason
	return c, err
}

// order makes a change as it is wanted.
func (a *API) order(ctx context.Context, how How, do func(context.Context) (Touched, wire.Revision, error)) (Outcome, error) {
	out, err := a.control.Order(ctx, how, do)
	return out, refuse(err)
}

// either is the answer of a change: T, or the Impact when it was a dry run.
type either[T any] struct {
	done   T
	impact *api.Impact
}

// MarshalJSON writes the one that is there.
func (e either[T]) MarshalJSON() ([]byte, error) {
	if e.impact != nil {
		return json.Marshal(e.impact)
	}
	return json.Marshal(e.done)
}

// Schema names both.
func (either[T]) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		r.Schema(reflect.TypeFor[T](), true, reflect.TypeFor[T]().Name()),
		r.Schema(reflect.TypeFor[api.Impact](), true, "Impact"),
	}}
}

// outcome answers a change that shows nothing but itself.
type outcome struct{ Body either[api.Changed] }

func asOutcome(o Outcome, err error) (*outcome, error) {
	if err != nil {
		return nil, err
	}
	return &outcome{either[api.Changed]{o.Changed, o.Impact}}, nil
}

// Made are the headers of an answer that shows an object after its change: what
// Changed says elsewhere.
type Made struct {
	Revision string `header:"Enclave-Revision" doc:"The revision that the change has made"`
	Affected string `header:"Enclave-Affected" doc:"How many connected systems have to apply it"`
}

func made(o Outcome) Made {
	return Made{strconv.FormatUint(uint64(o.Revision), 10), strconv.Itoa(o.Affected)}
}
