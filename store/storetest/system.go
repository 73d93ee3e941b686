package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

func (l *Lab) read(id wire.SystemID) store.System {
	l.T.Helper()
	sys, err := l.Store.System(l.Ctx, id)
	l.must(err)
	return sys
}

func testSystemLife(t *testing.T, l *Lab) {
	_, secret := l.Key(store.KeyParams{})
	sys, _, err := l.Enrol(l.Ctx, start, l.Params(secret, "box"))
	l.must(err)
	id := sys.ID
	step := func(rev wire.Revision, err error, want wire.SystemState) {
		t.Helper()
		l.must(err)
		got := l.read(id)
		if got.State(start) != want || got.Version != rev {
			t.Errorf("state %s at version %d, want %s at %d", got.State(start), got.Version, want, rev)
		}
		now, _ := l.state()
		if now != rev {
			t.Errorf("returned revision %d, store has %d", rev, now)
		}
	}
	rev, err := l.Approve(l.Ctx, l.C, id)
	step(rev, err, wire.Disconnected)
	_, err = l.Approve(l.Ctx, l.C, id)
	l.want(err, store.ErrConflict)
	rev, err = l.SetEnabled(l.Ctx, l.C, id, false)
	step(rev, err, wire.Disabled)
	rev, err = l.SetEnabled(l.Ctx, l.C, id, true)
	step(rev, err, wire.Disconnected)
	rev, err = l.Rename(l.Ctx, l.C, id, "mill")
	step(rev, err, wire.Disconnected)
	_, err = l.Rename(l.Ctx, l.C, id, "No")
	l.want(err, wire.ErrBadName)
	_, err = l.Rename(l.Ctx, store.Change{By: "x", At: start, IfMatch: rev - 1}, id, "late")
	l.want(err, store.ErrStale)
	rev, err = l.SetNotes(l.Ctx, store.Change{By: "x", At: start, IfMatch: rev}, id, "in the cellar")
	step(rev, err, wire.Disconnected)
	rev, err = l.Revoke(l.Ctx, l.C, id)
	step(rev, err, wire.Revoked)
	_, err = l.SetEnabled(l.Ctx, l.C, id, true)
	l.want(err, store.ErrConflict)
	_, err = l.Revoke(l.Ctx, l.C, id)
	l.want(err, store.ErrConflict)
	if got := l.read(id); got.Name != "mill" || got.Notes != "in the cellar" {
		t.Errorf("got %+v", got)
	}
	_, err = l.DeleteSystem(l.Ctx, l.C, id)
	l.must(err)
	_, err = l.Store.System(l.Ctx, id)
	l.want(err, store.ErrNotFound)
	for _, f := range []func() (wire.Revision, error){
		func() (wire.Revision, error) { return l.Approve(l.Ctx, l.C, id) },
		func() (wire.Revision, error) { return l.DeleteSystem(l.Ctx, l.C, id) },
		func() (wire.Revision, error) { return l.AddTags(l.Ctx, l.C, id, "a") },
	} {
		_, err := f()
		l.want(err, store.ErrNotFound)
	}
}

func testFindSystem(t *testing.T, l *Lab) {
	a, b := l.System("twin"), l.System("twin")
	_, err := l.FindSystem(l.Ctx, "twin")
	l.want(err, store.ErrAmbiguous)
	var which *store.AmbiguousError
	if ids := []string{string(min(a.ID, b.ID)), string(max(a.ID, b.ID))}; !errors.As(err, &which) || !slices.Equal(which.IDs, ids) {
		t.Errorf("got %v, want %v", err, ids)
	}
	got, err := l.FindSystem(l.Ctx, string(a.ID))
	l.must(err)
	if got.ID != a.ID {
		t.Errorf("found %s", got.ID)
	}
	// A system named like another's ID does not hide it.
	_, err = l.Rename(l.Ctx, l.C, b.ID, string(a.ID))
	l.must(err)
	if got, err := l.FindSystem(l.Ctx, string(a.ID)); err != nil || got.ID != a.ID {
		t.Errorf("found %s, %v", got.ID, err)
	}
	_, err = l.FindSystem(l.Ctx, "nobody")
	l.want(err, store.ErrNotFound)
}

