package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
)

// testRecords makes every change that another test does not look at the record of: who did
// it, what it was, about what, and what somebody who reads it later needs to know. What is
// refused leaves none.
func testRecords(t *testing.T, l *Lab) {
	var now int64
	// left are the records since the last call, as "actor action object detail".
	left := func() (lines []string) {
		t.Helper()
		list, err := l.Audit(l.Ctx, store.AuditQuery{After: now})
		l.must(err)
		for _, e := range list {
			now = e.Seq
			if e.Outcome != audit.Done || !e.At.Equal(start) || e.Revision == 0 {
				t.Errorf("record %+v", e)
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %s", e.Actor, e.Action, e.Object, e.Clear))
		}
		return lines
	}
	if want := []string{"admin:test organisation.create organisation:" + string(l.Org.ID) + " {}"}; !slices.Equal(left(), want) {
		t.Errorf("the first record is not %q", want)
	}
	var id string // of what a step makes
	rev := func(r wire.Revision, err error) error { id = fmt.Sprint(uint64(r)); return err }
	var key store.Key
	var secret, relays store.SecretHash
	var relay store.Relay
	p := store.EnrolRelayParams{Name: "relay", Identity: wire.IdentityKey{1}, Info: wire.RelayInfo{Addr: "relay.example:443"}}
	policies := wire.PolicySet{Policies: []wire.Policy{{Name: "p", Kind: wire.Direct, SenderTags: []wire.Tag{"dev"}, ACLs: []wire.ACL{{Proto: wire.Any}}}}}
	office := wire.Requirement{ID: "office", Kind: wire.PublicIP}
	for i, step := range []struct {
		do   func() error
		want string // ID stands for id
	}{
		{func() error {
			return rev(l.SetSettings(l.Ctx, l.C, store.Settings{Zone: "corp", MapLife: time.Hour, SVIDLife: time.Minute}))
		}, `admin:test organisation.settings organisation:` + string(l.Org.ID) + ` {"zone":"corp","map_life":3600000000000,"svid_life":60000000000}`},
		{func() error {
			key, secret = l.Key(store.KeyParams{Name: "k", Automatic: true, Uses: ptr(1), Tags: []wire.Tag{"dev"}, Sources: []string{"192.0.2.0/24"}})
			id = string(key.ID)
			return nil
		}, `admin:test key.create key:ID {"automatic":true,"kind":"general","name":"k","sources":["192.0.2.0/24"],"tags":["dev"],"uses":1}`},
		{func() error {
			m := l.Params(secret, "box")
			m.Admit = func([]string) bool { return true }
			sys, _, err := l.Enrol(l.Ctx, start, m)
			id = string(sys.ID)
			return err
		}, `key:KEY system.enrol system:ID {"approved":true,"from":"192.0.2.7","key":"KEY","name":"box"}`},
		{func() error {
			_, _, err := l.Enrol(l.Ctx, start, l.Params(secret, "late"))
			l.want(err, store.ErrKeyUsedUp)
			return nil
		}, ``},
		{func() error {
			_, err := l.SetKeyEnabled(l.Ctx, l.C, key.ID, false)
			return err
		}, `admin:test key.disable key:KEY {}`},
		{func() error { // no longer told apart from one that never was
			_, _, err := l.Enrol(l.Ctx, start, l.Params(secret, "late"))
			l.want(err, store.ErrKeyUnknown)
			return nil
		}, ``},
		{func() error { return rev(l.DeleteKey(l.Ctx, l.C, key.ID)) }, `admin:test key.delete key:KEY {}`},
		{func() error {
			key, secret = l.Key(store.KeyParams{Kind: store.Ephemeral, Tags: []wire.Tag{"ai", "more"}})
			return nil
		}, `admin:test key.create key:KEY {"automatic":true,"kind":"ephemeral","name":"","retention_seconds":1800,"tags":["ai","more"],"uses":null}`},
		{func() error {
			m := l.Params(secret, "run")
			m.Run = &store.RunParams{Tags: []wire.Tag{"ai"}, Life: time.Minute}
			sys, _, err := l.Enrol(l.Ctx, start, m)
			id = string(sys.ID)
			return err
		}, `key:KEY system.enrol system:ID {"approved":true,"expires_at":"2026-03-01T12:01:00Z","from":"192.0.2.7","key":"KEY","kind":"run","name":"run","tags":["ai"]}`},
		{func() error {
			key, relays = l.Key(store.KeyParams{Kind: store.RelayKey})
			id = string(key.ID)
			return nil
		},
			`admin:test key.create key:ID {"automatic":true,"kind":"relay","name":"","tags":[],"uses":null}`},
		{func() (err error) {
			p.Secret = relays
			relay, _, err = l.EnrolRelay(l.Ctx, start, p)
			return err
		}, `key:KEY relay.enrol relay:RELAY {"addr":"relay.example:443","key":"KEY","name":"relay"}`},
		{func() error {
			_, err := l.MoveRelay(l.Ctx, start, relay.ID, p.Identity, wire.RelayInfo{Addr: "b.example:443"})
			return err
		}, `relay:RELAY relay.move relay:RELAY {"addr":"b.example:443"}`},
		{func() error { _, _, err := l.EnrolRelay(l.Ctx, start, p); return err }, // again, from where it was
			`relay:RELAY relay.move relay:RELAY {"addr":"relay.example:443"}`},
		{func() error { return rev(l.DeleteRelay(l.Ctx, l.C, relay.ID)) }, `admin:test relay.delete relay:RELAY {}`},
		{func() error {
			tok, err := l.CreateToken(l.Ctx, l.C, store.TokenParams{Name: "ci", Scopes: []string{"read"}, ExpiresAt: start.Add(time.Hour), Secret: store.SecretHash{7}})
			id = tok.ID
			return err
		}, `admin:test token.create token:ID {"expires_at":"2026-03-01T13:00:00Z","name":"ci","scopes":["read"]}`},
		{func() error { return l.RevokeToken(l.Ctx, l.C, id) }, `admin:test token.revoke token:ID {}`},
		{func() error { _, _, err := l.PutRequirement(l.Ctx, l.C, office); return err },
			`admin:test requirement.set requirement:office {"id":"office","kind":"public-ip"}`},
		{func() error {
			return rev(l.SetTag(l.Ctx, l.C, "ops", store.TagSettings{Explicit: true, Trust: []string{"office"}}))
		},
			`admin:test tag.set tag:ops {"explicit":true,"trust":["office"]}`},
		{func() error {
			_, err := l.DeleteRequirement(l.Ctx, l.C, "office") // a tag asks for it
			l.want(err, store.ErrConflict)
			return nil
		}, ``},
		{func() error { return rev(l.RenameTag(l.Ctx, l.C, "ops", "crew")) }, `admin:test tag.rename tag:ops {"to":"crew"}`},
		{func() error { _, err := l.SetTag(l.Ctx, l.C, "crew", store.TagSettings{}); return err }, `admin:test tag.set tag:crew {"explicit":false}`},
		{func() error { return rev(l.DeleteRequirement(l.Ctx, l.C, "office")) }, `admin:test requirement.delete requirement:office {}`},
		{func() error {
			return rev(l.SetTests(l.Ctx, l.C, []wire.Assertion{{Name: "a", Proto: wire.Any}, {Name: "b", Proto: wire.Any}}))
		}, `admin:test tests.set tests {"tests":2}`},
		{func() error {
			a, err := l.ApplySet(l.Ctx, l.C, policies, start.Add(time.Minute))
			id = string(a.Created[0])
			return err
		}, `admin:test policyset.apply policyset {"changed":null,"created":["ID"],"removed":null,"tests":[""]}`},
		{func() error { return rev(l.Confirm(l.Ctx, l.C)) }, `admin:test policyset.confirm revision:ID {}`},
		{func() error { _, err := l.Confirm(l.Ctx, l.C); l.want(err, store.ErrNotFound); return nil }, ``},
		{func() error {
			a, err := l.Restore(l.Ctx, l.C, 1)
			id = string(a.Removed[0])
			return err
		}, `admin:test policyset.restore revision:1 {"changed":null,"created":null,"removed":["ID"]}`},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("step %d, %s: %v", i, step.want, err)
		}
		want := strings.NewReplacer("RELAY", string(relay.ID), "KEY", string(key.ID), "ID", id).Replace(step.want)
		if got := strings.Join(left(), "\n"); got != want {
			t.Errorf("step %d leaves %s\nwant %s", i, got, want)
		}
	}
}
