package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"enclave/wire"
)

// Requirement is a trust requirement with its version.
type Requirement struct {
	wire.Requirement
	Version wire.Revision
	Broken  string // why the stored document cannot be read; then only ID and Version count
}

// maxRequirements is how many requirements an organisation may have.
const maxRequirements = 1024

// Requirements returns all trust requirements, by ID.
func (s *Store) Requirements(ctx context.Context) (list []Requirement, err error) {
	err = s.view(ctx, "list requirements", func(r reader, org wire.OrgID) (err error) {
		list, err = requirements(ctx, r, org)
		return err
	})
	return list, err
}

// Requirement returns one.
func (s *Store) Requirement(ctx context.Context, id string) (q Requirement, err error) {
	err = s.view(ctx, "read requirement", func(r reader, org wire.OrgID) (err error) {
		q, err = requirement(ctx, r, org, id)
		return err
	})
	return q, err
}

func requirement(ctx context.Context, r reader, org wire.OrgID, id string) (Requirement, error) {
	list, err := requirements(ctx, r, org)
	if err != nil {
		return Requirement{}, err
	}
	if i := slices.IndexFunc(list, func(q Requirement) bool { return q.ID == id }); i >= 0 {
		return list[i], nil
	}
	return Requirement{}, notFound("requirement", id)
}

func requirements(ctx context.Context, r reader, org wire.OrgID) (list []Requirement, err error) {
	err = readDocuments(ctx, r, org, "requirements", "id", func(id string, q wire.Requirement, version wire.Revision, broken string) {
		q.ID = id
		list = append(list, Requirement{q, version, broken})
	})
	return list, err
}

// PutRequirement makes a requirement, or replaces the one of its ID. Its kind and
// authority stay what they were: that is a SetError.
func (s *Store) PutRequirement(ctx context.Context, c Change, doc wire.Requirement) (q Requirement, created bool, err error) {
	if _, err := wire.ParseTag(doc.ID); err != nil {
		return q, false, fmt.Errorf("requirement: %w", err)
	}
	_, err = s.change(ctx, "set requirement "+doc.ID, c, func(w *writing) error {
		old, err := requirement(ctx, w, w.org, doc.ID)
		created = errors.Is(err, ErrNotFound)
		if err != nil && !created {
			return err
		}
		if err := w.stale(old.Version); err != nil {
			return err
		}
		switch {
		case !created && old.Broken == "":
			if bad := fixedParts("", &old.Requirement, &doc); len(bad) > 0 {
				for i := range bad {
					bad[i].Path = strings.TrimPrefix(bad[i].Path, ".")
				}
				return &SetError{bad}
			}
		case created:
			if list, err := requirements(ctx, w, w.org); err != nil || len(list) >= maxRequirements {
				return errors.Join(err, conflict("there are %d requirements, the most there can be", len(list)))
			}
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.putRequirement(ctx, &doc); err != nil {
			return err
		}
		q = Requirement{Requirement: doc, Version: w.rev}
		return w.record(ctx, "requirement.set", "requirement:"+doc.ID, doc)
	})
	return q, created, err
}

func (w *writing) putRequirement(ctx context.Context, q *wire.Requirement) error {
	if err := w.putDocument(ctx, "requirements", q.ID, q); err != nil {
		return err
	}
	return w.keep(ctx, requirementPart, q.ID, q)
}

// DeleteRequirement removes a requirement that no policy and no tag asks for: another
// of its name would mean something else to them.
func (s *Store) DeleteRequirement(ctx context.Context, c Change, id string) (wire.Revision, error) {
	return s.change(ctx, "delete requirement "+id, c, func(w *writing) error {
		q, err := requirement(ctx, w, w.org, id)
		if err := cmp.Or(err, w.stale(q.Version)); err != nil {
			return err
		}
		users, err := w.requiring(ctx, id)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return conflict("requirement %s is asked for by %s", id, strings.Join(users, ", "))
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.dropRequirement(ctx, id); err != nil {
			return err
		}
		return w.record(ctx, "requirement.delete", "requirement:"+id, nil)
	})
}

func (w *writing) dropRequirement(ctx context.Context, id string) error {
	err := w.exec(ctx, notFound("requirement", id), "DELETE FROM requirements WHERE org_id = ? AND id = ?", w.org, id)
	if err != nil {
		return err
	}
	return w.keep(ctx, requirementPart, id, nil)
}

// requiring names who asks for a requirement.
func (w *writing) requiring(ctx context.Context, id string) (users []string, err error) {
	list, err := policies(ctx, w, w.org)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if slices.Contains(p.SenderTrust, id) || slices.Contains(p.RecvTrust, id) {
			users = append(users, "policy "+string(p.ID))
		}
	}
	trust, err := tagTrust(ctx, w, w.org)
	for tag, asks := range trust {
		if slices.Contains(asks, id) {
			users = append(users, "tag "+string(tag))
		}
	}
	slices.Sort(users)
	return users, err
}
