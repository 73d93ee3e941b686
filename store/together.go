package store

import (
	"context"
	"encoding/json"
	"fmt"

	"enclave/wire"
)

// parts are the changes that Together has gathered: they make one revision and one
// record.
type parts struct {
	list   []part
	bumped bool
}

type part struct {
	Action string `json:"action"`
	object string
	Detail any `json:"detail,omitempty"`
}

// Together makes the changes of f one: one transaction, one revision and one audit
// record, or nothing when f returns an error. f makes them under the context that it is
// given. action is what the record says where there are several.
func (s *Store) Together(ctx context.Context, c Change, action string, f func(ctx context.Context) error) (rev wire.Revision, err error) {
	fail := func(err error) (wire.Revision, error) { return 0, fmt.Errorf("%s: %w", action, explain(ctx, err)) }
	org, err := s.orgID()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return fail(err)
	}
	tx, end, err := s.begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer end(false)
	p := new(parts)
	if err := f(context.WithValue(ctx, trialKey{}, &trial{s, tx, p})); err != nil {
		return 0, err // it says already what was attempted
	}
	w := &writing{Tx: tx, s: s, org: org, c: c, bumped: p.bumped}
	if w.rev, err = revision(ctx, tx, org); err != nil {
		return fail(err)
	}
	switch len(p.list) {
	case 0:
	case 1:
		err = w.record(ctx, p.list[0].Action, p.list[0].object, p.list[0].Detail)
	default:
		err = w.record(ctx, action, p.list[0].object, map[string]any{"changes": p.list})
	}
	if err != nil {
		return fail(err)
	}
	if err := end(true); err != nil {
		return fail(err)
	}
	s.news.tell()
	return w.rev, nil
}

// gather takes the record of a change that is part of one. The detail is made JSON now:
// what cannot be, refuses the change that it belongs to.
func (p *parts) gather(action, object string, detail any) error {
	if detail != nil {
		text, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		detail = json.RawMessage(text)
	}
	p.list = append(p.list, part{action, object, detail})
	return nil
}

// together returns the parts that a change under ctx belongs to, or nil.
func (s *Store) together(ctx context.Context) *parts {
	if t, ok := ctx.Value(trialKey{}).(*trial); ok && t.s == s {
		return t.parts
	}
	return nil
}
