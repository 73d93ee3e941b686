package admin

import (
	"context"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	relayList struct{ Body api.Page[api.Relay] }
	relayRef  struct {
		Relay wire.RelayID `path:"relay" maxLength:"128"`
		Wanted
	}
)

func (a *API) routeRelays() {
	route(a, "relay-list", func(ctx context.Context, in *Paging) (*relayList, error) {
		all, err := a.store.Relays(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		return &relayList{page(all, *in, func(r *store.Relay) string { return string(r.ID) }, func(r *store.Relay) api.Relay {
			return api.Relay{Relay: r.Relay, Name: r.Name, EnrolledAt: r.EnrolledAt}
		})}, nil
	})
	route(a, "relay-delete", func(ctx context.Context, in *relayRef) (*outcome, error) {
		c, err := in.change(ctx, "")
		if err != nil {
			return nil, err
		}
		return asOutcome(a.order(ctx, in.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
			rev, err := a.store.DeleteRelay(ctx, c, in.Relay)
			return Touched{Relays: true}, rev, err
		}))
	})
}
