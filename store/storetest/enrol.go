package storetest

import (
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

func testOrganisation(t *testing.T, l *Lab) {
	got, err := l.Store.Org(l.Ctx)
	l.must(err)
	if !reflect.DeepEqual(got, l.Org) {
		t.Errorf("read %+v, made %+v", got, l.Org)
	}
	if got.IPv4 != netip.MustParsePrefix("100.64.0.0/10") || got.IPv6.Bits() != 48 || got.IPv6.Addr().As16()[0] != 0xfd {
		t.Errorf("prefixes %s, %s", got.IPv4, got.IPv6)
	}
	_, err = l.Init(l.Ctx, l.C, store.InitParams{ID: "other"})
	l.want(err, store.ErrConflict)
	set := store.Settings{Zone: "lab", MapLife: time.Hour, SVIDLife: time.Minute}
	_, err = l.SetSettings(l.Ctx, l.C, set)
	l.must(err)
	if got, _ := l.Store.Org(l.Ctx); got.Settings != set || got.Revision != 2 {
		t.Errorf("settings %+v at %d", got.Settings, got.Revision)
	}
}

func testEnrolment(t *testing.T, l *Lab) {
	manual, secret := l.Key(store.KeyParams{Name: "manual", Tags: []wire.Tag{"dev", "eu.west"}})
	p := l.Params(secret, "box")
	before, _ := l.state()
	sys, created, err := l.Enrol(l.Ctx, start, p)
	l.must(err)
	if after, _ := l.state(); after != before {
		t.Error("a pending system made a revision")
	}
	want := store.System{ID: sys.ID, Name: "box", Kind: store.General, Tags: []wire.Tag{"dev", "eu.west"}, Enabled: true,
		IPv4: sys.IPv4, IPv6: sys.IPv6, Keys: p.Keys, Host: p.Host, Key: manual.ID, EnrolledAt: start, Version: before,
		Live: store.Live{SeenFrom: p.From}}
	if !created || !reflect.DeepEqual(sys, want) {
		t.Errorf("got  %+v\nwant %+v", sys, want)
	}
	if _, err := wire.ParseSystemID(string(sys.ID)); err != nil {
		t.Error(err)
	}
	if !l.Org.IPv4.Contains(sys.IPv4) || !l.Org.IPv6.Contains(sys.IPv6) {
		t.Errorf("addresses %s, %s are outside %s, %s", sys.IPv4, sys.IPv6, l.Org.IPv4, l.Org.IPv6)
	}
	if sys.State(start) != wire.Pending || sys.Counts(start) {
		t.Errorf("state %s", sys.State(start))
	}
	for _, read := range []func() (store.System, error){
		func() (store.System, error) { return l.Store.System(l.Ctx, sys.ID) },
		func() (store.System, error) { return l.SystemByIdentity(l.Ctx, p.Keys.Identity) },
		func() (store.System, error) { return l.FindSystem(l.Ctx, "box") },
	} {
		if got, err := read(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, %v", got, err)
		}
	}
	_, secret = l.Key(store.KeyParams{Kind: store.Ephemeral, Retention: time.Minute})
	sys, _, err = l.Enrol(l.Ctx, start, l.Params(secret, "job"))
	l.must(err)
	if sys.State(start) != wire.Disconnected || !sys.Counts(start) || sys.Retention != time.Minute || sys.Kind != store.Ephemeral {
		t.Errorf("ephemeral system %+v", sys)
	}
	if after, _ := l.state(); after != before+1 {
		t.Error("an approved system made no revision")
	}
}

func testEnrolAgain(t *testing.T, l *Lab) {
	key, secret := l.Key(store.KeyParams{Uses: ptr(1), Expires: store.End{At: start.Add(time.Hour)}})
	p := l.Params(secret, "box")
	first, _, err := l.Enrol(l.Ctx, start, p)
	l.must(err)
	rev, n := l.state()
	// Used up, expired, deleted: the answer was lost, not the right to it.
	_, err = l.DeleteKey(l.Ctx, l.C, key.ID)
	l.must(err)
	p.Name = "other"
	again, created, err := l.Enrol(l.Ctx, start.Add(2*time.Hour), p)
	l.must(err)
	if created || !reflect.DeepEqual(first, again) {
		t.Errorf("again %+v, first %+v", again, first)
	}
	if rev2, n2 := l.state(); rev2 != rev || n2 != n+1 { // the deletion alone
		t.Errorf("enrolling again left traces: %d, %d", rev2-rev, n2-n)
	}
	other := p
	other.Keys.WireGuard[5]++
	_, _, err = l.Enrol(l.Ctx, start, other)
	l.want(err, store.ErrConflict)
	other = p
	other.Keys.Disco[5]++
	_, _, err = l.Enrol(l.Ctx, start, other)
	l.want(err, store.ErrConflict)
	other = p
	other.Secret[9]++
	_, _, err = l.Enrol(l.Ctx, start, other)
	l.want(err, store.ErrKeyUnknown)
	_, err = l.Revoke(l.Ctx, l.C, first.ID)
	l.must(err)
	_, _, err = l.Enrol(l.Ctx, start, p)
	l.want(err, store.ErrRevoked)
	_, err = l.DeleteSystem(l.Ctx, l.C, first.ID)
	l.must(err)
	_, secret = l.Key(store.KeyParams{})
	p.Secret = secret
	_, _, err = l.Enrol(l.Ctx, start, p)
	l.want(err, store.ErrRevoked)
	// Nobody else is, and who was only removed may come back as another system.
	kind := l.Params(secret, "kind")
	sys, _, err := l.Enrol(l.Ctx, start, kind)
	l.must(err)
	_, err = l.DeleteSystem(l.Ctx, l.C, sys.ID)
	l.must(err)
	if back, created, err := l.Enrol(l.Ctx, start, kind); err != nil || !created || back.ID == sys.ID {
		t.Errorf("back as %+v, %v", back, err)
	}
}

// testKnownSecrets: who may be told more than that a secret is wrong has it, or had it when
// it enrolled; knowing an identity, or the secret of a key that is gone, is not enough.
func testKnownSecrets(t *testing.T, l *Lab) {
	gone, had := l.Key(store.KeyParams{Automatic: true})
	p := l.Params(had, "box")
	_, _, err := l.Enrol(l.Ctx, start, p)
	l.must(err)
	relays, hadRelay := l.Key(store.KeyParams{Kind: store.RelayKey})
	r := store.EnrolRelayParams{Secret: hadRelay, Name: "relay", Identity: wire.IdentityKey{1}, Info: wire.RelayInfo{Addr: "relay.example:443"}}
	_, _, err = l.EnrolRelay(l.Ctx, start, r)
	l.must(err)
	for _, id := range []wire.KeyID{gone.ID, relays.ID} {
		_, err = l.DeleteKey(l.Ctx, l.C, id)
		l.must(err)
	}
	disabled, there := l.Key(store.KeyParams{})
	_, err = l.SetKeyEnabled(l.Ctx, l.C, disabled.ID, false)
	l.must(err)
	for name, tc := range map[string]struct {
		secret   store.SecretHash
		identity wire.IdentityKey
		want     bool
	}{
		"a key's":                            {there, wire.IdentityKey{9}, true},
		"nobody's":                           {store.SecretHash{9}, wire.IdentityKey{9}, false},
		"a guess, with an identity":          {store.SecretHash{9}, p.Keys.Identity, false},
		"a guess, with a relay's":            {store.SecretHash{9}, r.Identity, false},
		"of a key that is gone, its own":     {had, p.Keys.Identity, true},
		"of a key that is gone, a stranger":  {had, wire.IdentityKey{9}, false},
		"of a relay's key, the relay":        {hadRelay, r.Identity, true},
		"of a relay's key, a stranger":       {hadRelay, wire.IdentityKey{9}, false},
		"of another's key that is gone, too": {hadRelay, p.Keys.Identity, false},
	} {
		if got, err := l.KnowsSecret(l.Ctx, tc.secret, tc.identity); err != nil || got != tc.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// testEnrolForeignKeys: knowing another's public keys, as its peers do, is no way to stand
// beside it with them. Whoever is introduced to both would believe one of the two.
func testEnrolForeignKeys(t *testing.T, l *Lab) {
	_, secret := l.Key(store.KeyParams{Automatic: true})
	victim := l.Params(secret, "victim")
	victim.Keys.Disco[31]++ // two keys, as everywhere
	_, _, err := l.Enrol(l.Ctx, start, victim)
	l.must(err)
	for name, keys := range map[string]func(*wire.Keys){
		"disco":              func(k *wire.Keys) { k.Disco = victim.Keys.Disco },
		"wireguard":          func(k *wire.Keys) { k.WireGuard = victim.Keys.WireGuard },
		"disco as wireguard": func(k *wire.Keys) { k.WireGuard = wire.WireGuardKey(victim.Keys.Disco) },
		"wireguard as disco": func(k *wire.Keys) { k.Disco = wire.DiscoKey(victim.Keys.WireGuard) },
	} {
		p := l.Params(secret, "evil")
		keys(&p.Keys)
		if _, _, err := l.Enrol(l.Ctx, start, p); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s of another: %v", name, err)
		}
	}
	rev, n := l.state()
	_, _, err = l.Enrol(l.Ctx, start, victim)
	l.must(err) // itself, again
	if rev2, n2 := l.state(); rev2 != rev || n2 != n {
		t.Error("enrolling again left traces")
	}
}

func testEnrolRefused(t *testing.T, l *Lab) {
	try := func(secret store.SecretHash, at time.Time) error {
		_, created, err := l.Enrol(l.Ctx, at, l.Params(secret, "box"))
		if created != (err == nil) {
			t.Errorf("created %v with error %v", created, err)
		}
		return err
	}
	_, expiring := l.Key(store.KeyParams{Expires: store.End{At: start.Add(time.Hour)}})
	off, disabled := l.Key(store.KeyParams{})
	_, err := l.SetKeyEnabled(l.Ctx, l.C, off.ID, false)
	l.must(err)
	_, relay := l.Key(store.KeyParams{Kind: store.RelayKey})
	_, single := l.Key(store.KeyParams{Uses: ptr(1)})
	l.must(try(single, start))
	l.must(try(expiring, start.Add(time.Hour-1)))
	rev, n := l.state()
	l.want(try(expiring, start.Add(time.Hour)), store.ErrKeyExpired) // at its instant, not after it
	l.want(try(disabled, start), store.ErrKeyUnknown)
	l.want(try(relay, start), store.ErrKeyUnknown)
	l.want(try(single, start), store.ErrKeyUsedUp)
	l.want(try(store.SecretHash{0xff}, start), store.ErrKeyUnknown)
	bad := l.Params(expiring, "Not A Name")
	_, _, err = l.Enrol(l.Ctx, start, bad)
	l.want(err, wire.ErrBadName)
	// Another machine with a WireGuard key that is taken: the use of the key is undone.
	first := l.Params(expiring, "one")
	_, _, err = l.Enrol(l.Ctx, start, first)
	l.must(err)
	second := l.Params(expiring, "two")
	second.Keys.WireGuard = first.Keys.WireGuard
	_, _, err = l.Enrol(l.Ctx, start, second)
	l.want(err, store.ErrConflict)
	for _, k := range l.keys() {
		if k.UsesLeft != nil && *k.UsesLeft != 0 || k.Name == "" && !k.ExpiresAt.IsZero() && k.Used != 2 {
			t.Errorf("key %+v", k)
		}
	}
	if rev2, n2 := l.state(); rev2 != rev || n2 != n+1 {
		t.Errorf("refusals left traces: %d, %d", rev2-rev, n2-n)
	}
}

// testEnrolRace lets 200 machines race for 10 uses.
func testEnrolRace(t *testing.T, l *Lab) {
	const machines, uses = 200, 10
	_, secret := l.Key(store.KeyParams{Uses: ptr(uses), Automatic: true})
	var won, refused atomic.Int32
	var all sync.WaitGroup
	for n := range uint32(machines) {
		all.Go(func() {
			_, created, err := l.Enrol(l.Ctx, start, Machine(1000+n, secret, "box"))
			switch {
			case err == nil && created:
				won.Add(1)
			case errors.Is(err, store.ErrKeyUsedUp):
				refused.Add(1)
			default:
				t.Errorf("machine %d: %v, %v", n, created, err)
			}
		})
	}
	all.Wait()
	list, err := l.Systems(l.Ctx)
	l.must(err)
	if won.Load() != uses || refused.Load() != machines-uses || len(list) != uses {
		t.Errorf("%d won, %d were refused, %d systems", won.Load(), refused.Load(), len(list))
	}
	if k := l.keys()[0]; *k.UsesLeft != 0 || k.Used != uses {
		t.Errorf("key: %d left, %d used", *k.UsesLeft, k.Used)
	}
}

func testAddresses(t *testing.T, l *Lab) {
	seen := make(map[netip.Addr]bool)
	ids := make(map[wire.SystemID]bool)
	for range 50 {
		sys := l.System("box")
		last := sys.IPv4.As4()[3]
		if seen[sys.IPv4] || seen[sys.IPv6] || ids[sys.ID] || last == 0 || last == 255 {
			t.Errorf("%s: %s, %s", sys.ID, sys.IPv4, sys.IPv6)
		}
		seen[sys.IPv4], seen[sys.IPv6], ids[sys.ID] = true, true, true
	}
}

func (l *Lab) keys() []store.Key {
	l.T.Helper()
	list, err := l.Keys(l.Ctx)
	l.must(err)
	return list
}
