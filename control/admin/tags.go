package admin

import (
	"context"

	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	tagList struct{ Body api.Page[api.Tag] }
	tagSet  struct {
		Tag wire.Tag `path:"tag" maxLength:"64"`
		Wanted
		Body struct {
			Notes string   `json:"notes,omitempty" maxLength:"4096"`
			Trust []string `json:"trust,omitempty" maxItems:"16" doc:"Requirements a system must meet for the tag to count"`
		}
	}
	tagRename struct {
		Tag wire.Tag `path:"tag" maxLength:"64"`
		Wanted
		Body struct {
			Name wire.Tag `json:"name"`
		}
	}
)

func (a *API) routeTags() {
	route(a, "tag-list", func(ctx context.Context, in *Paging) (*tagList, error) {
		all, err := a.store.Tags(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		return &tagList{page(all, *in, func(t *store.Tag) string { return string(t.Name) }, func(t *store.Tag) api.Tag {
			return api.Tag{Name: t.Name, Systems: t.Systems, Keys: t.Keys, Policies: t.Policies, Explicit: t.Explicit, Notes: t.Notes, Trust: t.Trust}
		})}, nil
	})
	route(a, "tag-set", func(ctx context.Context, in *tagSet) (*outcome, error) {
		bad := policy.CheckText("notes", in.Body.Notes, wire.MaxNotesLen, true)
		for _, r := range in.Body.Trust {
			if _, err := wire.ParseTag(r); err != nil {
				bad = append(bad, wire.Problem{Path: "trust", Message: err.Error()})
			}
		}
		if len(bad) > 0 {
			return nil, invalid(bad...)
		}
		return a.changeTags(ctx, &in.Wanted, Touched{Rules: true}, func(ctx context.Context, c store.Change) (wire.Revision, error) {
			return a.store.SetTag(ctx, c, in.Tag, store.TagSettings{Explicit: true, Notes: in.Body.Notes, Trust: in.Body.Trust})
		})
	})
	route(a, "tag-rename", func(ctx context.Context, in *tagRename) (*outcome, error) {
		// It may stand anywhere.
		return a.changeTags(ctx, &in.Wanted, Touched{All: true}, func(ctx context.Context, c store.Change) (wire.Revision, error) {
			return a.store.RenameTag(ctx, c, in.Tag, in.Body.Name)
		})
	})
}

func (a *API) changeTags(ctx context.Context, w *Wanted, touched Touched, do func(context.Context, store.Change) (wire.Revision, error)) (*outcome, error) {
	c, err := w.change(ctx, "")
	if err != nil {
		return nil, err
	}
	return asOutcome(a.order(ctx, w.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		rev, err := do(ctx, c)
		if err != nil {
			return Touched{}, rev, err
		}
		return touched, rev, nil
	}))
}
