package storetest

import (
	"errors"
	"slices"
	"testing"

	"enclave/store"
	"enclave/wire"
)

// testNames: zones and records are made whole or refused whole with every mistake, each
// with its record, and follow a tag's new name.
func testNames(t *testing.T, l *Lab) {
	sys := l.System("box", "srv")
	zone := wire.Zone{Name: "Corp.Example.", AutoTags: []wire.Tag{"srv"}}
	z, err := l.PutZone(l.Ctx, l.C, zone, true)
	l.must(err)
	if z.Name != "corp.example" || z.Version == 0 {
		t.Errorf("zone %+v", z)
	}
	_, err = l.PutZone(l.Ctx, l.C, zone, true)
	l.want(err, store.ErrConflict)
	_, err = l.PutZone(l.Ctx, l.C, wire.Zone{Name: "other"}, false)
	l.want(err, store.ErrNotFound)
	_, err = l.PutZone(l.Ctx, l.C, wire.Zone{Name: "lan", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{sys.ID}, Resolvers: []string{"10.0.0.53"}}}, true)
	l.must(err)
	r, err := l.PutRecord(l.Ctx, l.C, wire.Record{Name: "*.corp.example", Tags: []wire.Tag{"srv"}, Systems: []wire.SystemID{sys.ID}}, true)
	l.must(err)

	before, _ := l.Revision(l.Ctx)
	for path, refused := range map[string]func() error{
		"tags[1]": func() error {
			_, err := l.PutRecord(l.Ctx, l.C, wire.Record{Name: "x.corp.example", Tags: []wire.Tag{"srv", "nosuch"}}, true)
			return err
		},
		"systems[0]": func() error {
			_, err := l.PutRecord(l.Ctx, l.C, wire.Record{Name: "x.corp.example", Systems: []wire.SystemID{"zzzz9"}}, true)
			return err
		},
		"name": func() error {
			_, err := l.PutRecord(l.Ctx, l.C, wire.Record{Name: "x.lan", Tags: []wire.Tag{"srv"}}, true)
			return err
		},
		"forward": func() error {
			_, err := l.PutZone(l.Ctx, l.C, wire.Zone{Name: "lan"}, false)
			return err
		},
		"forward.gateways[0]": func() error {
			_, err := l.PutZone(l.Ctx, l.C, wire.Zone{Name: "wan", Forward: &wire.ZoneForward{Gateways: []wire.SystemID{"zzzz9"}, Resolvers: []string{"10.0.0.53"}}}, true)
			return err
		},
	} {
		var bad *store.SetError
		if err := refused(); !errors.As(err, &bad) || bad.Problems[0].Path != path {
			t.Errorf("%v, want a problem at %s", err, path)
		}
	}
	_, err = l.DeleteZone(l.Ctx, l.C, "corp.example")
	l.want(err, store.ErrConflict)
	stale := l.C
	stale.IfMatch = r.Version + 99
	_, err = l.PutRecord(l.Ctx, stale, r.Record, false)
	l.want(err, store.ErrStale)
	if now, _ := l.Revision(l.Ctx); now != before {
		t.Errorf("refusals made revisions %d to %d", before, now)
	}

	_, err = l.RenameTag(l.Ctx, l.C, "srv", "servers")
	l.must(err)
	d, err := l.DNS(l.Ctx)
	l.must(err)
	if len(d.Zones) != 2 || !slices.Equal(d.Zones[0].AutoTags, []wire.Tag{"servers"}) || len(d.Records) != 1 || !slices.Equal(d.Records[0].Tags, []wire.Tag{"servers"}) {
		t.Errorf("after the rename %+v", d)
	}
	_, err = l.DeleteRecord(l.Ctx, l.C, "*.corp.example")
	l.must(err)
	_, err = l.DeleteZone(l.Ctx, l.C, "corp.example")
	l.must(err)
	log, err := l.Audit(l.Ctx, store.AuditQuery{})
	l.must(err)
	kinds := map[string]int{}
	for _, rec := range log {
		kinds[rec.Action]++
	}
	for action, n := range map[string]int{"zone.create": 2, "record.create": 1, "record.delete": 1, "zone.delete": 1} {
		if kinds[action] != n {
			t.Errorf("%d records of %s, want %d", kinds[action], action, n)
		}
	}
}