func testSystemTags(t *testing.T, l *Lab) {
	sys := l.System("box", "b")
	_, err := l.AddTags(l.Ctx, l.C, sys.ID, "c", "a", "a", "b")
	l.must(err)
	if got := l.read(sys.ID).Tags; !slices.Equal(got, []wire.Tag{"a", "b", "c"}) {
		t.Errorf("tags %v", got)
	}
	_, err = l.RemoveTags(l.Ctx, l.C, sys.ID, "a", "never-there")
	l.must(err)
	if got := l.read(sys.ID).Tags; !slices.Equal(got, []wire.Tag{"b", "c"}) {
		t.Errorf("tags %v", got)
	}
	_, err = l.AddTags(l.Ctx, l.C, sys.ID, "Bad")
	l.want(err, wire.ErrBadTag)
	var many []wire.Tag
	for i := range wire.MaxTagsPerSystem {
		many = append(many, wire.Tag(fmt.Sprintf("t%d", i)))
	}
	_, err = l.AddTags(l.Ctx, l.C, sys.ID, many...)
	l.want(err, store.ErrConflict)
	if got := l.read(sys.ID).Tags; len(got) != 2 {
		t.Errorf("a refused change left %d tags", len(got))
	}
}

func testTrust(t *testing.T, l *Lab) {
	sys := l.System("box")
	_, err := l.MarkTrust(l.Ctx, l.C, sys.ID, store.TrustMark{Requirement: "mfa", Until: start.Add(time.Hour)})
	l.must(err)
	_, err = l.MarkTrust(l.Ctx, l.C, sys.ID, store.TrustMark{Requirement: "mfa", Until: start.Add(2 * time.Hour)})
	l.must(err)
	_, err = l.MarkTrust(l.Ctx, l.C, sys.ID, store.TrustMark{Requirement: "disk"})
	l.must(err)
	want := []store.TrustMark{{Requirement: "disk"}, {Requirement: "mfa", Until: start.Add(2 * time.Hour)}}
	if got := l.read(sys.ID).Trust; !reflect.DeepEqual(got, want) {
		t.Errorf("trust %v", got)
	}
	_, err = l.UnmarkTrust(l.Ctx, l.C, sys.ID, "disk")
	l.must(err)
	_, err = l.UnmarkTrust(l.Ctx, l.C, sys.ID, "disk")
	l.want(err, store.ErrNotFound)
	if got := l.read(sys.ID).Trust; !reflect.DeepEqual(got, want[1:]) {
		t.Errorf("trust %v", got)
	}
}

func testExpiry(t *testing.T, l *Lab) {
	sys := l.System("box")
	_, err := l.SetSystemExpiry(l.Ctx, l.C, sys.ID, store.End{At: start, Action: wire.DisableOnExpiry})
	l.want(err, store.ErrConflict)
	end := start.Add(time.Hour)
	_, err = l.SetSystemExpiry(l.Ctx, l.C, sys.ID, store.End{At: end, Action: wire.DeleteOnExpiry})
	l.must(err)
	got := l.read(sys.ID)
	if !got.ExpiresAt.Equal(end) || got.ExpiryAction != wire.DeleteOnExpiry {
		t.Errorf("expiry %s, %s", got.ExpiresAt, got.ExpiryAction)
	}
	if !got.Counts(end.Add(-1)) || got.Counts(end) || got.State(end) != wire.Disabled {
		t.Error("it counts at its expiry, or not before")
	}
	_, err = l.SetSystemExpiry(l.Ctx, l.C, sys.ID, store.End{})
	l.must(err)
	if got := l.read(sys.ID); !got.ExpiresAt.IsZero() {
		t.Errorf("expiry %s", got.ExpiresAt)
	}
}

