package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/store/audit"
)

// legacy makes the file of a release that had an activity log: n records, their chain
// whole but for the record spoilt.
func legacy(t *testing.T, n, spoilt int64) (dir string, last audit.Hash) {
	t.Helper()
	dir = stateDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := connect(nil, filepath.Join(dir, dbName), 1, "_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	do := func(q string, args ...any) {
		t.Helper()
		if _, err := db.Exec(q, args...); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"0001_initial.sql", "0002_policy_sets.sql"} {
		text, err := os.ReadFile("migrate/" + name)
		if err != nil {
			t.Fatal(err)
		}
		do(string(text))
	}
	do("PRAGMA user_version = 2")
	do(`INSERT INTO organisation VALUES ('org', 'lab', x'01', x'02', x'03', '100.64.0.0/10', 'fd00::/48', '{}', 7, 1, 1)`)
	for seq := int64(1); seq <= n; seq++ {
		r := audit.Record{Format: audit.Activity, Seq: seq, At: start, Actor: "admin:x", Action: "x.y", Object: "z", Revision: 7, Detail: []byte(`{"n":"ä"}`), Prev: last}
		last, _ = r.Sum("org", nil)
		if seq == spoilt {
			r.Actor = "admin:y"
		}
		do("INSERT INTO activity VALUES ('org', ?, ?, ?, 'x.y', 'z', 7, ?, ?, ?)", seq, start.UnixNano(), r.Actor, string(r.Detail), r.Prev[:], last[:])
	}
	return dir, last
}

