package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
)

// Policy is a policy document with its history. Whether the document makes sense
// is control/policy's to say, before it comes here.
type Policy struct {
	wire.Policy
	CreatedAt time.Time
	UpdatedAt time.Time
	Version   wire.Revision
	// EndsAt is the instant of the expiry; of one on a wall clock, as it was last resolved.
	EndsAt time.Time // zero: never
	// Broken is why the stored document cannot be read, by a program of another version
	// than wrote it. Then only ID, Name, Enabled and ExpiresAt count, which stand beside
	// the document.
	Broken string
}

// CreatePolicy stores a new policy and gives it an ID.
func (s *Store) CreatePolicy(ctx context.Context, c Change, doc wire.Policy) (p Policy, rev wire.Revision, err error) {
	if err := checkPolicy(&doc); err != nil {
		return Policy{}, 0, fmt.Errorf("create policy: %w", err)
	}
	doc.ID = wire.PolicyID(wire.NewID(keyIDLen))
	rev, err = s.change(ctx, "create policy", c, func(w *writing) error {
		if err := w.freeName(ctx, doc.Name, ""); err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.addPolicy(ctx, &doc); err != nil {
			return err
		}
		if err := w.record(ctx, "policy.create", "policy:"+string(doc.ID), doc); err != nil {
			return err
		}
		p, err = policy(ctx, w, w.org, doc.ID)
		return err
	})
	return p, rev, err
}

// UpdatePolicy replaces the document of a policy; doc.ID is ignored.
func (s *Store) UpdatePolicy(ctx context.Context, c Change, id wire.PolicyID, doc wire.Policy) (wire.Revision, error) {
	if err := checkPolicy(&doc); err != nil {
		return 0, fmt.Errorf("update policy: %w", err)
	}
	return s.changePolicy(ctx, "policy.update", c, id, func(w *writing, old *wire.Policy) (any, error) {
		if doc.Name != old.Name {
			if err := w.freeName(ctx, doc.Name, id); err != nil {
				return nil, err
			}
		}
		*old = doc
		return doc, nil
	})
}

// SetPolicyEnabled switches a policy on or off.
func (s *Store) SetPolicyEnabled(ctx context.Context, c Change, id wire.PolicyID, enabled bool) (wire.Revision, error) {
	return s.changePolicy(ctx, verb("policy", enabled), c, id, func(_ *writing, doc *wire.Policy) (any, error) {
		doc.Enabled = enabled
		return nil, nil
	})
}

// freeName refuses a name that another policy has: people and documents know policies by
// name. Those of one name that stand already stay as they are until they are renamed.
func (w *writing) freeName(ctx context.Context, name string, but wire.PolicyID) error {
	var id wire.PolicyID
	err := w.QueryRowContext(ctx, "SELECT id FROM policies WHERE org_id = ? AND name = ? AND id <> ? LIMIT 1", w.org, name, but).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows) || name == "":
		return nil
	case err != nil:
		return err
	}
	return conflict("the name %q is that of policy %s already; choose another", name, id)
}

// addPolicy writes a document whose ID is new.
func (w *writing) addPolicy(ctx context.Context, doc *wire.Policy) error {
	return w.writePolicy(ctx, doc, func(text string, ends any) error {
		at := w.c.At.UnixNano()
		_, err := w.ExecContext(ctx, "INSERT INTO policies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", w.org, doc.ID, doc.Name, doc.Kind,
			doc.Enabled, ends, text, at, at, w.rev)
		return err
	})
}

func (w *writing) dropPolicy(ctx context.Context, id wire.PolicyID) error {
	if err := w.exec(ctx, notFound("policy", id), "DELETE FROM policies WHERE org_id = ? AND id = ?", w.org, id); err != nil {
		return err
	}
	return w.keep(ctx, policyPart, string(id), nil)
}

// DeletePolicy removes a policy.
func (s *Store) DeletePolicy(ctx context.Context, c Change, id wire.PolicyID) (wire.Revision, error) {
	return s.change(ctx, "delete policy", c, func(w *writing) error {
		if _, err := w.freshPolicy(ctx, id); err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.dropPolicy(ctx, id); err != nil {
			return err
		}
		return w.record(ctx, "policy.delete", "policy:"+string(id), nil)
	})
}

// changePolicy is the frame of every change to one policy. f edits the document
// and returns the detail for the record.
func (s *Store) changePolicy(ctx context.Context, action string, c Change, id wire.PolicyID,
	f func(w *writing, doc *wire.Policy) (any, error)) (wire.Revision, error) {
	return s.change(ctx, action, c, func(w *writing) error {
		p, err := w.freshPolicy(ctx, id)
		if err != nil {
			return err
		}
		if p.Broken != "" && action != "policy.update" {
			return conflict("its document cannot be read (%s): replace or remove it", p.Broken)
		}
		detail, err := f(w, &p.Policy)
		if err != nil {
			return err
		}
		p.ID = id
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.putPolicy(ctx, &p.Policy); err != nil {
			return err
		}
		return w.record(ctx, action, "policy:"+string(id), detail)
	})
}

// freshPolicy reads a policy and compares its version with the one the caller saw.
func (w *writing) freshPolicy(ctx context.Context, id wire.PolicyID) (Policy, error) {
	p, err := policy(ctx, w, w.org, id)
	if err != nil {
		return p, err
	}
	if err := w.stale(p.Version); err != nil {
		return p, fmt.Errorf("policy %s: %w", id, err)
	}
	return p, nil
}

