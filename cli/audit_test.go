package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enclave/sandbox/tools"
	"enclave/store/audit"
	"enclave/store/seal"
	"enclave/wire/api"
)

// TestAuditOffline exports, goes to another machine with the file and the key alone, and
// verifies there; then does to the file what an attacker would.
func TestAuditOffline(t *testing.T) {
	s := newSite(t, nil)
	for _, name := range []string{"one", "two", "three"} {
		s.ok("key", "create", "--name", name)
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	key := strings.TrimSpace(s.ok("audit", "key"))
	s.ok("audit", "checkpoint", "--out", at("old"))
	s.ok("key", "create", "--name", "four")
	s.ok("audit", "export", "--out", at("trail"))
	s.ok("audit", "prove", "3", "--output", at("proof")) // as it was spelt before
	if r := s.refused(exitUsage, "audit", "verify", at("trail")); !strings.Contains(r.Message, "vouch") {
		t.Errorf("without a key: %+v", r)
	}
	if r := s.refused(exitUsage, "audit", "verify", at("trail"), "--key", at("old")); !strings.Contains(r.Hint, "--key-file") {
		t.Errorf("a file as the key: %+v", r)
	}

	far := newShell(t) // no server, no state
	out := far.ok("audit", "verify", at("trail"), "--key", key, "--checkpoint", at("old"))
	if !strings.Contains(out, "verified: records 1 to ") || !strings.Contains(out, "the same history") {
		t.Error(out)
	}
	if out := far.ok("audit", "verify", at("proof"), "--key", key); !strings.Contains(out, "proven: record 3 of ") {
		t.Error(out)
	}
	whole, err := os.ReadFile(at("trail"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, tc := range map[string]struct{ file, code, says string }{
		"changed":    {strings.Replace(string(whole), `"name":"two"`, `"name":"tow"`, 1), "audit_changed", "record "},
		"missing":    {strings.Join(append(append([]string{}, lines[:3]...), lines[4:]...), ""), "audit_missing", "record 3 is missing"},
		"reordered":  {lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), "audit_reordered", "record 1 "},
		"duplicated": {lines[0] + lines[1] + lines[1] + strings.Join(lines[2:], ""), "audit_duplicated", "record 1 "},
		"truncated":  {strings.Join(lines[:4], ""), "audit_truncated", "after record 3"},
	} {
		if err := os.WriteFile(at("bad"), []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := far.refused(exitDamaged, "audit", "verify", at("bad"), "--key", key); r.Code != tc.code || !strings.Contains(r.Message, tc.says) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := far.refused(exitUsage, "audit", "verify", at("old"), "--key", key); r.Code != "not_an_export" {
		t.Errorf("%+v", r)
	}
	// What the server has, checked here.
	if out := s.ok("audit", "verify", "--checkpoint", at("old")); !strings.Contains(out, "the same history") {
		t.Error(out)
	}
	// Segments, encrypted; then the details of somebody are erased.
	id, text, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("identity"), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.ok("audit", "archive", "--before", "0s", "--out", at("segment"), "--to", id.Recipient.String(), "--dry-run"); !strings.Contains(out, "would archive") {
		t.Error(out)
	}
	s.ok("audit", "archive", "--before", "0s", "--out", at("segment"), "--to", id.Recipient.String())
	if _, err := os.Stat(at("segment.part")); err == nil {
		t.Error("the part in clear is still there")
	}
	s.ok("audit", "erase", "token:first administrator", "--reason", "asked for")
	s.ok("audit", "export", "--out", at("rest"))
	out = far.ok("audit", "verify", at("segment"), at("rest"), "--key", key, "--identity", at("identity"), "--checkpoint", at("old"))
	if !strings.Contains(out, "verified: records 1 to ") || !strings.Contains(out, "the same history") || !strings.Contains(out, "sealed or erased") {
		t.Error(out)
	}
	far.refused(exitDamaged, "audit", "verify", at("rest"), at("rest"), "--key", key)
	var list []api.AuditRecord
	if err := json.Unmarshal([]byte(s.ok("audit", "list", "--json", "--action", "audit.*", "--since", "1h")), &list); err != nil || len(list) < 4 ||
		list[len(list)-1].Action != "audit.export" {
		t.Errorf("%+v, %v", list, err)
	}
	if out := s.ok("audit", "list", "--action", "key.create"); strings.Count(out, "\n") != 1 { // the heading: they are archived
		t.Error(out)
	}
	if out := s.ok("audit", "segments"); strings.Count(out, "\n") != 2 {
		t.Error(out)
	}
	var report audit.Report
	if err := json.Unmarshal([]byte(far.ok("audit", "verify", at("rest"), "--key", key, "--json")), &report); err != nil || report.First < 5 || report.Sealed == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestAuditTail follows until it is interrupted.
func TestAuditTail(t *testing.T) {
	s := newSite(t, nil)
	app := &app{Streams: Streams{Getenv: func(k string) string { return s.env[k] }}}
	cl, err := app.client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- cl.FollowAudit(ctx, nil, 0, func(r *api.AuditRecord) error {
			seen <- r.Action
			return nil
		})
	}()
	if a := <-seen; a != "organisation.create" {
		t.Error(a)
	}
	s.ok("key", "create", "--name", "new")
	for created := 0; created < 2; { // one was made with the organisation
		if <-seen == "key.create" {
			created++
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTheFileOfASandboxIsVerified makes one, then does to the file what an
// attacker would.
func TestTheFileOfASandboxIsVerified(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	a, err := tools.OpenAuditFile(t.Context(), at("runs"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s.says(s.ok("audit", "verify", at("runs")), "verified: 0 records")
	for i := range 4 {
		if err := a.Append(t.Context(), tools.Record{At: time.Unix(int64(i), 0), Action: "run.start", Run: "run-1"}); err != nil {
			t.Fatal(err)
		}
	}
	var rep tools.AuditReport
	if err := json.Unmarshal([]byte(s.ok("audit", "verify", at("runs"), "--json")), &rep); err != nil || rep.Records != 4 || len(rep.Head) != 64 {
		t.Fatalf("%+v, %v", rep, err)
	}
	s.says(s.ok("audit", "verify", at("runs"), "--head", strings.ToUpper(rep.Head)), "verified: 4 records", "still there", rep.Head)
	text, _ := os.ReadFile(at("runs"))
	lines := strings.SplitAfter(string(text), "\n")
	for name, c := range map[string]struct {
		file, head, code string
		seq              int64
	}{
		"changed":   {lines[0] + strings.Replace(lines[1], "run-1", "run-2", 1) + lines[2] + lines[3], "", "audit_changed", 2},
		"missing":   {lines[0] + lines[2] + lines[3], "", "audit_changed", 1},
		"torn":      {string(text[:len(text)-4]), "", "audit_truncated", 4},
		"cut off":   {lines[0] + lines[1], rep.Head, "audit_truncated", 3},
		"made anew": {strings.Replace(lines[0], "run-1", "run-9", 1), rep.Head, "audit_truncated", 2},
	} {
		if err := os.WriteFile(at("bad"), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"audit", "verify", at("bad")}
		if c.head != "" {
			args = append(args, "--head", c.head)
		}
		if r := s.refused(exitDamaged, args...); r.Code != c.code || r.Finding == nil || r.Finding.Seq != c.seq {
			t.Errorf("%s: %+v %+v", name, r, r.Finding)
		}
	}
	// Who asks for a signature is not put off with a chain that anybody can make.
	if r := s.refused(exitUsage, "audit", "verify", at("runs"), "--key", "enclave/x+1+AA"); !strings.Contains(r.Message, "signed") {
		t.Errorf("%+v", r)
	}
	s.refused(exitUsage, "audit", "verify", at("runs"), at("runs"))
	s.refused(exitUsage, "audit", "verify", "--head", rep.Head)
	s.refused(exitUsage, "audit", "verify", at("none"))
}
