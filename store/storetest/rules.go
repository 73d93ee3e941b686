package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
)

func testKeys(t *testing.T, l *Lab) {
	k, secret := l.Key(store.KeyParams{Name: "ci", Kind: store.Ephemeral, Tags: []wire.Tag{"b", "a"}, Expires: store.End{At: start.Add(time.Hour)}})
	if k.Retention != store.DefaultRetention || !k.Automatic {
		t.Errorf("made %+v", k)
	}
	slices.Sort(k.Tags)
	if got := l.keys(); len(got) != 1 || !reflect.DeepEqual(got[0], k) {
		t.Errorf("read %+v, made %+v", got, k)
	}
	if got, err := l.FindKey(l.Ctx, "ci"); err != nil || got.ID != k.ID {
		t.Errorf("found %+v, %v", got, err)
	}
	_, err := l.CreateKey(l.Ctx, l.C, store.KeyParams{Secret: secret})
	l.want(err, store.ErrConflict)
	for name, p := range map[string]store.KeyParams{
		"no secret":           {},
		"no uses":             {Uses: ptr(0), Secret: store.SecretHash{9}},
		"ephemeral uses":      {Kind: store.Ephemeral, Uses: ptr(1), Secret: store.SecretHash{9}},
		"general retention":   {Retention: time.Hour, Secret: store.SecretHash{9}},
		"negative retention":  {Kind: store.Ephemeral, Retention: -1, Secret: store.SecretHash{9}},
		"past":                {Expires: store.End{At: start}, Secret: store.SecretHash{9}},
		"kind":                {Kind: "admin", Secret: store.SecretHash{9}},
		"tag":                 {Tags: []wire.Tag{"NO"}, Secret: store.SecretHash{9}},
		"sources":             {Sources: make([]string, store.MaxSources+1), Secret: store.SecretHash{9}},
		"name beyond measure": {Name: string(make([]byte, 999)), Secret: store.SecretHash{9}},
	} {
		if _, err := l.CreateKey(l.Ctx, l.C, p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, err = l.DeleteKey(l.Ctx, l.C, k.ID)
	l.must(err)
	_, err = l.DeleteKey(l.Ctx, l.C, k.ID)
	l.want(err, store.ErrNotFound)
	_, err = l.SetKeyEnabled(l.Ctx, l.C, k.ID, true)
	l.want(err, store.ErrNotFound)
}

func document(name string) wire.Policy {
	end := start.Add(time.Hour)
	return wire.Policy{Name: name, Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"dev"}, ReceiverTags: []wire.Tag{"pod", "dev"},
		ACLs:        []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}, {Lo: 8000, Hi: 8100}}}, {Proto: wire.Any}},
		ExpiresAt:   &end,
		ActiveHours: wire.Windows{{Zone: "Europe/London", Days: []string{}, Start: "22:00", End: "02:00"}},
		SenderTrust: []string{"mfa"}, Notes: "night shift"}
}

func testPolicies(t *testing.T, l *Lab) {
	doc := document("night")
	p, rev, err := l.CreatePolicy(l.Ctx, l.C, doc)
	l.must(err)
	doc.ID = p.ID
	want := store.Policy{Policy: doc, CreatedAt: start, UpdatedAt: start, EndsAt: *doc.ExpiresAt, Version: rev}
	if p.ID == "" || !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	doc.Notes, doc.ReceiverTags, doc.ID = "changed", []wire.Tag{"db"}, "ignored"
	_, err = l.UpdatePolicy(l.Ctx, l.at(time.Second), p.ID, doc)
	l.must(err)
	rev, err = l.SetPolicyEnabled(l.Ctx, l.at(time.Minute), p.ID, false)
	l.must(err)
	doc.ID, doc.Enabled = p.ID, false
	want = store.Policy{Policy: doc, CreatedAt: start, UpdatedAt: start.Add(time.Minute), EndsAt: *doc.ExpiresAt, Version: rev}
	if got, err := l.Store.Policy(l.Ctx, p.ID); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	second, _, err := l.CreatePolicy(l.Ctx, l.at(time.Hour), document("day"))
	l.must(err)
	if list, err := l.Policies(l.Ctx); err != nil || len(list) != 2 || list[0].ID != p.ID || list[1].ID != second.ID {
		t.Errorf("list %+v, %v", list, err)
	}
	if got, err := l.FindPolicy(l.Ctx, "day"); err != nil || got.ID != second.ID {
		t.Errorf("found %s, %v", got.ID, err)
	}
	_, _, err = l.CreatePolicy(l.Ctx, l.C, document("day"))
	l.want(err, store.ErrConflict)
	taken := document("night")
	_, err = l.UpdatePolicy(l.Ctx, l.C, second.ID, taken)
	l.want(err, store.ErrConflict)
	same := document("day") // its own name is no other's
	same.Notes = "again"
	_, err = l.UpdatePolicy(l.Ctx, l.C, second.ID, same)
	l.must(err)
	_, err = l.DeletePolicy(l.Ctx, l.C, p.ID)
	l.must(err)
	_, err = l.Store.Policy(l.Ctx, p.ID)
	l.want(err, store.ErrNotFound)
	_, err = l.UpdatePolicy(l.Ctx, l.C, p.ID, doc)
	l.want(err, store.ErrNotFound)
	_, err = l.DeletePolicy(l.Ctx, l.C, p.ID)
	l.want(err, store.ErrNotFound)
	_, _, err = l.CreatePolicy(l.Ctx, l.C, wire.Policy{SenderTags: []wire.Tag{"Bad"}})
	l.want(err, wire.ErrBadTag)
}

