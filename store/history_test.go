package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enclave/store/migrate"
	"enclave/wire"
)

func policyDoc(name string) wire.Policy {
	return wire.Policy{Name: name, Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"}, ReceiverTags: []wire.Tag{"b"}, ACLs: []wire.ACL{{Proto: wire.Any}}}
}

// TestHistoryBeginsAtTheUpgrade makes a file as the first release wrote it.
func TestHistoryBeginsAtTheUpgrade(t *testing.T) {
	dir := stateDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := connect(nil, filepath.Join(dir, dbName), 1, "_txlock=immediate") // in clear, as it was then
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile("migrate/0001_initial.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{string(first), "PRAGMA user_version = 1",
		`INSERT INTO organisation VALUES ('org', 'lab', x'01', x'02', x'03', '100.64.0.0/10', 'fd00::/48', '{}', 7, 1)`,
		`INSERT INTO policies VALUES ('org', 'p1', 'night', 'direct', 1, NULL, '{"id":"p1","name":"night","type":"direct","enabled":true,"sender_tags":["a"],"acls":[]}', 1, 1, 5)`,
		`INSERT INTO tags VALUES ('org', 'a', ''); INSERT INTO tag_trust VALUES ('org', 'a', 'mfa'), ('org', 'a', 'disk')`,
		`INSERT INTO activity VALUES ('org', 1, 10, 'admin:x', 'policy.create', 'policy:p1', 5, '{}', zeroblob(32), zeroblob(32))`,
		`INSERT INTO activity VALUES ('org', 2, 20, 'admin:y', 'key.create', 'key:k', 5, '{}', zeroblob(32), zeroblob(32))`,
		`INSERT INTO activity VALUES ('org', 3, 30, 'admin:z', 'tag.set', 'tag:a', 7, '{}', zeroblob(32), zeroblob(32))`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set, rev, err := s.PolicySet(t.Context())
	if err != nil || rev != 7 || len(set.Policies) != 1 || set.Policies[0].Name != "night" || len(set.Tags) != 1 || fmt.Sprint(set.Tags[0].Trust) != "[disk mfa]" {
		t.Errorf("set %+v at %d, %v", set, rev, err)
	}
	if _, err := s.PolicySetAt(t.Context(), 6); err == nil {
		t.Error("a set from before the history")
	}
	list, err := s.Revisions(t.Context(), RevisionQuery{})
	if err != nil || len(list) != 2 || list[0].Actor != "admin:z" || list[1].Action != "policy.create" || list[1].At.UnixNano() != 10 {
		t.Errorf("revisions %+v, %v", list, err)
	}
	if migrate.Latest() < 2 {
		t.Error("no migration")
	}
}

// TestRevertAfterACrash stops the process between a change and its deadline.
func TestRevertAfterACrash(t *testing.T) {
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	ctx := context.Background()
	p, base, err := s.CreatePolicy(ctx, by(start), policyDoc("a"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := start.Add(time.Minute)
	if _, err := s.ApplySet(ctx, by(start), wire.PolicySet{}, deadline); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err = Open(ctx, dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wait, ok, err := s.Pending(ctx)
	if err != nil || !ok || wait.Base != base || !wait.Deadline.Equal(deadline) {
		t.Fatalf("pending %+v, %v", wait, err)
	}
	a, done, err := s.Revert(ctx, Change{By: ConfirmWithin, At: deadline})
	if err != nil || !done || len(a.Created) != 1 || a.Created[0] != p.ID {
		t.Fatalf("reverted %+v, %v", a, err)
	}
	if e, err := s.FindRevision(ctx, a.Revision); err != nil || e.Actor != ConfirmWithin || e.Action != "policyset.revert" {
		t.Errorf("entry %+v, %v", e, err)
	}
	if h, err := s.VerifyAudit(ctx, nil); err != nil || h.Checkpoint.Size == 0 {
		t.Errorf("activity: %v", err)
	}
}

// TestBrokenDocumentsStopNobody spoils what is stored, as another version might.
func TestBrokenDocumentsStopNobody(t *testing.T) {
	s := made(t, stateDir(t), InitParams{})
	ctx := context.Background()
	good, _, err := s.CreatePolicy(ctx, by(start), policyDoc("good"))
	if err != nil {
		t.Fatal(err)
	}
	bad, _, err := s.CreatePolicy(ctx, by(start), policyDoc("bad"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutRequirement(ctx, by(start), wire.Requirement{ID: "mfa", Kind: wire.PublicIP}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`UPDATE policies SET document = '{"type":7}' WHERE name = 'bad'`,
		`UPDATE requirements SET document = '[]'`,
		`INSERT INTO policy_tests SELECT org_id, 'x', 1 FROM organisation`,
	} {
		if _, err := s.write.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := s.Snapshot(ctx)
	if err != nil || len(snap.Policies) != 2 || len(snap.Requirements) != 1 || snap.Requirements[0].Broken == "" || snap.TestsBroken == "" {
		t.Fatalf("snapshot %+v, %v", snap, err)
	}
	p, err := s.FindPolicy(ctx, "bad")
	if err != nil || p.ID != bad.ID || p.Broken == "" || !p.Enabled || p.Name != "bad" {
		t.Errorf("policy %+v, %v", p, err)
	}
	if p, err := s.Policy(ctx, good.ID); err != nil || p.Broken != "" {
		t.Errorf("policy %+v, %v", p, err)
	}
	if _, err := s.SetPolicyEnabled(ctx, by(start), bad.ID, false); err == nil {
		t.Error("a change to a document that cannot be read")
	}
	if _, err := s.RenameTag(ctx, by(start), "a", "c"); err == nil {
		t.Error("a rename that leaves a policy behind")
	}
	if _, err := s.write.Exec(`INSERT INTO set_versions SELECT org_id, 'policy', id, revision + 1, '7' FROM organisation JOIN policies USING (org_id) WHERE policies.name = 'bad';
		UPDATE organisation SET revision = revision + 1`); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PolicySet(ctx); !errors.Is(err, ErrConflict) {
		t.Errorf("a set with a part that cannot be read: %v", err)
	}
	list, err := s.PolicyVersions(ctx, bad.ID, 10)
	if err != nil || len(list) != 2 || len(list[0].Document) == 0 {
		t.Errorf("versions %+v, %v", list, err)
	}
	if _, err := s.write.Exec(`UPDATE policy_tests SET document = '[]'`); err != nil {
		t.Fatal(err)
	}
	// What stands beside the unreadable document is no document: the same is written.
	same := wire.Policy{ID: bad.ID, Name: "bad", Kind: wire.Direct, Enabled: true}
	if a, err := s.ApplySet(ctx, by(start), wire.PolicySet{Policies: []wire.Policy{good.Policy, same}, Requirements: []wire.Requirement{{ID: "mfa", Kind: wire.PublicIP}}}, time.Time{}); err != nil || len(a.Changed) != 1 {
		t.Errorf("applied %+v, %v", a, err)
	}
	if p, err := s.Policy(ctx, bad.ID); err != nil || p.Broken != "" {
		t.Errorf("policy %+v, %v", p, err)
	}
	if _, err := s.UpdatePolicy(ctx, by(start), bad.ID, policyDoc("mended")); err != nil {
		t.Error(err)
	}
	if _, err := s.DeletePolicy(ctx, by(start), bad.ID); err != nil {
		t.Error(err)
	}
	if list, err := s.PolicyVersions(ctx, bad.ID, 2); err != nil || len(list) != 2 || list[0].Document != nil {
		t.Errorf("versions %+v, %v", list, err)
	}
}
