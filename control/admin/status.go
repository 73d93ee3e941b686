package admin

import (
	"context"
	"errors"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// longestWait bounds a long poll; a client that wants to wait longer asks again.
const longestWait = time.Minute

type (
	whoami struct {
		Body struct {
			Name   string  `json:"name"`
			Scopes []Scope `json:"scopes"`
		}
	}
	version struct {
		Body struct {
			Version  string `json:"version"`
			Protocol int    `json:"protocol" doc:"Version of the agent protocol"`
		}
	}
	revisionQuery struct {
		Applied uint64 `query:"applied" doc:"Wait until this revision is applied everywhere; 0 does not wait"`
		Timeout string `query:"timeout" default:"10s" doc:"How long to wait, at most 1m"`
	}
	revisionOut struct{ Body api.RevisionStatus }
)

func (a *API) routeStatus() {
	route(a, "version", func(context.Context, *struct{}) (*version, error) {
		var out version
		out.Body.Version, out.Body.Protocol = a.version, wire.Version
		return &out, nil
	})
	route(a, "whoami", func(ctx context.Context, _ *struct{}) (*whoami, error) {
		var out whoami
		out.Body.Name, out.Body.Scopes = principal(ctx).Name, principal(ctx).Scopes
		return &out, nil
	})
	route(a, "revision", a.revision)
}

func (a *API) revision(ctx context.Context, in *revisionQuery) (*revisionOut, error) {
	if in.Applied == 0 {
		return &revisionOut{a.control.Status(0)}, nil
	}
	wait, err := time.ParseDuration(in.Timeout)
	if err != nil || wait < 0 || wait > longestWait {
		return nil, invalid(wire.Problem{Path: "timeout", Message: "want a duration of at most 1m, such as 10s"})
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	st, err := a.control.WaitApplied(ctx, wire.Revision(in.Applied))
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, refuse(err)
	}
	return &revisionOut{st}, nil // time is up: the answer says who is awaited still
}