func testStale(t *testing.T, l *Lab) {
	p, seen, err := l.CreatePolicy(l.Ctx, l.C, document("night"))
	l.must(err)
	c := l.C
	c.IfMatch = seen
	next, err := l.UpdatePolicy(l.Ctx, c, p.ID, document("first"))
	l.must(err)
	rev, n := l.state()
	_, err = l.UpdatePolicy(l.Ctx, c, p.ID, document("second"))
	l.want(err, store.ErrStale)
	_, err = l.SetPolicyEnabled(l.Ctx, c, p.ID, false)
	l.want(err, store.ErrStale)
	_, err = l.DeletePolicy(l.Ctx, c, p.ID)
	l.want(err, store.ErrStale)
	if rev2, n2 := l.state(); rev2 != rev || n2 != n {
		t.Error("a stale change left traces")
	}
	if got, _ := l.Store.Policy(l.Ctx, p.ID); got.Name != "first" {
		t.Errorf("policy is %q", got.Name)
	}
	c.IfMatch = next
	_, err = l.DeletePolicy(l.Ctx, c, p.ID)
	l.must(err)
}

func (l *Lab) tags() map[wire.Tag]store.Tag {
	l.T.Helper()
	list, err := l.Tags(l.Ctx)
	l.must(err)
	m := make(map[wire.Tag]store.Tag)
	for _, t := range list {
		m[t.Name] = t
	}
	return m
}

func testTags(t *testing.T, l *Lab) {
	sys := l.System("box", "dev")
	l.System("mill", "dev")
	p, _, err := l.CreatePolicy(l.Ctx, l.C, document("night"))
	l.must(err)
	want := map[wire.Tag]store.Tag{
		"dev": {Name: "dev", Systems: 2, Keys: 2, Policies: 1}, // in both lists of one policy
		"pod": {Name: "pod", Policies: 1},
	}
	if got := l.tags(); !reflect.DeepEqual(got, want) {
		t.Errorf("tags %+v", got)
	}
	_, err = l.SetTag(l.Ctx, l.C, "pod", store.TagSettings{Trust: []string{"mfa", "disk"}, Notes: "kubernetes"})
	l.must(err)
	_, err = l.SetTag(l.Ctx, l.C, "new", store.TagSettings{Explicit: true})
	l.must(err)
	_, err = l.DeletePolicy(l.Ctx, l.C, p.ID)
	l.must(err)
	_, err = l.RemoveTags(l.Ctx, l.C, sys.ID, "dev")
	l.must(err)
	want = map[wire.Tag]store.Tag{
		"dev": {Name: "dev", Systems: 1, Keys: 2},
		"pod": {Name: "pod", Explicit: true, Notes: "kubernetes", Trust: []string{"disk", "mfa"}},
		"new": {Name: "new", Explicit: true},
	}
	if got := l.tags(); !reflect.DeepEqual(got, want) {
		t.Errorf("tags %+v", got)
	}
	for _, tag := range []wire.Tag{"pod", "new"} {
		_, err = l.SetTag(l.Ctx, l.C, tag, store.TagSettings{})
		l.must(err)
	}
	if got := l.tags(); len(got) != 1 {
		t.Errorf("tags %+v", got)
	}
	if trust, err := l.TagTrust(l.Ctx); err != nil || len(trust) != 0 {
		t.Errorf("trust %v, %v", trust, err)
	}
	_, err = l.SetTag(l.Ctx, l.C, "Bad", store.TagSettings{})
	l.want(err, wire.ErrBadTag)
}

