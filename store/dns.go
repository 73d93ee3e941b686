package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"enclave/wire"
	"enclave/wire/names"
)

// Zone is a DNS zone with its version.
type Zone struct {
	wire.Zone
	Version wire.Revision
	Broken  string // why the stored document cannot be read; then only Name and Version count
}

// Record is a DNS record with its version.
type Record struct {
	wire.Record
	Version wire.Revision
	Broken  string // as Zone's
}

// DNS is everything that is stored of names, by name.
type DNS struct {
	Base    string
	Zones   []Zone
	Records []Record
}

// Book is what of it can be read.
func (d *DNS) Book() *names.Book {
	b := &names.Book{Base: d.Base}
	for i := range d.Zones {
		if d.Zones[i].Broken == "" {
			b.Zones = append(b.Zones, d.Zones[i].Zone)
		}
	}
	for i := range d.Records {
		if d.Records[i].Broken == "" {
			b.Records = append(b.Records, d.Records[i].Record)
		}
	}
	return b
}

// Zone returns the zone of that name.
func (d *DNS) Zone(name string) (Zone, error) {
	if i := slices.IndexFunc(d.Zones, func(z Zone) bool { return z.Name == name }); i >= 0 {
		return d.Zones[i], nil
	}
	return Zone{}, notFound("zone", name)
}

// Record returns the record of that name.
func (d *DNS) Record(name string) (Record, error) {
	if i := slices.IndexFunc(d.Records, func(r Record) bool { return r.Name == name }); i >= 0 {
		return d.Records[i], nil
	}
	return Record{}, notFound("record", name)
}

// DNS reads zones and records at one instant.
func (s *Store) DNS(ctx context.Context) (d DNS, err error) {
	err = s.view(ctx, "read names", func(r reader, org wire.OrgID) (err error) {
		d, err = readDNS(ctx, r, org)
		return err
	})
	return d, err
}

func readDNS(ctx context.Context, r reader, org wire.OrgID) (d DNS, err error) {
	var settings Settings
	if err := r.QueryRowContext(ctx, "SELECT settings FROM organisation WHERE org_id = ?", org).Scan(jsonCol{&settings}); err != nil {
		return d, err
	}
	d.Base = settings.Zone
	err = rows(ctx, r, "SELECT name, document, version FROM dns_zones WHERE org_id = ? ORDER BY name", []any{org}, func(scan func(...any) error) error {
		var z Zone
		var name, text string
		if err := scan(&name, &text, &z.Version); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &z.Zone); err != nil {
			z.Zone, z.Broken = wire.Zone{Name: name}, err.Error()
		}
		d.Zones = append(d.Zones, z)
		return nil
	})
	if err != nil {
		return d, err
	}
	err = rows(ctx, r, "SELECT name, document, version FROM dns_records WHERE org_id = ? ORDER BY name", []any{org}, func(scan func(...any) error) error {
		var rec Record
		var name, text string
		if err := scan(&name, &text, &rec.Version); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &rec.Record); err != nil {
			rec.Record, rec.Broken = wire.Record{Name: name}, err.Error()
		}
		d.Records = append(d.Records, rec)
		return nil
	})
	return d, err
}

// stale compares the version of something of DNS with the one that the caller saw.
func (w *writing) stale(what, name string, have wire.Revision) error {
	if w.c.IfMatch != 0 && w.c.IfMatch != have {
		return fmt.Errorf("%s %s: %w (version %d, you have %d)", what, name, ErrStale, have, w.c.IfMatch)
	}
	return nil
}

