package storetest

import (
	"slices"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

// evening is on the wall clock of a zone that is not UTC's, an hour after start.
func evening() (*wire.LocalTime, time.Time) {
	return &wire.LocalTime{Time: "2026-03-01T14:00", Zone: "Europe/Berlin"}, start.Add(time.Hour)
}

func testLocalExpiry(t *testing.T, l *Lab) {
	local, end := evening()
	sys := l.System("box")
	_, err := l.SetSystemExpiry(l.Ctx, l.C, sys.ID, store.End{Local: local})
	l.must(err)
	if got := l.read(sys.ID); !got.ExpiresAt.Equal(end) || got.ExpiresLocal == nil || *got.ExpiresLocal != *local {
		t.Errorf("system ends %s, %v", got.ExpiresAt, got.ExpiresLocal)
	}
	for _, bad := range []wire.LocalTime{{Time: "2026-03-01T13:00", Zone: "Europe/Berlin"}, {Time: "2027-01-01T00:00", Zone: "Mars/Olympus"}} {
		_, err = l.SetSystemExpiry(l.Ctx, l.C, sys.ID, store.End{Local: &bad})
		l.want(err, store.ErrConflict)
	}
	_, err = l.SetSystemExpiry(l.Ctx, l.C, sys.ID, store.End{})
	l.must(err)
	if got := l.read(sys.ID); !got.ExpiresAt.IsZero() || got.ExpiresLocal != nil {
		t.Errorf("system ends %s, %v", got.ExpiresAt, got.ExpiresLocal)
	}
	doc := document("night")
	doc.ExpiresAt, doc.ExpiresLocal = nil, local
	p, _, err := l.CreatePolicy(l.Ctx, l.C, doc)
	l.must(err)
	if !p.EndsAt.Equal(end) || p.ExpiresAt != nil || *p.ExpiresLocal != *local {
		t.Errorf("policy %+v", p)
	}
	before, n := l.state()
	l.must(l.FollowZones(l.Ctx, l.at(time.Minute)))
	if rev, n2 := l.state(); rev != before || n2 != n {
		t.Error("zones as they were moved something")
	}
}

func testKeyExpiry(t *testing.T, l *Lab) {
	local, end := evening()
	stays, _ := l.Key(store.KeyParams{Name: "stays", Expires: store.End{At: end.Add(time.Hour)}})
	off, offSecret := l.Key(store.KeyParams{Name: "off", Expires: store.End{Local: local}})
	goes, _ := l.Key(store.KeyParams{Name: "goes", Expires: store.End{At: end, Action: wire.DeleteOnExpiry}})
	if !off.ExpiresAt.Equal(end) {
		t.Errorf("ends %s", off.ExpiresAt)
	}
	if at, err := l.KeyExpiry(l.Ctx); err != nil || !at.Equal(end) {
		t.Errorf("first %s, %v", at, err)
	}
	_, err := l.ExpireKeys(l.Ctx, l.at(time.Hour-1))
	l.must(err)
	if len(l.keys()) != 3 {
		t.Error("a key went before its time")
	}
	_, err = l.ExpireKeys(l.Ctx, l.at(time.Hour))
	l.must(err)
	var got []wire.KeyID
	for _, k := range l.keys() {
		got = append(got, k.ID)
		if k.Enabled != (k.ID == stays.ID) {
			t.Errorf("%s is enabled: %v", k.Name, k.Enabled)
		}
	}
	if !slices.Equal(got, []wire.KeyID{stays.ID, off.ID}) && !slices.Equal(got, []wire.KeyID{off.ID, stays.ID}) {
		t.Errorf("left are %v, not %s", got, goes.ID)
	}
	if at, err := l.KeyExpiry(l.Ctx); err != nil || !at.Equal(end.Add(time.Hour)) {
		t.Errorf("next %s, %v", at, err)
	}
	_, _, err = l.Enrol(l.Ctx, start.Add(2*time.Hour), l.Params(offSecret, "late"))
	l.want(err, store.ErrKeyExpired) // and not unknown: it is the expiry that has disabled it
}

func testKeySources(t *testing.T, l *Lab) {
	_, secret := l.Key(store.KeyParams{Uses: ptr(1), Automatic: true, Sources: []string{"192.0.2.0/24"}})
	p := l.Params(secret, "box")
	_, _, err := l.Enrol(l.Ctx, start, p) // nobody says that it may
	l.want(err, store.ErrKeyElsewhere)
	p.Admit = func([]string) bool { return false }
	_, _, err = l.Enrol(l.Ctx, start, p)
	l.want(err, store.ErrKeyElsewhere)
	p.Admit = func(sources []string) bool { return slices.Equal(sources, []string{"192.0.2.0/24"}) }
	_, created, err := l.Enrol(l.Ctx, start, p) // the refusals have used nothing up
	l.must(err)
	p.Admit = nil
	_, again, err := l.Enrol(l.Ctx, start, p) // it is in already, wherever it calls from now
	l.must(err)
	if !created || again {
		t.Errorf("created %v, again %v", created, again)
	}
}
