package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"enclave/wire"
)

// The parts of a policy set, each with versions of its own.
const (
	policyPart      = "policy"
	requirementPart = "requirement"
	tagPart         = "tag"   // the trust of a tag
	testsPart       = "tests" // all of them, as one document with an empty ID
)

// keep writes what a part of the policy set is from this revision on; nil is gone.
// Every change of the set passes here, so here is also where a change that waits for
// its confirmation keeps others out: they would be undone with it, unasked.
func (w *writing) keep(ctx context.Context, part, id string, doc any) error {
	if err := w.settled(ctx); err != nil {
		return err
	}
	var text any
	if doc != nil {
		var err error
		if text, err = toJSON(doc); err != nil {
			return err
		}
	}
	_, err := w.ExecContext(ctx, "INSERT INTO set_versions VALUES (?, ?, ?, ?, ?)", w.org, part, id, w.rev, text)
	return err
}

// PolicySetAt rebuilds the policy set as it was at a revision; its parts are in the
// order of their names, so that two sets can be compared line by line. It is ErrNotFound
// for a revision that is to come, or from before history was kept.
func (s *Store) PolicySetAt(ctx context.Context, rev wire.Revision) (set wire.PolicySet, err error) {
	err = s.view(ctx, "read policy set", func(r reader, org wire.OrgID) (err error) {
		set, err = policySetAt(ctx, r, org, rev, allParts()...)
		return err
	})
	return set, err
}

// PolicySet returns the policy set in force and its revision.
func (s *Store) PolicySet(ctx context.Context) (set wire.PolicySet, rev wire.Revision, err error) {
	err = s.view(ctx, "read policy set", func(r reader, org wire.OrgID) (err error) {
		if rev, err = revision(ctx, r, org); err != nil {
			return err
		}
		set, err = policySetAt(ctx, r, org, rev, allParts()...)
		return err
	})
	return set, rev, err
}

func allParts() []string { return []string{policyPart, requirementPart, tagPart, testsPart} }

// policySetAt reads the wanted parts of a set. One that cannot be read is a conflict:
// what it was is not known, and a set without it would be another.
func policySetAt(ctx context.Context, r reader, org wire.OrgID, rev wire.Revision, parts ...string) (set wire.PolicySet, err error) {
	var from, now wire.Revision
	err = r.QueryRowContext(ctx, "SELECT history_from, revision FROM organisation WHERE org_id = ?", org).Scan(&from, &now)
	switch {
	case err != nil:
		return set, err
	case rev < from:
		return set, fmt.Errorf("history begins at revision %d: %w", from, notFound("revision", fmt.Sprint(rev)))
	case rev > now:
		return set, notFound("revision", fmt.Sprint(rev))
	}
	set.Policies = []wire.Policy{}
	err = rows(ctx, r, `SELECT v.part, v.id, v.document FROM set_versions v
		JOIN (SELECT part, id, max(revision) AS last FROM set_versions
			WHERE org_id = ?1 AND revision <= ?2 GROUP BY part, id) n
		ON v.part = n.part AND v.id = n.id AND v.revision = n.last
		WHERE v.org_id = ?1 AND v.document IS NOT NULL ORDER BY v.part, v.id`, []any{org, rev},
		func(scan func(...any) error) error {
			var part, id, text string
			if err := scan(&part, &id, &text); err != nil {
				return err
			}
			if !slices.Contains(parts, part) {
				return nil
			}
			if err := addPart(&set, part, id, []byte(text)); err != nil {
				return conflict("%s %s at revision %d cannot be read (%v)", part, id, rev, err)
			}
			return nil
		})
	slices.SortFunc(set.Policies, func(a, b wire.Policy) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return set, err
}

func addPart(set *wire.PolicySet, part, id string, text []byte) error {
	switch part {
	case policyPart:
		var p wire.Policy
		err := json.Unmarshal(text, &p)
		set.Policies = append(set.Policies, p)
		return err
	case requirementPart:
		var q wire.Requirement
		err := json.Unmarshal(text, &q)
		set.Requirements = append(set.Requirements, q)
		return err
	case tagPart:
		t := wire.TagTrust{Name: wire.Tag(id)}
		err := json.Unmarshal(text, &t.Trust)
		set.Tags = append(set.Tags, t)
		return err
	case testsPart:
		return json.Unmarshal(text, &set.Tests)
	}
	return nil // a part that a newer program knew
}

// Version is what a policy was from a revision on.
type Version struct {
	Revision wire.Revision
	Document []byte // JSON as it was written; nil is deleted
}

// PolicyVersions returns the versions of a policy, newest first, at most limit.
// Documents are not parsed: the caller may be looking for one that can be.
func (s *Store) PolicyVersions(ctx context.Context, id wire.PolicyID, limit int) (list []Version, err error) {
	err = s.view(ctx, "read policy history", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, `SELECT revision, document FROM set_versions WHERE org_id = ? AND part = 'policy' AND id = ?
			ORDER BY revision DESC LIMIT ?`, []any{org, id, limit}, func(scan func(...any) error) error {
			var v Version
			var text sql.NullString
			err := scan(&v.Revision, &text)
			if text.Valid {
				v.Document = []byte(text.String)
			}
			list = append(list, v)
			return err
		})
	})
	return list, err
}