// PutZone makes a zone or, when create is not asked for, replaces the one of its name.
// Every mistake is a SetError. What a zone is, ours or forwarded, stays.
func (s *Store) PutZone(ctx context.Context, c Change, doc wire.Zone, create bool) (z Zone, err error) {
	if bad := names.CheckZone(&doc); len(bad) > 0 {
		return z, &SetError{bad}
	}
	_, err = s.change(ctx, "zone "+doc.Name, c, func(w *writing) error {
		d, err := readDNS(ctx, w, w.org)
		if err != nil {
			return err
		}
		old, missing := d.Zone(doc.Name)
		if err := mayPut("zone", doc.Name, create, missing, len(d.Zones), wire.MaxZones); err != nil {
			return err
		}
		if !create && old.Broken == "" && (old.Forward == nil) != (doc.Forward == nil) {
			return &SetError{[]wire.Problem{{Path: "forward", Message: "a zone cannot turn from ours into a forwarded one or back: delete it and create it anew"}}}
		}
		if err := w.stale("zone", doc.Name, old.Version); err != nil {
			return err
		}
		bad := d.Book().CheckNewZone(&doc)
		unknown, err := w.unknownTargets(ctx, "auto_tags", doc.AutoTags, "forward.gateways", gatewaysOf(&doc), gatewaysOf(&old.Zone), old.AutoTags)
		if err != nil {
			return err
		}
		if bad = append(bad, unknown...); len(bad) > 0 {
			return &SetError{bad}
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.putDocument(ctx, "dns_zones", doc.Name, &doc); err != nil {
			return err
		}
		z = Zone{Zone: doc, Version: w.rev}
		return w.record(ctx, putVerb("zone", create), "zone:"+doc.Name, doc)
	})
	return z, err
}

// mayPut says whether something of DNS can be made or replaced; missing is why there is
// none of that name.
func mayPut(what, name string, create bool, missing error, have, most int) error {
	switch {
	case !create:
		return missing
	case missing == nil:
		return conflict("%s %s exists already", what, name)
	case have >= most:
		return conflict("there are %d %ss, the most there can be", have, what)
	}
	return nil
}

func putVerb(what string, create bool) string {
	if create {
		return what + ".create"
	}
	return what + ".update"
}

func gatewaysOf(z *wire.Zone) []wire.SystemID {
	if z.Forward == nil {
		return nil
	}
	return z.Forward.Gateways
}

// putDocument keeps a zone or a record as the newest version of its name.
func (w *writing) putDocument(ctx context.Context, table, name string, doc any) error {
	text, err := toJSON(doc)
	if err != nil {
		return err
	}
	_, err = w.ExecContext(ctx, "INSERT INTO "+table+` VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET document = excluded.document, version = excluded.version`, w.org, name, text, w.rev)
	return err
}

// unknownTargets names the tags and systems that do not exist. Those that were named
// before may stay: that something else was removed stops no change.
func (w *writing) unknownTargets(ctx context.Context, tagPath string, tags []wire.Tag, systemPath string, ids, hadIDs []wire.SystemID, hadTags []wire.Tag) (bad []wire.Problem, err error) {
	for i, t := range tags {
		there, err := w.tagExists(ctx, t)
		if err != nil {
			return nil, err
		}
		if !there && !slices.Contains(hadTags, t) {
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("%s[%d]", tagPath, i), Message: fmt.Sprintf("there is no tag %s: give it to a system, or keep it with \"enclave tag set\"", t)})
		}
	}
	for i, id := range ids {
		var n int
		if err := w.QueryRowContext(ctx, "SELECT count(*) FROM systems WHERE org_id = ? AND id = ?", w.org, id).Scan(&n); err != nil {
			return nil, err
		}
		if n == 0 && !slices.Contains(hadIDs, id) {
			bad = append(bad, wire.Problem{Path: fmt.Sprintf("%s[%d]", systemPath, i), Message: fmt.Sprintf("there is no system %s", id)})
		}
	}
	return bad, nil
}

