package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"enclave/wire"
	"enclave/wire/names"
)

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
		if err := cmp.Or(mayPut("zone", doc.Name, create, missing, len(d.Zones), wire.MaxZones), w.stale(old.Version)); err != nil {
			return err
		}
		if !create && old.Broken == "" && (old.Forward == nil) != (doc.Forward == nil) {
			return &SetError{[]wire.Problem{{Path: "forward", Message: "a zone cannot turn from ours into a forwarded one or back: delete it and create it anew"}}}
		}
		unknown, err := w.unknownTargets(ctx, "auto_tags", doc.AutoTags, "forward.gateways", gatewaysOf(&doc), gatewaysOf(&old.Zone), old.AutoTags)
		if err != nil {
			return err
		}
		if bad := append(d.Book().CheckNewZone(&doc), unknown...); len(bad) > 0 {
			return &SetError{bad}
		}
		err = w.putDNS(ctx, "zone", doc.Name, doc, create)
		z = Zone{Zone: doc, Version: w.rev}
		return err
	})
	return z, err
}

// DeleteZone removes a zone that has no records.
func (s *Store) DeleteZone(ctx context.Context, c Change, name string) (wire.Revision, error) {
	return s.change(ctx, "delete zone "+name, c, func(w *writing) error {
		d, err := readDNS(ctx, w, w.org)
		if err != nil {
			return err
		}
		z, err := d.Zone(name)
		if err := cmp.Or(err, w.stale(z.Version)); err != nil {
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
		return w.dropDNS(ctx, "zone", name)
	})
}

// bare is the name of a record without its wildcard.
func bare(name string) string {
	if len(name) > 2 && name[:2] == "*." {
		return name[2:]
	}
	return name
}

func gatewaysOf(z *wire.Zone) []wire.SystemID {
	if z.Forward == nil {
		return nil
	}
	return z.Forward.Gateways
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
		if err := cmp.Or(mayPut("record", doc.Name, create, missing, len(d.Records), wire.MaxRecords), w.stale(old.Version)); err != nil {
			return err
		}
		unknown, err := w.unknownTargets(ctx, "tags", doc.Tags, "systems", doc.Systems, old.Systems, old.Tags)
		if err != nil {
			return err
		}
		if bad := append(d.Book().CheckNewRecord(&doc), unknown...); len(bad) > 0 {
			return &SetError{bad}
		}
		err = w.putDNS(ctx, "record", doc.Name, doc, create)
		r = Record{Record: doc, Version: w.rev}
		return err
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
		if err := cmp.Or(err, w.stale(r.Version)); err != nil {
			return err
		}
		return w.dropDNS(ctx, "record", name)
	})
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

// putDNS keeps a zone or a record, as what says, in a revision of its own.
func (w *writing) putDNS(ctx context.Context, what, name string, doc any, create bool) error {
	if err := w.bump(ctx); err != nil {
		return err
	}
	if err := w.putDocument(ctx, "dns_"+what+"s", name, doc); err != nil {
		return err
	}
	verb := ".update"
	if create {
		verb = ".create"
	}
	return w.record(ctx, what+verb, what+":"+name, doc)
}

// dropDNS removes what putDNS keeps.
func (w *writing) dropDNS(ctx context.Context, what, name string) error {
	if err := w.bump(ctx); err != nil {
		return err
	}
	if err := w.exec(ctx, notFound(what, name), "DELETE FROM dns_"+what+"s WHERE org_id = ? AND name = ?", w.org, name); err != nil {
		return err
	}
	return w.record(ctx, what+".delete", what+":"+name, nil)
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