func testLive(t *testing.T, l *Lab) {
	sys := l.System("box")
	rev, n := l.state()
	reach := wire.Reach{NAT: "hard", Relay: "r1", Candidates: []wire.Candidate{{Kind: wire.HostCandidate, Addr: netip.MustParseAddrPort("192.0.2.1:7")}}}
	chain := [][]byte{{0x30, 1, 7}, {0x30, 2, 8, 9}}
	host := wire.Host{Hostname: "h", Platform: "p", Version: "v9"}
	l.must(l.SetConnected(l.Ctx, sys.ID, start.Add(1), "198.51.100.9"))
	l.must(l.SetSeen(l.Ctx, sys.ID, start.Add(2), 7))
	l.must(l.SetSeen(l.Ctx, sys.ID, start.Add(3), 6)) // an old acknowledgement takes nothing back
	l.must(l.SetReach(l.Ctx, sys.ID, start.Add(4), reach))
	l.must(l.UpdateSVID(l.Ctx, sys.ID, chain))
	l.must(l.SetHost(l.Ctx, sys.ID, host))
	want := store.Live{Online: true, SeenFrom: "198.51.100.9", ConnectedAt: start.Add(1), LastSeen: start.Add(4), Applied: 7, Reach: reach}
	got := l.read(sys.ID)
	if !reflect.DeepEqual(got.Live, want) || !reflect.DeepEqual(got.SVID, chain) || got.Host != host || got.State(start) != wire.Connected {
		t.Errorf("got %+v", got)
	}
	l.must(l.SetDisconnected(l.Ctx, sys.ID, start.Add(5)))
	if got := l.read(sys.ID); got.Live.Online || got.Live.DisconnectedAt != start.Add(5) || got.Version != sys.Version {
		t.Errorf("got %+v", got.Live)
	}
	l.must(l.SetConnected(l.Ctx, sys.ID, start.Add(6), ""))
	l.must(l.DisconnectAll(l.Ctx, start.Add(7)))
	if got := l.read(sys.ID); got.Live.Online || got.Live.DisconnectedAt != start.Add(7) {
		t.Errorf("got %+v", got.Live)
	}
	if rev2, n2 := l.state(); rev2 != rev || n2 != n {
		t.Error("being connected made a revision or a record")
	}
	l.want(l.SetSeen(l.Ctx, "aaaaa", start, 1), store.ErrNotFound)
	l.want(l.UpdateSVID(l.Ctx, "aaaaa", chain), store.ErrNotFound)
}

func testLapse(t *testing.T, l *Lab) {
	_, secret := l.Key(store.KeyParams{Kind: store.Ephemeral, Retention: time.Minute})
	var ids []wire.SystemID
	for range 4 {
		sys, _, err := l.Enrol(l.Ctx, start, l.Params(secret, "job"))
		l.must(err)
		ids = append(ids, sys.ID)
	}
	stays := l.System("server")
	gone, back, online := ids[0], ids[1], ids[2] // the last never connects
	for _, id := range []wire.SystemID{gone, back, online, stays.ID} {
		l.must(l.SetConnected(l.Ctx, id, start, ""))
	}
	for _, id := range []wire.SystemID{gone, back, stays.ID} {
		l.must(l.SetDisconnected(l.Ctx, id, start))
	}
	l.must(l.SetConnected(l.Ctx, back, start.Add(time.Second), ""))
	before, _ := l.state()
	list, rev, err := l.DeleteLapsed(l.Ctx, l.at(time.Minute-1))
	l.must(err)
	if len(list) != 0 || rev != before {
		t.Errorf("too early: %v", list)
	}
	list, rev, err = l.DeleteLapsed(l.Ctx, l.at(time.Minute))
	l.must(err)
	if !slices.Equal(list, []wire.SystemID{gone}) || rev != before+1 {
		t.Errorf("lapsed %v, want %v", list, gone)
	}
	list, _, err = l.DeleteLapsed(l.Ctx, l.at(time.Hour+time.Minute))
	l.must(err)
	if !slices.Equal(list, ids[3:]) {
		t.Errorf("lapsed %v, want %v", list, ids[3:])
	}
	left, err := l.Systems(l.Ctx)
	l.must(err)
	if len(left) != 3 {
		t.Errorf("%d systems left, want 3", len(left))
	}
}
