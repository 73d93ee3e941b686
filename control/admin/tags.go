package admin

import (
	"context"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	tagList struct{ Body api.Page[api.Tag] }
	tagSet  struct {
		Tag  wire.Tag `path:"tag" maxLength:"64"`
		Body struct {
			Notes string   `json:"notes,omitempty" maxLength:"4096"`
			Trust []string `json:"trust,omitempty" maxItems:"16" doc:"Requirements a system must meet for the tag to count"`
		}
	}
	tagRename struct {
		Tag  wire.Tag `path:"tag" maxLength:"64"`
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
	route(a, "tag-set", func(ctx context.Context, in *tagSet) (*changed, error) {
		var bad []wire.Problem
		for _, r := range in.Body.Trust {
			if _, err := wire.ParseTag(r); err != nil {
				bad = append(bad, wire.Problem{Path: "trust", Message: err.Error()})
			}
		}
		if len(bad) > 0 {
			return nil, invalid(bad...)
		}
		return a.changeAll(ctx, func(ctx context.Context, c store.Change) (wire.Revision, error) {
			return a.store.SetTag(ctx, c, in.Tag, store.TagSettings{Explicit: true, Notes: in.Body.Notes, Trust: in.Body.Trust})
		})
	})
	route(a, "tag-rename", func(ctx context.Context, in *tagRename) (*changed, error) {
		return a.changeAll(ctx, func(ctx context.Context, c store.Change) (wire.Revision, error) {
			return a.store.RenameTag(ctx, c, in.Tag, in.Body.Name)
		})
	})
}

// changeAll runs a change that may concern anything, and has everything read again.
func (a *API) changeAll(ctx context.Context, do func(context.Context, store.Change) (wire.Revision, error)) (*changed, error) {
	c, err := change(ctx, "")
	if err != nil {
		return nil, err
	}
	out, err := a.control.Change(ctx, func(ctx context.Context) (Touched, wire.Revision, error) {
		rev, err := do(ctx, c)
		return Touched{All: err == nil}, rev, err
	})
	if err != nil {
		return nil, refuse(err)
	}
	return &changed{out}, nil
}
