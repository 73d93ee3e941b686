package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	RequirementRef struct {
		Requirement string `path:"requirement" maxLength:"64"`
	}
	requirementList struct {
		Body api.Page[api.Requirement]
	}
	requirementOut struct {
		Status int
		ETag   string `header:"ETag"`
		Made
		Body either[api.Requirement]
	}
	requirementSet struct {
		RequirementRef
		Precondition
		Wanted
		Body wire.Requirement
	}
	requirementDelete struct {
		RequirementRef
		Precondition
		Wanted
	}
	// claims are those of a sign-in: one value or several each.
	claims map[string]claimValues
	// claimValues is a string or a list, as tokens have them.
	claimValues []string
)

// UnmarshalJSON reads both.
func (c *claimValues) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*c = claimValues{one}
		return nil
	}
	var list []string
	if json.Unmarshal(b, &list) != nil {
		return errors.New("a claim is text or a list of texts")
	}
	*c = list
	return nil
}

// Schema names both.
func (claimValues) Schema(huma.Registry) *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{OneOf: []*huma.Schema{text, {Type: huma.TypeArray, Items: text}}}
}

func (c claims) plain() map[string][]string {
	out := make(map[string][]string, len(c))
	for name, values := range c {
		out[name] = values
	}
	return out
}

func (a *API) routeTrust() {
	route(a, "requirement-list", func(ctx context.Context, in *Paging) (*requirementList, error) {
		all, err := a.store.Requirements(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		return &requirementList{page(all, *in, func(q *store.Requirement) string { return q.ID }, requirementView)}, nil
	})
	route(a, "requirement-get", func(ctx context.Context, in *RequirementRef) (*requirementOut, error) {
		q, err := a.store.Requirement(ctx, in.Requirement)
		return &requirementOut{Status: http.StatusOK, ETag: etag(q.Version), Body: either[api.Requirement]{done: requirementView(&q)}}, refuse(err)
	})
	route(a, "requirement-set", a.requirementSet)
	route(a, "requirement-delete", func(ctx context.Context, in *requirementDelete) (*outcome, error) {
		c, err := in.change(ctx, in.IfMatch)
		if err != nil {
			return nil, err
		}
		return asOutcome(a.order(ctx, in.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
			rev, err := a.store.DeleteRequirement(ctx, c, in.Requirement)
			return Touched{Rules: true}, rev, err
		}))
	})
}

func requirementView(q *store.Requirement) api.Requirement {
	return api.Requirement{Requirement: q.Requirement, Version: q.Version}
}

func (a *API) requirementSet(ctx context.Context, in *requirementSet) (*requirementOut, error) {
	c, err := in.change(ctx, in.IfMatch)
	if err != nil {
		return nil, err
	}
	doc := in.Body
	if doc.ID == "" {
		doc.ID = in.Requirement
	}
	bad := policy.ValidateRequirement(&doc, "")
	if doc.ID != in.Requirement {
		bad = append(bad, wire.Problem{Path: "id", Message: "is not that of the path"})
	}
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	var q store.Requirement
	var created bool
	out, err := a.order(ctx, in.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		var err error
		q, created, err = a.store.PutRequirement(ctx, c, doc)
		return Touched{Rules: true}, q.Version, err
	})
	if err != nil {
		return nil, err
	}
	answer := &requirementOut{Status: http.StatusOK, Body: either[api.Requirement]{requirementView(&q), out.Impact}}
	if !in.DryRun {
		answer.ETag, answer.Made = etag(q.Version), made(out)
		if created {
			answer.Status = http.StatusCreated
		}
	}
	return answer, nil
}

// checkMark refuses a mark that would not count: of a requirement that control judges
// itself, or without the claims that it asks for.
func (a *API) checkMark(m *store.TrustMark) error {
	q, ok := a.answers.Requirement(m.Requirement)
	switch {
	case !ok:
		return nil // nobody has described it: a mark is all there is to it
	case q.Kind == wire.PublicIP:
		return fail(http.StatusConflict, api.CodeConflict, "requirement "+q.ID+" is judged by where a system connects from, not marked", "")
	}
	if ok, why := policy.MeetsClaims(&q, m.Claims); !ok {
		return invalid(wire.Problem{Path: "claims", Message: why})
	}
	return nil
}
