package storetest

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/svid"
)

// Opener makes an empty store that lives as long as the test.
type Opener func(t testing.TB) *store.Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *Lab)
	}{
		{"organisation", testOrganisation},
		{"enrolment", testEnrolment},
		{"enrolment again", testEnrolAgain},
		{"foreign keys", testEnrolForeignKeys},
		{"known secrets", testKnownSecrets},
		{"enrolment refused", testEnrolRefused},
		{"enrolment race", testEnrolRace},
		{"runs", testRuns},
		{"addresses", testAddresses},
		{"system life", testSystemLife},
		{"system find", testFindSystem},
		{"system tags", testSystemTags},
		{"system trust", testTrust},
		{"system expiry", testExpiry},
		{"local expiry", testLocalExpiry},
		{"key expiry", testKeyExpiry},
		{"key sources", testKeySources},
		{"system live", testLive},
		{"system lapse", testLapse},
		{"keys", testKeys},
		{"policies", testPolicies},
		{"policy stale", testStale},
		{"tags", testTags},
		{"tag rename", testTagRename},
		{"names", testNames},
		{"relays", testRelays},
		{"tokens", testTokens},
		{"activity", testActivity},
		{"records", testRecords},
		{"revisions", testRevisions},
		{"nothing in part", testNothingInPart},
		{"snapshot", testSnapshot},
		{"history", testHistory},
		{"reason", testReason},
		{"apply set", testApplySet},
		{"apply requirements", testApplyRequirements},
		{"pending", testPending},
		{"try", testTry},
		{"requirements", testRequirements},
		{"adds", testAdds},
		{"routes", testRoutes},
		{"rename keeps tests", testRenameKeepsTests},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, NewLab(t, open(t))) })
	}
}

// start is the instant at which a lab's organisation is made.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Lab is a store with an organisation, and short words for tests.
type Lab struct {
	*store.Store
	T   testing.TB
	Ctx context.Context
	C   store.Change
	Org store.Org
	n   uint32
}

// NewLab makes the organisation of an empty store.
func NewLab(t testing.TB, s *store.Store) *Lab {
	t.Helper()
	l := &Lab{Store: s, T: t, Ctx: context.Background(), C: store.Change{By: "admin:test", At: start}}
	org, err := s.Init(l.Ctx, l.C, store.InitParams{ID: wire.NewOrgID(start), Name: "lab",
		CACert: []byte("cert"), CAKey: []byte("key"), TicketKey: []byte("ticket")})
	l.must(err)
	l.Org = org
	return l
}

// at returns the lab's change at another instant.
func (l *Lab) at(after time.Duration) store.Change {
	return store.Change{By: l.C.By, At: start.Add(after)}
}

// Key makes an enrolment key and returns the hash of its secret.
func (l *Lab) Key(p store.KeyParams) (store.Key, store.SecretHash) {
	l.T.Helper()
	l.n++
	binary.BigEndian.PutUint32(p.Secret[:], l.n)
	k, err := l.CreateKey(l.Ctx, l.C, p)
	l.must(err)
	return k, p.Secret
}

// Params makes the request of a new machine.
func (l *Lab) Params(secret store.SecretHash, name string) store.EnrolParams {
	l.n++
	return Machine(l.n, secret, name)
}

// Machine makes the request of the machine with number n.
func Machine(n uint32, secret store.SecretHash, name string) store.EnrolParams {
	var seed [ed25519.SeedSize]byte
	binary.BigEndian.PutUint32(seed[:], n)
	return store.EnrolParams{Secret: secret, Name: name, From: "192.0.2.7",
		Keys: svid.SignKeys(ed25519.NewKeyFromSeed(seed[:]), wire.WireGuardKey(seed), wire.DiscoKey(seed)),
		Host: wire.Host{Hostname: name, Platform: "linux/amd64", Version: "v1"}}
}

// System enrols a machine with an automatic key that has these tags.
func (l *Lab) System(name string, tags ...wire.Tag) store.System {
	l.T.Helper()
	_, secret := l.Key(store.KeyParams{Automatic: true, Tags: tags})
	sys, created, err := l.Enrol(l.Ctx, start, l.Params(secret, name))
	l.must(err)
	if !created {
		l.T.Fatal("a new machine was known")
	}
	return sys
}

func (l *Lab) must(err error) {
	l.T.Helper()
	if err != nil {
		l.T.Fatal(err)
	}
}

// want fails unless err is the wanted one; nil wants none.
func (l *Lab) want(err, want error) {
	l.T.Helper()
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		l.T.Errorf("got error %v, want %v", err, want)
	}
}

// state is what must not change when a change is refused.
func (l *Lab) state() (wire.Revision, int64) {
	l.T.Helper()
	rev, err := l.Revision(l.Ctx)
	l.must(err)
	n, err := l.LastRecord(l.Ctx)
	l.must(err)
	return rev, n
}

func ptr[T any](v T) *T { return &v }
