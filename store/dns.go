package store

import (
	"context"
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
	err = readDocuments(ctx, r, org, "dns_zones", "name", func(name string, z wire.Zone, version wire.Revision, broken string) {
		z.Name = name
		d.Zones = append(d.Zones, Zone{z, version, broken})
	})
	if err != nil {
		return d, err
	}
	err = readDocuments(ctx, r, org, "dns_records", "name", func(name string, rec wire.Record, version wire.Revision, broken string) {
		rec.Name = name
		d.Records = append(d.Records, Record{rec, version, broken})
	})
	return d, err
}
