package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

type (
	ZoneRef struct {
		Zone string `path:"zone" maxLength:"254" doc:"Its name"`
	}
	RecordRef struct {
		Record string `path:"record" maxLength:"254" doc:"Its whole name"`
	}
	zoneList   struct{ Body api.Page[api.Zone] }
	recordList struct{ Body api.Page[api.Record] }
	zoneOut    struct {
		Status int
		ETag   string `header:"ETag"`
		Made
		Body either[api.Zone]
	}
	recordOut struct {
		Status int
		ETag   string `header:"ETag"`
		Made
		Body either[api.Record]
	}
	zoneCreate struct {
		Wanted
		Body wire.Zone
	}
	zoneUpdate struct {
		ZoneRef
		Precondition
		Wanted
		Body wire.Zone
	}
	zoneDelete struct {
		ZoneRef
		Precondition
		Wanted
	}
	recordCreate struct {
		Wanted
		Body wire.Record
	}
	recordUpdate struct {
		RecordRef
		Precondition
		Wanted
		Body wire.Record
	}
	recordDelete struct {
		RecordRef
		Precondition
		Wanted
	}
	resolveQuery struct {
		Name string    `query:"name" required:"true" maxLength:"254"`
		As   string    `query:"as" required:"true" maxLength:"128" doc:"The asker: a system, by ID or name"`
		At   time.Time `query:"at" doc:"Absent is now"`
	}
	resolved struct{ Body api.Resolution }
)

func (a *API) routeDNS() {
	route(a, "zone-list", func(ctx context.Context, in *Paging) (*zoneList, error) {
		d, err := a.store.DNS(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		zones := d.Zones
		if _, err := d.Zone(d.Base); err != nil { // nothing is stored of it, and it is there
			zones = append(zones, store.Zone{Zone: wire.Zone{Name: d.Base}})
			slices.SortFunc(zones, func(a, b store.Zone) int { return strings.Compare(a.Name, b.Name) })
		}
		return &zoneList{page(zones, *in, func(z *store.Zone) string { return z.Name }, func(z *store.Zone) api.Zone { return zoneView(&d, z) })}, nil
	})
	route(a, "zone-create", func(ctx context.Context, in *zoneCreate) (*zoneOut, error) {
		return a.putZone(ctx, in.Wanted, "", in.Body, true)
	})
	route(a, "zone-update", func(ctx context.Context, in *zoneUpdate) (*zoneOut, error) {
		if err := sameName(in.Zone, &in.Body.Name); err != nil {
			return nil, err
		}
		return a.putZone(ctx, in.Wanted, in.IfMatch, in.Body, false)
	})
	route(a, "zone-delete", func(ctx context.Context, in *zoneDelete) (*outcome, error) {
		return a.dropName(ctx, in.Wanted, in.IfMatch, in.Zone, a.store.DeleteZone)
	})
	route(a, "record-list", func(ctx context.Context, in *Paging) (*recordList, error) {
		d, err := a.store.DNS(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		return &recordList{page(d.Records, *in, func(r *store.Record) string { return r.Name }, func(r *store.Record) api.Record { return recordView(&d, r) })}, nil
	})
	route(a, "record-create", func(ctx context.Context, in *recordCreate) (*recordOut, error) {
		return a.putRecord(ctx, in.Wanted, "", in.Body, true)
	})
	route(a, "record-update", func(ctx context.Context, in *recordUpdate) (*recordOut, error) {
		if err := sameName(in.Record, &in.Body.Name); err != nil {
			return nil, err
		}
		return a.putRecord(ctx, in.Wanted, in.IfMatch, in.Body, false)
	})
	route(a, "record-delete", func(ctx context.Context, in *recordDelete) (*outcome, error) {
		return a.dropName(ctx, in.Wanted, in.IfMatch, in.Record, a.store.DeleteRecord)
	})
	route(a, "resolve", func(ctx context.Context, in *resolveQuery) (*resolved, error) {
		name, err := names.Parse(in.Name)
		if err != nil {
			return nil, invalid(wire.Problem{Path: "name", Message: err.Error()})
		}
		as, err := a.store.FindSystem(ctx, in.As)
		if err != nil {
			return nil, refuse(err)
		}
		return &resolved{a.answers.Resolve(name, as.ID, a.orNow(in.At))}, nil
	})
}

// plainName is a name of a path as names are kept. No path can hold the root's; "@"
// stands for it there, as in a zone file.
func plainName(s string) string {
	if s == "@" || s == "." {
		return "."
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

// sameName fills in the name of a document that a path names, or refuses another.
func sameName(path string, name *string) error {
	if *name == "" {
		*name = plainName(path)
	}
	if plainName(*name) != plainName(path) {
		return invalid(wire.Problem{Path: "name", Message: "is not that of the path: a name stays; make another"})
	}
	return nil
}

func zoneView(d *store.DNS, z *store.Zone) api.Zone {
	return api.Zone{Zone: z.Zone, BuiltIn: z.Name == d.Base, Version: z.Version}
}

func recordView(d *store.DNS, r *store.Record) api.Record {
	zones := []string{d.Base}
	for i := range d.Zones {
		zones = append(zones, d.Zones[i].Name)
	}
	return api.Record{Record: r.Record, Zone: names.Owner(zones, strings.TrimPrefix(r.Name, "*.")), Version: r.Version}
}

func (a *API) putZone(ctx context.Context, w Wanted, ifMatch string, doc wire.Zone, create bool) (*zoneOut, error) {
	c, err := w.change(ctx, ifMatch)
	if err != nil {
		return nil, err
	}
	var z store.Zone
	out, err := a.order(ctx, w.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		var err error
		z, err = a.store.PutZone(ctx, c, doc, create)
		return Touched{DNS: true}, z.Version, err
	})
	if err != nil {
		return nil, err
	}
	if out.Impact != nil {
		return &zoneOut{Status: http.StatusOK, Body: either[api.Zone]{impact: out.Impact}}, nil
	}
	d, err := a.store.DNS(ctx)
	return &zoneOut{Status: putStatus(create), ETag: etag(z.Version), Made: made(out), Body: either[api.Zone]{done: zoneView(&d, &z)}}, refuse(err)
}

func putStatus(create bool) int {
	if create {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (a *API) putRecord(ctx context.Context, w Wanted, ifMatch string, doc wire.Record, create bool) (*recordOut, error) {
	c, err := w.change(ctx, ifMatch)
	if err != nil {
		return nil, err
	}
	var r store.Record
	out, err := a.order(ctx, w.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		var err error
		r, err = a.store.PutRecord(ctx, c, doc, create)
		return Touched{DNS: true}, r.Version, err
	})
	if err != nil {
		return nil, err
	}
	if out.Impact != nil {
		return &recordOut{Status: http.StatusOK, Body: either[api.Record]{impact: out.Impact}}, nil
	}
	d, err := a.store.DNS(ctx)
	return &recordOut{Status: putStatus(create), ETag: etag(r.Version), Made: made(out), Body: either[api.Record]{done: recordView(&d, &r)}}, refuse(err)
}

func (a *API) dropName(ctx context.Context, w Wanted, ifMatch, name string, drop func(context.Context, store.Change, string) (wire.Revision, error)) (*outcome, error) {
	c, err := w.change(ctx, ifMatch)
	if err != nil {
		return nil, err
	}
	return asOutcome(a.order(ctx, w.how(), func(ctx context.Context) (Touched, wire.Revision, error) {
		rev, err := drop(ctx, c, plainName(name))
		return Touched{DNS: true}, rev, err
	}))
}