// Revision is one revision: who made it, how and why.
type Revision struct {
	Revision wire.Revision
	At       time.Time
	Actor    Actor
	Action   string
	Object   string
	Reason   string
	Deadline time.Time // it reverts then unless it is confirmed; zero when it is not pending
}

// RevisionQuery says which revisions are wanted, newest first.
type RevisionQuery struct {
	Before wire.Revision // only older ones; 0 is all
	After  wire.Revision // only newer ones
	Sets   bool          // only those that changed the policy set
	Limit  int           // at most 1,000, which 0 also means
}

// Revisions lists revisions, newest first.
func (s *Store) Revisions(ctx context.Context, q RevisionQuery) (list []Revision, err error) {
	if q.Limit <= 0 || q.Limit > maxAuditPage {
		q.Limit = maxAuditPage
	}
	if q.Before == 0 {
		q.Before = math.MaxInt64
	}
	where := ""
	if q.Sets {
		where = "AND EXISTS (SELECT 1 FROM set_versions v WHERE v.org_id = r.org_id AND v.revision = r.revision)"
	}
	err = s.view(ctx, "list revisions", func(r reader, org wire.OrgID) error {
		return rows(ctx, r, `SELECT r.revision, r.at, r.actor, r.action, r.object, r.reason, p.deadline
			FROM revisions r LEFT JOIN pending p ON p.org_id = r.org_id AND p.revision = r.revision
			WHERE r.org_id = ? AND r.revision < ? AND r.revision > ? `+where+` ORDER BY r.revision DESC LIMIT ?`,
			[]any{org, q.Before, q.After, q.Limit}, func(scan func(...any) error) error {
				var e Revision
				err := scan(&e.Revision, instantCol{&e.At}, &e.Actor, &e.Action, &e.Object, &e.Reason, instantCol{&e.Deadline})
				list = append(list, e)
				return err
			})
	})
	return list, err
}

// FindRevision returns one revision.
func (s *Store) FindRevision(ctx context.Context, rev wire.Revision) (Revision, error) {
	if rev >= math.MaxInt64 {
		return Revision{}, notFound("revision", fmt.Sprint(rev))
	}
	list, err := s.Revisions(ctx, RevisionQuery{Before: rev + 1, After: max(rev, 1) - 1, Limit: 1})
	if err == nil && (len(list) == 0 || list[0].Revision != rev) {
		err = notFound("revision", fmt.Sprint(rev))
	}
	if err != nil {
		return Revision{}, err
	}
	return list[0], nil
}

// Pending is a change that reverts to Base at its deadline unless it is confirmed.
type Pending struct {
	Revision wire.Revision
	Base     wire.Revision
	Deadline time.Time
}

// Pending returns the change that waits for its confirmation, if there is one.
func (s *Store) Pending(ctx context.Context) (p Pending, ok bool, err error) {
	err = s.view(ctx, "read pending change", func(r reader, org wire.OrgID) (err error) {
		p, ok, err = pending(ctx, r, org)
		return err
	})
	return p, ok, err
}

func pending(ctx context.Context, r reader, org wire.OrgID) (p Pending, ok bool, err error) {
	err = r.QueryRowContext(ctx, "SELECT revision, base, deadline FROM pending WHERE org_id = ?", org).
		Scan(&p.Revision, &p.Base, instantCol{&p.Deadline})
	if errors.Is(err, sql.ErrNoRows) {
		return Pending{}, false, nil
	}
	return p, err == nil, err
}

// settled refuses a change of the policy set while another is pending.
func (w *writing) settled(ctx context.Context) error {
	if w.c.By == Expiry {
		return nil
	}
	p, waits, err := pending(ctx, w, w.org)
	if err == nil && waits {
		return conflict("revision %d reverts at %s unless it is confirmed: confirm it, or restore another, before changing policies",
			p.Revision, p.Deadline.Format(time.RFC3339))
	}
	return err
}

// Confirm keeps the pending change; without one it is ErrNotFound. One whose deadline
// has come is no longer to be had, whether or not the revert has run.
func (s *Store) Confirm(ctx context.Context, c Change) (wire.Revision, error) {
	return s.change(ctx, "confirm", c, func(w *writing) error {
		p, waits, err := pending(ctx, w, w.org)
		switch {
		case err != nil:
			return err
		case !waits:
			return fmt.Errorf("no change waits for its confirmation: %w", ErrNotFound)
		case !c.At.Before(p.Deadline):
			return conflict("the time to confirm revision %d was over at %s", p.Revision, p.Deadline.Format(time.RFC3339))
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		return w.record(ctx, "policyset.confirm", fmt.Sprintf("revision:%d", p.Revision), nil)
	})
}

func (w *writing) settle(ctx context.Context) error {
	_, err := w.ExecContext(ctx, "DELETE FROM pending WHERE org_id = ?", w.org)
	return err
}
