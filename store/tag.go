package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"enclave/wire"
)

// Tag is a tag with its settings and how often it is used.
type Tag struct {
	Name     wire.Tag
	Explicit bool // stays when unused
	Notes    string
	Trust    []string // requirements a system must meet for the tag to count
	Systems  int
	Keys     int
	Policies int
}

// TagSettings are what can be set of a tag. A tag with notes or trust is explicit
// whatever Explicit says: a requirement that vanished with the last use of its tag
// would be missing at the next.
type TagSettings struct {
	Explicit bool     `json:"explicit"`
	Notes    string   `json:"notes,omitempty"`
	Trust    []string `json:"trust,omitempty"`
}

// maxTrust is how many requirements one tag may have.
const maxTrust = 16

// Tags returns every tag that is explicit or in use, by name.
func (s *Store) Tags(ctx context.Context) (list []Tag, err error) {
	err = s.view(ctx, "list tags", func(r reader, org wire.OrgID) error {
		at := make(map[wire.Tag]int)
		err := rows(ctx, r, `SELECT name, max(explicit), max(notes), sum(systems), sum(keys), sum(policies) FROM (
			SELECT name, 1 AS explicit, notes, 0 AS systems, 0 AS keys, 0 AS policies FROM tags WHERE org_id = ?1
			UNION ALL SELECT tag, 0, '', count(*), 0, 0 FROM system_tags WHERE org_id = ?1 GROUP BY tag
			UNION ALL SELECT tag, 0, '', 0, count(*), 0 FROM key_tags WHERE org_id = ?1 GROUP BY tag
			UNION ALL SELECT tag, 0, '', 0, 0, count(*) FROM policy_tags WHERE org_id = ?1 GROUP BY tag)
			GROUP BY name ORDER BY name`, []any{org}, func(scan func(...any) error) error {
			var t Tag
			err := scan(&t.Name, &t.Explicit, &t.Notes, &t.Systems, &t.Keys, &t.Policies)
			at[t.Name] = len(list)
			list = append(list, t)
			return err
		})
		if err != nil {
			return err
		}
		trust, err := tagTrust(ctx, r, org)
		for tag, requirements := range trust {
			list[at[tag]].Trust = requirements
		}
		return err
	})
	return list, err
}

// TagTrust returns the requirements of the tags that have some.
func (s *Store) TagTrust(ctx context.Context) (trust map[wire.Tag][]string, err error) {
	err = s.view(ctx, "read tag trust", func(r reader, org wire.OrgID) (err error) {
		trust, err = tagTrust(ctx, r, org)
		return err
	})
	return trust, err
}

func tagTrust(ctx context.Context, r reader, org wire.OrgID) (map[wire.Tag][]string, error) {
	trust := make(map[wire.Tag][]string)
	err := rows(ctx, r, "SELECT tag, requirement FROM tag_trust WHERE org_id = ? ORDER BY tag, requirement", []any{org},
		func(scan func(...any) error) error {
			var tag wire.Tag
			var requirement string
			err := scan(&tag, &requirement)
			trust[tag] = append(trust[tag], requirement)
			return err
		})
	return trust, err
}

// SetTag replaces the settings of a tag, and makes the tag when it is new. Empty
// settings make it implicit: it vanishes with its last use.
func (s *Store) SetTag(ctx context.Context, c Change, tag wire.Tag, set TagSettings) (wire.Revision, error) {
	if err := checkTagSettings(tag, set); err != nil {
		return 0, fmt.Errorf("set tag: %w", err)
	}
	return s.change(ctx, "set tag "+string(tag), c, func(w *writing) error {
		old, err := tagTrust(ctx, w, w.org)
		if err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		// Deleting the row takes the old requirements with it.
		if _, err := w.ExecContext(ctx, "DELETE FROM tags WHERE org_id = ? AND name = ?", w.org, tag); err != nil {
			return err
		}
		if set.Explicit || set.Notes != "" || len(set.Trust) > 0 {
			if _, err := w.ExecContext(ctx, "INSERT INTO tags VALUES (?, ?, ?)", w.org, tag, set.Notes); err != nil {
				return err
			}
		}
		trust := tidyTrust(set.Trust)
		if err := w.insertTrust(ctx, tag, trust); err != nil {
			return err
		}
		if !slices.Equal(trust, old[tag]) {
			if err := w.keepTrust(ctx, tag, trust); err != nil {
				return err
			}
		}
		return w.record(ctx, "tag.set", "tag:"+string(tag), set)
	})
}