// putPolicy writes a document over the one with its ID.
func (w *writing) putPolicy(ctx context.Context, doc *wire.Policy) error {
	return w.writePolicy(ctx, doc, func(text string, ends any) error {
		return w.exec(ctx, notFound("policy", doc.ID), `UPDATE policies SET name = ?, kind = ?, enabled = ?, expires_at = ?,
			document = ?, updated_at = ?, version = ? WHERE org_id = ? AND id = ?`,
			doc.Name, doc.Kind, doc.Enabled, ends, text, w.c.At.UnixNano(), w.rev, w.org, doc.ID)
	})
}

// writePolicy writes a document, its row by row, and what is kept beside it.
func (w *writing) writePolicy(ctx context.Context, doc *wire.Policy, row func(text string, ends any) error) error {
	text, err := toJSON(doc)
	if err != nil {
		return err
	}
	ends, err := expiry(doc)
	if err != nil {
		return err
	}
	if err := row(text, ends); err != nil {
		return err
	}
	if err := w.tagPolicy(ctx, doc); err != nil {
		return err
	}
	return w.keep(ctx, policyPart, string(doc.ID), doc)
}

// tagPolicy replaces the copies of a policy's tags.
func (w *writing) tagPolicy(ctx context.Context, doc *wire.Policy) error {
	if _, err := w.ExecContext(ctx, "DELETE FROM policy_tags WHERE org_id = ? AND policy_id = ?", w.org, doc.ID); err != nil {
		return err
	}
	for _, tag := range slices.Concat(doc.SenderTags, doc.ReceiverTags) {
		_, err := w.ExecContext(ctx, "INSERT INTO policy_tags VALUES (?, ?, ?) ON CONFLICT DO NOTHING", w.org, doc.ID, tag)
		if err != nil {
			return err
		}
	}
	return nil
}

// Policies returns all policies, oldest first.
func (s *Store) Policies(ctx context.Context) (list []Policy, err error) {
	err = s.view(ctx, "list policies", func(r reader, org wire.OrgID) (err error) {
		list, err = policies(ctx, r, org)
		return err
	})
	return list, err
}

// PoliciesAfter returns at most n policies that come after one made at made with this ID
// in the order of Policies; the zero time and no ID is before all. Only what is returned
// is decoded.
func (s *Store) PoliciesAfter(ctx context.Context, made time.Time, id wire.PolicyID, n int) (list []Policy, err error) {
	at := int64(0)
	if !made.IsZero() {
		at = made.UnixNano()
	}
	err = s.view(ctx, "list policies", func(r reader, org wire.OrgID) (err error) {
		list, err = readPolicies(ctx, r, `AND id IN (SELECT id FROM policies INDEXED BY policies_by_making WHERE org_id = ? AND (created_at, id) > (?, ?)
			ORDER BY created_at, id LIMIT ?)`, org, org, at, id, n)
		return err
	})
	return list, err
}

// Policy returns one policy.
func (s *Store) Policy(ctx context.Context, id wire.PolicyID) (p Policy, err error) {
	err = s.view(ctx, "read policy", func(r reader, org wire.OrgID) (err error) {
		p, err = policy(ctx, r, org, id)
		return err
	})
	return p, err
}

// FindPolicy returns the policy with this ID or, when there is none, the only one
// with this name. Several are an AmbiguousError.
func (s *Store) FindPolicy(ctx context.Context, idOrName string) (p Policy, err error) {
	err = s.view(ctx, "find policy", func(r reader, org wire.OrgID) error {
		id, err := find(ctx, r, org, "policy", "policies", idOrName)
		if err == nil {
			p, err = policy(ctx, r, org, wire.PolicyID(id))
		}
		return err
	})
	return p, err
}

const policyColumns = "SELECT id, name, kind, enabled, expires_at, document, created_at, updated_at, version FROM policies WHERE org_id = ? "

func policy(ctx context.Context, r reader, org wire.OrgID, id wire.PolicyID) (Policy, error) {
	p, err := scanPolicy(r.QueryRowContext(ctx, policyColumns+"AND id = ?", org, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Policy{}, notFound("policy", id)
	}
	return p, err
}

func policies(ctx context.Context, r reader, org wire.OrgID) ([]Policy, error) {
	return readPolicies(ctx, r, "", org)
}

// readPolicies reads those of an organisation, the first argument, that where leaves.
func readPolicies(ctx context.Context, r reader, where string, args ...any) (list []Policy, err error) {
	err = rows(ctx, r, policyColumns+where+" ORDER BY created_at, id", args, func(scan func(...any) error) error {
		p, err := scanPolicy(scan)
		list = append(list, p)
		return err
	})
	return list, err
}

func scanPolicy(scan func(...any) error) (p Policy, err error) {
	var beside wire.Policy
	var text string
	err = scan(&beside.ID, &beside.Name, &beside.Kind, &beside.Enabled, instantCol{&p.EndsAt}, &text,
		instantCol{&p.CreatedAt}, instantCol{&p.UpdatedAt}, &p.Version)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal([]byte(text), &p.Policy); err != nil {
		if ends := p.EndsAt; !ends.IsZero() {
			beside.ExpiresAt = &ends
		}
		p.Policy, p.Broken = beside, err.Error()
	}
	return p, nil
}

// checkPolicy bounds a document and its tags; the rest is validation's.
func checkPolicy(doc *wire.Policy) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if len(text) > wire.MaxRequestBody {
		return fmt.Errorf("document: %d bytes, at most %d", len(text), wire.MaxRequestBody)
	}
	return errors.Join(checkTags(doc.SenderTags, wire.MaxTagsPerSide), checkTags(doc.ReceiverTags, wire.MaxTagsPerSide))
}

// expiry is the column beside the document.
func expiry(doc *wire.Policy) (any, error) {
	at, err := doc.Expiry()
	if err != nil {
		return nil, conflict("expires_local: %v", err)
	}
	return instant(at), nil
}