// TestActivityIsAdopted opens a file of the time before the tree: its records keep their
// hashes, and the chain goes on behind them.
func TestActivityIsAdopted(t *testing.T) {
	ctx := t.Context()
	dir, last := legacy(t, 21, 0)
	for range 2 { // the second finds it done
		s, err := Open(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		h, err := s.VerifyAudit(ctx, nil)
		if err != nil || h.Checkpoint.Size != 22 {
			t.Fatalf("%+v, %v", h, err)
		}
		list, err := s.Audit(ctx, AuditQuery{After: 20})
		if err != nil || len(list) != 2 || list[0].Hash != last || list[1].Prev != last || list[0].Clear != `{"n":"ä"}` ||
			list[1].Action != "audit.adopt" || list[1].Clear != fmt.Sprintf(`{"hash":"%x","records":21}`, last) {
			t.Errorf("%+v, %v", list, err)
		}
		s.Close()
	}
	dir, _ = legacy(t, 5, 3)
	s, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.VerifyAudit(ctx, nil); !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "record 3 has been changed") {
		t.Errorf("got %v", err)
	}
	list, err := s.Audit(ctx, AuditQuery{After: 5})
	if err != nil || !strings.Contains(list[0].Clear, `"broken_at":3`) {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestVerifyNames spoils the tables behind the triggers' back.
func TestVerifyNames(t *testing.T) {
	for _, tc := range []struct{ query, want string }{
		{"UPDATE audit_records SET actor = 'x' WHERE seq = 3", "record 3 has been changed"},
		{"UPDATE audit_records SET detail = CAST(detail || x'00' AS BLOB) WHERE seq = 3", "record 3 has been changed"},
		{"DELETE FROM audit_records WHERE seq = 3", "record 3 is missing"},
		{"DELETE FROM audit_records WHERE seq >= 4", "record 4 is missing"},
		{"DELETE FROM audit_records WHERE seq <= 2", "record 1 is missing"},
		{"UPDATE audit_hashes SET hash = zeroblob(32) WHERE place = 0", "record 1 is not the one in the tree"},
		{"UPDATE audit_hashes SET hash = zeroblob(32) WHERE place = 2", "a node of the tree above record 2 has been changed"},
		{"DELETE FROM audit_hashes WHERE place >= 6", "the tree ends before record 5"},
		{"DELETE FROM audit_hashes WHERE place = 1", "hash 1 of the tree is missing"},
		{"UPDATE audit_records SET prev_hash = zeroblob(32) WHERE seq = 4", "record 4 has been changed"},
	} {
		s, ctx := made(t, stateDir(t), InitParams{}), t.Context()
		for range 5 {
			if err := s.Record(ctx, by(start), "x.y", "z", nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"audit_records_no_update", "audit_records_no_delete", "audit_hashes_no_update", "audit_hashes_no_delete"} {
			if _, err := s.write.Exec("DROP TRIGGER " + name); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.write.Exec(tc.query); err != nil {
			t.Fatal(err)
		}
		calls := 0
		if _, err := s.VerifyAudit(ctx, func(int64, int64) { calls++ }); !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.query, err)
		}
		s.Close()
	}
}

// TestGroupIsOneTransaction appends from many goroutines: each record is there once, the
// chain is whole, and no detail stands beside another's record.
func TestGroupIsOneTransaction(t *testing.T) {
	s, ctx := made(t, stateDir(t), InitParams{}), t.Context()
	const writers, each = 32, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.Record(ctx, by(start), "x.y", fmt.Sprintf("z:%d.%d", w, i), map[string]string{"is": fmt.Sprintf("z:%d.%d", w, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	h, err := s.VerifyAudit(ctx, nil)
	if err != nil || h.Checkpoint.Size != 1+writers*each {
		t.Fatalf("%+v, %v", h, err)
	}
	list, err := s.Audit(ctx, AuditQuery{Action: "x.y"})
	if err != nil || len(list) != writers*each {
		t.Fatal(len(list), err)
	}
	seen := make(map[string]bool)
	for _, e := range list {
		if e.Clear != `{"is":"`+e.Object+`"}` || seen[e.Object] {
			t.Errorf("record %d: %s, %s", e.Seq, e.Object, e.Clear)
		}
		seen[e.Object] = true
	}
	// One that cannot be written takes nobody with it.
	if err := s.Record(ctx, by(start), strings.Repeat("x", audit.MaxToken+1), "z", nil); !errors.Is(err, audit.ErrRecord) {
		t.Errorf("got %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Record(cancelled, by(start), "x.y", "z", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.Close()
	if err := s.Record(ctx, by(start), "x.y", "z", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestErase destroys a subject's key: its details are gone, the proofs stay.
func TestErase(t *testing.T) {
	s, ctx := made(t, stateDir(t), InitParams{}), t.Context()
	for _, object := range []string{"system:aaaaa", "system:bbbbb", "system:aaaaa"} {
		if err := s.Record(ctx, by(start), "x.y", object, map[string]string{"private": object}); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.AuditHead(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Erase(ctx, by(start.Add(time.Hour)), "system:aaaaa")
	if err != nil || e.Keys != 1 || e.Records != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	list, err := s.Audit(ctx, AuditQuery{After: 1})
	if err != nil || !list[0].Erased || list[0].Clear != "" || list[1].Erased || list[1].Clear == "" || !list[2].Erased ||
		list[3].Action != "audit.erase" || list[3].Clear != `{"keys":1,"records":2}` {
		t.Errorf("%+v, %v", list, err)
	}
	after, err := s.VerifyAudit(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := s.ProveConsistency(ctx, before.Checkpoint.Size, after.Checkpoint.Size)
	if err != nil || audit.Judge(before.Checkpoint, after.Checkpoint, proof) != nil {
		t.Error("the log after the erasure does not continue the one before", err)
	}
	if _, err := s.Erase(ctx, by(start), "system:aaaaa"); !errors.Is(err, ErrNotFound) {
		t.Errorf("erased twice: %v", err)
	}
	if err := s.Record(ctx, by(start), "x.y", "system:aaaaa", map[string]string{"it": "came again"}); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Audit(ctx, AuditQuery{Newest: true, Limit: 1}); err != nil || list[0].Clear != `{"it":"came again"}` {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := s.write.Exec("UPDATE audit_subjects SET secret = x'01', erased_at = NULL WHERE erased_at IS NOT NULL"); err == nil {
		t.Error("an erased key came back")
	}
}

// export is the trail as a file, and what the verifier says of it.
func export(t *testing.T, s *Store, q ExportQuery) ([]byte, audit.Header, audit.Report) {
	t.Helper()
	var b bytes.Buffer
	h, err := s.ExportAudit(t.Context(), &b, q)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), h, verifyFiles(t, h.Key, b.Bytes())
}

func verifyFiles(t *testing.T, key string, files ...[]byte) audit.Report {
	t.Helper()
	v, err := audit.NewVerifier(key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := v.File(bytes.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	return v.Report()
}

// TestArchive takes records out in two segments: the files and what is left make one
// trail, alone and together.
func TestArchive(t *testing.T) {
	s, ctx := made(t, stateDir(t), InitParams{}), t.Context()
	for i := range 600 {
		if err := s.Record(ctx, by(start.Add(time.Duration(i)*time.Minute)), "x.y", "system:aaaaa", map[string]int{"i": i}); err != nil {
			t.Fatal(err)
		}
	}
	old, err := s.AuditHead(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, before := range []time.Duration{100 * time.Minute, 400 * time.Minute} {
		file, h, r := export(t, s, ExportQuery{Before: start.Add(before)})
		if r.Finding != nil || r.Last != int64(before/time.Minute)+1 {
			t.Fatalf("%+v", r)
		}
		files = append(files, file)
		list, err := s.Audit(ctx, AuditQuery{After: h.Last - 1, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		a := Archived{Last: h.Last, LastHash: list[0].Hash, FileHash: sha256.Sum256(file)}
		wrong := a
		wrong.LastHash[0]++
		if _, err := s.Archive(ctx, by(start), wrong); !errors.Is(err, ErrNotExported) {
			t.Errorf("archived unread: %v", err)
		}
		seg, err := s.Archive(ctx, by(start), a)
		if err != nil || seg.Last != h.Last {
			t.Fatalf("%+v, %v", seg, err)
		}
		if _, err := s.Archive(ctx, by(start), a); !errors.Is(err, ErrConflict) {
			t.Errorf("archived twice: %v", err)
		}
	}
	if list, err := s.Segments(ctx); err != nil || len(list) != 2 || list[0].Last+1 != list[1].First || !list[0].FirstAt.Equal(start) {
		t.Errorf("%+v, %v", list, err)
	}
	head, err := s.VerifyAudit(ctx, nil)
	if err != nil || head.Checkpoint.Size != 603 {
		t.Fatalf("%+v, %v", head, err)
	}
	rest, h, r := export(t, s, ExportQuery{})
	if r.Finding != nil || h.First != 402 || r.Records != 202 {
		t.Errorf("the rest alone: %+v", r)
	}
	if r := verifyFiles(t, h.Key, append(files, rest)...); r.Finding != nil || r.First != 1 || r.Records != 603 || r.Sealed != 0 {
		t.Errorf("all files: %+v", r)
	}
	proof, err := s.ProveConsistency(ctx, old.Checkpoint.Size, 603)
	if err != nil || audit.Judge(old.Checkpoint, head.Checkpoint, proof) != nil {
		t.Error("not the log of before", err)
	}
	if _, err := s.ProveRecord(ctx, 3, 603); err != nil { // of an archived record
		t.Error(err)
	}
	if n, err := s.LastRecord(ctx); n != 603 || err != nil {
		t.Error(n, err)
	}
	// What was erased stays sealed in exports, and proven.
	if _, err := s.Erase(ctx, by(start), "system:aaaaa"); err != nil {
		t.Fatal(err)
	}
	if _, _, r := export(t, s, ExportQuery{}); r.Finding != nil || r.Sealed != 200 {
		t.Errorf("%+v", r)
	}
	if b, _, r := export(t, s, ExportQuery{Sealed: true}); r.Finding != nil || r.Sealed != r.Records || bytes.Contains(b, []byte("file_sha256")) {
		t.Errorf("%+v", r)
	}
	for _, q := range []string{"UPDATE audit_segments SET last = 500", "DELETE FROM audit_segments", "DELETE FROM audit_records WHERE seq = 450"} {
		if _, err := s.write.Exec(q); err == nil {
			t.Errorf("accepted: %s", q)
		}
	}
}

// TestNoSecretInDetails pastes secrets where people do.
func TestNoSecretInDetails(t *testing.T) {
	s, ctx := made(t, stateDir(t), InitParams{}), t.Context()
	for _, secret := range []string{"enctok_0123456789abcdefghjkmnpqrstvwxyz01234567", "0dz4e-k3j9x-7q2m5-ab1cd-xyz12", "AGE-SECRET-KEY-PQ-1QQQQQQQQQQQQ"} {
		c := by(start)
		c.Reason = "login with " + secret + " works"
		if err := s.Record(ctx, c, "x.y", "z", map[string]string{"note": secret}); err != nil {
			t.Fatal(err)
		}
		list, err := s.Audit(ctx, AuditQuery{Newest: true, Limit: 1})
		if err != nil || strings.Contains(list[0].Clear, secret[8:]) || !strings.Contains(list[0].Clear, "[a secret was here]") {
			t.Errorf("%s, %v", list[0].Clear, err)
		}
	}
	// What is no secret stays.
	c := by(start)
	c.Reason = "2026-03-01-to-2026-03-02 a-b-c-d-e-f"
	if err := s.Record(ctx, c, "x.y", "z", nil); err != nil {
		t.Fatal(err)
	}
	if list, _ := s.Audit(ctx, AuditQuery{Newest: true, Limit: 1}); !strings.Contains(list[0].Clear, c.Reason) {
		t.Error(list[0].Clear)
	}
	// A detail beyond measure leaves its hash.
	if err := s.Record(ctx, by(start), "x.y", "z", strings.Repeat("x", audit.MaxDetail)); err != nil {
		t.Fatal(err)
	}
	if list, _ := s.Audit(ctx, AuditQuery{Newest: true, Limit: 1}); !strings.HasPrefix(list[0].Clear, `{"omitted_bytes":65538`) {
		t.Error(list[0].Clear)
	}
}