func testTagRename(t *testing.T, l *Lab) {
	sys := l.System("box", "dev")
	other := l.System("mill", "pod")
	p, _, err := l.CreatePolicy(l.Ctx, l.C, document("night"))
	l.must(err)
	_, err = l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{Trust: []string{"mfa"}})
	l.must(err)
	_, err = l.RenameTag(l.Ctx, l.C, "dev", "pod")
	l.want(err, store.ErrConflict)
	_, err = l.RenameTag(l.Ctx, l.C, "nothing", "x")
	l.want(err, store.ErrNotFound)
	rev, err := l.RenameTag(l.Ctx, l.C, "dev", "engineer")
	l.must(err)
	if got := l.read(sys.ID); !slices.Equal(got.Tags, []wire.Tag{"engineer"}) || got.Version != rev {
		t.Errorf("system %v at %d", got.Tags, got.Version)
	}
	if got := l.read(other.ID); got.Version != other.Version {
		t.Error("a system without the tag changed")
	}
	got, err := l.Store.Policy(l.Ctx, p.ID)
	l.must(err)
	if !slices.Equal(got.SenderTags, []wire.Tag{"engineer"}) || !slices.Equal(got.ReceiverTags, []wire.Tag{"pod", "engineer"}) || got.Version != rev {
		t.Errorf("policy %v, %v at %d", got.SenderTags, got.ReceiverTags, got.Version)
	}
	want := store.Tag{Name: "engineer", Explicit: true, Trust: []string{"mfa"}, Systems: 1, Keys: 1, Policies: 1}
	if got := l.tags(); !reflect.DeepEqual(got["engineer"], want) || len(got) != 2 {
		t.Errorf("tags %+v", got)
	}
}

func testRelays(t *testing.T, l *Lab) {
	_, secret := l.Key(store.KeyParams{Kind: store.RelayKey, Uses: ptr(1)})
	p := store.EnrolRelayParams{Secret: secret, Name: "relay", Identity: wire.IdentityKey{1},
		Info: wire.RelayInfo{Addr: "relay.example:443", STUN: []string{"192.0.2.1:3478"}}}
	r, created, err := l.EnrolRelay(l.Ctx, start, p)
	l.must(err)
	chain := [][]byte{{0x30, 1, 7}}
	l.must(l.UpdateRelaySVID(l.Ctx, r.ID, chain))
	r.SVID = chain
	if list, err := l.Relays(l.Ctx); err != nil || !created || len(list) != 1 || !reflect.DeepEqual(list[0], r) || r.Addr != p.Info.Addr {
		t.Errorf("list %+v, %v; enrolled %+v", list, err, r)
	}
	rev, _ := l.state()
	again, created, err := l.EnrolRelay(l.Ctx, start, p)
	if l.must(err); created || again.ID != r.ID {
		t.Errorf("again %+v", again)
	}
	if now, _ := l.state(); now != rev {
		t.Error("enrolling again made a revision")
	}
	p.Info.Addr = "relay2.example:443"
	moved, _, err := l.EnrolRelay(l.Ctx, start, p)
	if l.must(err); moved.ID != r.ID || moved.Addr != p.Info.Addr {
		t.Errorf("moved %+v", moved)
	}
	if now, _ := l.state(); now != rev+1 {
		t.Error("a move made no revision")
	}
	info := wire.RelayInfo{Addr: "relay3.example:443", STUN: p.Info.STUN}
	if moves, err := l.MoveRelay(l.Ctx, start, r.ID, p.Identity, info); err != nil || !moves {
		t.Errorf("moves %v, %v", moves, err)
	}
	if moves, err := l.MoveRelay(l.Ctx, start, r.ID, p.Identity, info); err != nil || moves {
		t.Errorf("moves to where it is: %v, %v", moves, err)
	}
	if now, _ := l.state(); now != rev+2 {
		t.Errorf("two moves, of which one is none, made %d revisions", now-rev-1)
	}
	if got, err := l.RelayByIdentity(l.Ctx, p.Identity); err != nil || got.Addr != info.Addr {
		t.Errorf("moved to %+v, %v", got, err)
	}
	_, err = l.MoveRelay(l.Ctx, start, r.ID, wire.IdentityKey{9}, info)
	l.want(err, store.ErrNotFound)
	_, err = l.MoveRelay(l.Ctx, start, "nobody", p.Identity, info)
	l.want(err, store.ErrNotFound)
	p.Identity[0]++
	_, _, err = l.EnrolRelay(l.Ctx, start, p)
	l.want(err, store.ErrKeyUsedUp)
	if got, err := l.RelayByIdentity(l.Ctx, wire.IdentityKey{1}); err != nil || got.ID != r.ID {
		t.Errorf("by identity %+v, %v", got, err)
	}
	_, err = l.RelayByIdentity(l.Ctx, p.Identity)
	l.want(err, store.ErrNotFound)
	_, err = l.DeleteRelay(l.Ctx, l.C, r.ID)
	l.must(err)
	_, err = l.DeleteRelay(l.Ctx, l.C, r.ID)
	l.want(err, store.ErrNotFound)
	list, err := l.Audit(l.Ctx, store.AuditQuery{Object: "relay:" + string(r.ID)})
	l.must(err)
	var actions []string
	for _, a := range list {
		actions = append(actions, a.Action)
	}
	if !slices.Equal(actions, []string{"relay.enrol", "relay.move", "relay.move", "relay.delete"}) {
		t.Errorf("recorded %v", actions)
	}
	_, err = l.MoveRelay(l.Ctx, start, r.ID, wire.IdentityKey{1}, info)
	l.want(err, store.ErrNotFound)
}