// DeleteZone removes a zone that has no records.
func (s *Store) DeleteZone(ctx context.Context, c Change, name string) (wire.Revision, error) {
	return s.change(ctx, "delete zone "+name, c, func(w *writing) error {
		d, err := readDNS(ctx, w, w.org)
		if err != nil {
			return err
		}
		z, err := d.Zone(name)
		if err := cmp.Or(err, w.stale("zone", name, z.Version)); err != nil {
			return err
		}
		if name != d.Base {
			b := d.Book()
			all := []string{b.Base}
			for i := range b.Zones {
				all = append(all, b.Zones[i].Name)
			}
			for i := range b.Records {
				if r := b.Records[i].Name; z.Forward == nil && names.Owner(all, bare(r)) == name {
					return conflict("zone %s has records, %s among them: delete them first", name, r)
				}
			}
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.exec(ctx, notFound("zone", name), "DELETE FROM dns_zones WHERE org_id = ? AND name = ?", w.org, name); err != nil {
			return err
		}
		return w.record(ctx, "zone.delete", "zone:"+name, nil)
	})
}

// bare is the name of a record without its wildcard.
func bare(name string) string {
	if len(name) > 2 && name[:2] == "*." {
		return name[2:]
	}
	return name
}

// PutRecord makes a record or, when create is not asked for, replaces the one of its
// name. Every mistake is a SetError.
func (s *Store) PutRecord(ctx context.Context, c Change, doc wire.Record, create bool) (r Record, err error) {
	if bad := names.CheckRecord(&doc); len(bad) > 0 {
		return r, &SetError{bad}
	}
	_, err = s.change(ctx, "record "+doc.Name, c, func(w *writing) error {
		d, err := readDNS(ctx, w, w.org)
		if err != nil {
			return err
		}
		old, missing := d.Record(doc.Name)
		if err := mayPut("record", doc.Name, create, missing, len(d.Records), wire.MaxRecords); err != nil {
			return err
		}
		if err := w.stale("record", doc.Name, old.Version); err != nil {
			return err
		}
		bad := d.Book().CheckNewRecord(&doc)
		unknown, err := w.unknownTargets(ctx, "tags", doc.Tags, "systems", doc.Systems, old.Systems, old.Tags)
		if err != nil {
			return err
		}
		if bad = append(bad, unknown...); len(bad) > 0 {
			return &SetError{bad}
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.putDocument(ctx, "dns_records", doc.Name, &doc); err != nil {
			return err
		}
		r = Record{Record: doc, Version: w.rev}
		return w.record(ctx, putVerb("record", create), "record:"+doc.Name, doc)
	})
	return r, err
}

// DeleteRecord removes a record.
func (s *Store) DeleteRecord(ctx context.Context, c Change, name string) (wire.Revision, error) {
	return s.change(ctx, "delete record "+name, c, func(w *writing) error {
		d, err := readDNS(ctx, w, w.org)
		if err != nil {
			return err
		}
		r, err := d.Record(name)
		if err := cmp.Or(err, w.stale("record", name, r.Version)); err != nil {
			return err
		}
		if err := w.bump(ctx); err != nil {
			return err
		}
		if err := w.exec(ctx, notFound("record", name), "DELETE FROM dns_records WHERE org_id = ? AND name = ?", w.org, name); err != nil {
			return err
		}
		return w.record(ctx, "record.delete", "record:"+name, nil)
	})
}

// renameInDNS follows a tag into the zones and records that name it.
func (w *writing) renameInDNS(ctx context.Context, from, to wire.Tag) error {
	d, err := readDNS(ctx, w, w.org)
	if err != nil {
		return err
	}
	for i := range d.Zones {
		if z := &d.Zones[i]; replaceTag(z.AutoTags, from, to) > 0 {
			err = errors.Join(err, w.putDocument(ctx, "dns_zones", z.Name, &z.Zone))
		}
	}
	for i := range d.Records {
		if r := &d.Records[i]; replaceTag(r.Tags, from, to) > 0 {
			err = errors.Join(err, w.putDocument(ctx, "dns_records", r.Name, &r.Record))
		}
	}
	return err
}