// tidyTrust gives a list of requirements the order and form in which it is read back.
func tidyTrust(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func (w *writing) insertTrust(ctx context.Context, tag wire.Tag, trust []string) error {
	for _, requirement := range trust {
		if _, err := w.ExecContext(ctx, "INSERT INTO tag_trust VALUES (?, ?, ?)", w.org, tag, requirement); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) keepTrust(ctx context.Context, tag wire.Tag, trust []string) error {
	if len(trust) == 0 {
		return w.keep(ctx, tagPart, string(tag), nil)
	}
	return w.keep(ctx, tagPart, string(tag), trust)
}

// setTrust replaces the requirements of a tag and nothing else of it.
func (w *writing) setTrust(ctx context.Context, tag wire.Tag, trust []string) error {
	if _, err := w.ExecContext(ctx, "INSERT INTO tags VALUES (?, ?, '') ON CONFLICT DO NOTHING", w.org, tag); err != nil {
		return err
	}
	if _, err := w.ExecContext(ctx, "DELETE FROM tag_trust WHERE org_id = ? AND tag = ?", w.org, tag); err != nil {
		return err
	}
	if err := w.insertTrust(ctx, tag, trust); err != nil {
		return err
	}
	return w.keepTrust(ctx, tag, trust)
}

func checkTagSettings(tag wire.Tag, set TagSettings) error {
	if err := checkTags([]wire.Tag{tag}, 1); err != nil {
		return err
	}
	if len(set.Notes) > wire.MaxNotesLen {
		return fmt.Errorf("notes: %d bytes, at most %d", len(set.Notes), wire.MaxNotesLen)
	}
	if len(set.Trust) > maxTrust {
		return fmt.Errorf("%d trust requirements, at most %d", len(set.Trust), maxTrust)
	}
	for _, requirement := range set.Trust {
		if _, err := wire.ParseTag(requirement); err != nil {
			return fmt.Errorf("trust requirement: %w", err)
		}
	}
	return nil
}

// RenameTag renames a tag wherever it stands: systems, keys, policy documents and
// its own settings. A name that exists already is a conflict, because merging two
// tags would change who may reach whom.
func (s *Store) RenameTag(ctx context.Context, c Change, from, to wire.Tag) (wire.Revision, error) {
	if err := checkTags([]wire.Tag{to}, 1); err != nil {
		return 0, err
	}
	return s.change(ctx, "rename tag "+string(from), c, func(w *writing) error {
		there, err := w.tagExists(ctx, from)
		if err != nil {
			return err
		}
		taken, err := w.tagExists(ctx, to)
		switch {
		case err != nil:
			return err
		case !there:
			return notFound("tag", from)
		case taken:
			return conflict("tag %s exists already", to)
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.renameTag(ctx, from, to); err != nil {
			return err
		}
		return w.record(ctx, "tag.rename", "tag:"+string(from), map[string]wire.Tag{"to": to})
	})
}

func (w *writing) renameTag(ctx context.Context, from, to wire.Tag) error {
	// The version first, while the old name still finds the systems.
	_, err := w.ExecContext(ctx, `UPDATE systems SET version = ?1 WHERE org_id = ?2
		AND id IN (SELECT system_id FROM system_tags WHERE org_id = ?2 AND tag = ?3)`, w.rev, w.org, from)
	if err != nil {
		return err
	}
	for _, query := range []string{
		"UPDATE tags SET name = ? WHERE name = ? AND org_id = ?",
		"UPDATE system_tags SET tag = ? WHERE tag = ? AND org_id = ?",
		"UPDATE key_tags SET tag = ? WHERE tag = ? AND org_id = ?",
	} {
		if _, err := w.ExecContext(ctx, query, to, from, w.org); err != nil {
			return err
		}
	}
	trust, err := tagTrust(ctx, w, w.org)
	if err != nil {
		return err
	}
	if moved := trust[to]; len(moved) > 0 { // the table has followed its tag
		if err := errors.Join(w.keepTrust(ctx, from, nil), w.keepTrust(ctx, to, moved)); err != nil {
			return err
		}
	}
	if err := errors.Join(w.renameInTests(ctx, from, to), w.renameInDNS(ctx, from, to)); err != nil {
		return err
	}
	list, err := policies(ctx, w, w.org)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Broken != "" {
			var uses int
			err := w.QueryRowContext(ctx, "SELECT count(*) FROM policy_tags WHERE org_id = ? AND policy_id = ? AND tag = ?", w.org, p.ID, from).Scan(&uses)
			if err != nil || uses == 0 {
				if err != nil {
					return err
				}
				continue
			}
			return conflict("policy %s names the tag and cannot be read (%s): replace or remove it", p.ID, p.Broken)
		}
		if replaceTag(p.SenderTags, from, to)+replaceTag(p.ReceiverTags, from, to) == 0 {
			continue
		}
		if err := w.putPolicy(ctx, &p.Policy); err != nil {
			return err
		}
	}
	return nil
}

// renameInTests follows a tag into the assertions that name it.
func (w *writing) renameInTests(ctx context.Context, from, to wire.Tag) error {
	tests, _, err := readTests(ctx, w, w.org)
	if err != nil {
		return err
	}
	n := 0
	for i := range tests {
		for _, end := range []*string{&tests[i].From, &tests[i].To} {
			if *end == "tag:"+string(from) {
				*end = "tag:" + string(to)
				n++
			}
		}
	}
	if n == 0 {
		return nil
	}
	return w.setTests(ctx, tests)
}

func replaceTag(tags []wire.Tag, from, to wire.Tag) (n int) {
	for i := range tags {
		if tags[i] == from {
			tags[i] = to
			n++
		}
	}
	return n
}

func (w *writing) tagExists(ctx context.Context, tag wire.Tag) (bool, error) {
	var n int
	err := w.QueryRowContext(ctx, `SELECT 1 WHERE EXISTS (SELECT 1 FROM tags WHERE org_id = ?1 AND name = ?2)
		OR EXISTS (SELECT 1 FROM system_tags WHERE org_id = ?1 AND tag = ?2)
		OR EXISTS (SELECT 1 FROM key_tags WHERE org_id = ?1 AND tag = ?2)
		OR EXISTS (SELECT 1 FROM policy_tags WHERE org_id = ?1 AND tag = ?2)`, w.org, tag).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return n == 1, err
}