func testTokens(t *testing.T, l *Lab) {
	secret := store.SecretHash{1}
	made, err := l.CreateToken(l.Ctx, l.C, store.TokenParams{Name: "ci", Scopes: []string{"system:read", "policy:write"}, ExpiresAt: start.Add(time.Hour), Secret: secret})
	l.must(err)
	got, err := l.Token(l.Ctx, secret, start.Add(time.Hour-1))
	l.must(err)
	if !reflect.DeepEqual(got, made) || !got.Allows("policy:write") || got.Allows("policy") {
		t.Errorf("got %+v", got)
	}
	_, err = l.Token(l.Ctx, secret, start.Add(time.Hour))
	l.want(err, store.ErrTokenExpired)
	_, err = l.Token(l.Ctx, store.SecretHash{2}, start)
	l.want(err, store.ErrNotFound)
	if list, err := l.Tokens(l.Ctx); err != nil || len(list) != 1 {
		t.Errorf("list %v, %v", list, err)
	}
	l.must(l.RevokeToken(l.Ctx, l.C, made.ID))
	l.want(l.RevokeToken(l.Ctx, l.C, made.ID), store.ErrNotFound)
	_, err = l.Token(l.Ctx, secret, start)
	l.want(err, store.ErrNotFound)
	for name, p := range map[string]store.TokenParams{
		"no scope":    {Secret: secret},
		"many scopes": {Secret: secret, Scopes: make([]string, 33)},
		"long name":   {Secret: secret, Scopes: []string{"read"}, Name: strings.Repeat("x", wire.MaxNameLen+1)},
		"no secret":   {Scopes: []string{"read"}},
		"ended":       {Secret: secret, Scopes: []string{"read"}, ExpiresAt: start},
	} {
		if _, err := l.CreateToken(l.Ctx, l.C, p); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	forever, err := l.CreateToken(l.Ctx, l.C, store.TokenParams{Scopes: []string{"read"}, Secret: store.SecretHash{3}})
	l.must(err)
	if got, err := l.Token(l.Ctx, store.SecretHash{3}, start.AddDate(100, 0, 0)); err != nil || got.ID != forever.ID {
		t.Errorf("without an end: %+v, %v", got, err)
	}
	list, err := l.Audit(l.Ctx, store.AuditQuery{Object: "token:" + made.ID})
	l.must(err)
	if len(list) != 2 || list[0].Action != "token.create" || list[1].Action != "token.revoke" {
		t.Errorf("recorded %+v", list)
	}
}

func testActivity(t *testing.T, l *Lab) {
	sys := l.System("box", "dev")
	_, err := l.Rename(l.Ctx, l.at(time.Second), sys.ID, "mill")
	l.must(err)
	l.must(l.Record(l.Ctx, l.C, "admin.login", "admin:test", map[string]string{"from": "192.0.2.1"}))
	list, err := l.Audit(l.Ctx, store.AuditQuery{})
	l.must(err)
	var actions []string
	for _, a := range list {
		actions = append(actions, a.Action)
	}
	if !slices.Equal(actions, []string{"organisation.create", "key.create", "system.enrol", "system.rename", "admin.login"}) {
		t.Errorf("actions %v", actions)
	}
	a := list[3]
	if a.Seq != 4 || a.Actor != "admin:test" || a.Object != "system:"+string(sys.ID) || a.Clear != `{"name":"mill"}` || !a.At.Equal(start.Add(time.Second)) ||
		a.Outcome != audit.Done || a.Subject != a.Object || strings.Contains(string(a.Detail), "mill") {
		t.Errorf("record %+v", a)
	}
	if page, err := l.Audit(l.Ctx, store.AuditQuery{After: 1, Limit: 2}); err != nil || len(page) != 2 || page[0].Seq != 2 {
		t.Errorf("page %+v, %v", page, err)
	}
	for want, q := range map[string]store.AuditQuery{
		"[4]":     {Object: "system:*", Action: "system.rename"},
		"[5 4]":   {Newest: true, Limit: 2},
		"[3]":     {Action: "system.*", Before: 4},
		"[1 2 5]": {Actor: "admin:test", Until: start.Add(time.Second), Outcome: audit.Done},
		"[]":      {Actor: "admin:tes"},
		"[4 ]":    {Since: start.Add(time.Second)},
	} {
		page, err := l.Audit(l.Ctx, q)
		l.must(err)
		got := []int64{}
		for _, a := range page {
			got = append(got, a.Seq)
		}
		if fmt.Sprint(got) != strings.Replace(want, " ]", "]", 1) {
			t.Errorf("%+v: %v, want %s", q, got, want)
		}
	}
	h, err := l.VerifyAudit(l.Ctx, nil)
	if err != nil || h.Checkpoint.Size != 5 || h.Last != list[4].Hash {
		t.Errorf("verified %+v, %v", h, err)
	}
	if c, err := audit.OpenCheckpoint(h.Note, h.Key); err != nil || c != h.Checkpoint {
		t.Errorf("checkpoint %+v, %v", c, err)
	}
	if again, err := l.AuditHead(l.Ctx); err != nil || again != h {
		t.Errorf("head %+v, %v", again, err)
	}
	proof, err := l.ProveRecord(l.Ctx, 4, 5)
	l.must(err)
	if err := tlog.CheckRecord(proof, 5, h.Checkpoint.Root, 3, audit.Leaf(a.Hash)); err != nil {
		t.Error(err)
	}
	old, err := l.AuditHeadAt(l.Ctx, 3)
	l.must(err)
	between, err := l.ProveConsistency(l.Ctx, 3, 5)
	l.must(err)
	if err := audit.Judge(old.Checkpoint, h.Checkpoint, between); err != nil {
		t.Error(err)
	}
	_, err = l.ProveRecord(l.Ctx, 6, 6)
	l.want(err, store.ErrNotFound)
}

func testRevisions(t *testing.T, l *Lab) {
	sys := l.System("box")
	rev, err := l.Rename(l.Ctx, l.at(time.Hour), sys.ID, "mill")
	l.must(err)
	if at, err := l.RevisionAt(l.Ctx, rev); err != nil || !at.Equal(start.Add(time.Hour)) {
		t.Errorf("revision %d was made at %s, %v", rev, at, err)
	}
	_, err = l.RevisionAt(l.Ctx, rev+1)
	l.want(err, store.ErrNotFound)
	_, _ = l.Key(store.KeyParams{})
	if now, _ := l.state(); now != rev {
		t.Error("a key made a revision")
	}
}

// testNothingInPart cancels and breaks changes: neither effect nor record remains.
func testNothingInPart(t *testing.T, l *Lab) {
	sys := l.System("box")
	rev, n := l.state()
	for name, c := range map[string]store.Change{"no actor": {At: start}, "no instant": {By: "x"}} {
		if _, err := l.Rename(l.Ctx, c, sys.ID, "mill"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// The detail cannot be written: the change that carries it must not happen.
	err := l.Record(l.Ctx, l.C, "x.y", "z", func() {})
	if err == nil {
		t.Error("recorded a function")
	}
	if rev2, n2 := l.state(); rev2 != rev || n2 != n || l.read(sys.ID).Name != "box" {
		t.Error("a broken change left traces")
	}
}

func testSnapshot(t *testing.T, l *Lab) {
	sys := l.System("box", "dev")
	_, _, err := l.CreatePolicy(l.Ctx, l.C, document("night"))
	l.must(err)
	rev, err := l.SetTag(l.Ctx, l.C, "dev", store.TagSettings{Trust: []string{"mfa"}})
	l.must(err)
	snap, err := l.Snapshot(l.Ctx)
	l.must(err)
	if snap.Revision != rev || len(snap.Systems) != 1 || snap.Systems[0].ID != sys.ID || len(snap.Policies) != 1 ||
		!reflect.DeepEqual(snap.TagTrust, map[wire.Tag][]string{"dev": {"mfa"}}) || len(snap.Relays) != 0 {
		t.Errorf("snapshot %+v", snap)
	}
}
