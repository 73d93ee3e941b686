package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/store/audit"
	"enclave/wire/api"
)

func (w *world) lastRecord() int64 {
	w.t.Helper()
	n, err := w.store.LastRecord(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// recorded is what each operation leaves in the trail: action, object, and a part of the
// detail by which somebody who reads it later knows what was done.
func recorded() map[string][3]string {
	return map[string][3]string{
		"audit-archive":      {"audit.archive", "records:1-10", `"file_sha256":"`},
		"audit-erase":        {"audit.erase", "subject:system:*", `"reason":"asked","keys":1`},
		"audit-export":       {"audit.export", "audit", `"sealed":false`},
		"backup-create":      {"backup.create", "state", `"recipients":1`},
		"flow-cut":           {"flow.cut", "system:*", `"named":[{"flow":"tcp `},
		"key-create":         {"key.create", "key:*", `"automatic":false`},
		"key-delete":         {"key.delete", "key:*"},
		"key-disable":        {"key.disable", "key:*"},
		"key-enable":         {"key.enable", "key:*"},
		"policy-create":      {"policy.create", "policy:*", `"receiver_tags":["pods"]`},
		"policy-delete":      {"policy.delete", "policy:*"},
		"policy-disable":     {"policy.disable", "policy:*"},
		"policy-enable":      {"policy.enable", "policy:*"},
		"policy-update":      {"policy.update", "policy:*", `"receiver_tags":["pods"]`},
		"policyset-apply":    {"policyset.apply", "policyset", `"created":["`},
		"policyset-confirm":  {"policyset.confirm", "revision:*"},
		"record-create":      {"record.create", "record:[*].corp.example", `"tags":["devs"]`},
		"record-delete":      {"record.delete", "record:[*].corp.example"},
		"record-update":      {"record.update", "record:[*].corp.example", `"systems":["`},
		"relay-delete":       {"relay.delete", "relay:*"},
		"requirement-delete": {"requirement.delete", "requirement:office"},
		"requirement-set":    {"requirement.set", "requirement:office", `"range":"192.0.2.0/24"`},
		"revision-restore":   {"policyset.restore", "revision:1", `"reason":"because","changed":null,"created":null,"removed":["`},
		"seal-add":           {"seal.recipients", "state", `"added":"age1`},
		"seal-remove":        {"seal.recipients", "state", `"removed":"age1`},
		"seal-rotate":        {"seal.rotate", "state", `"root":`},
		"system-add":         {"system.add", "system:*", `"system":"`},
		"system-approve":     {"system.approve", "system:*"},
		"system-delete":      {"system.delete", "system:*"},
		"system-disable":     {"system.disable", "system:*"},
		"system-enable":      {"system.enable", "system:*"},
		"system-revoke":      {"system.revoke", "system:*"},
		"system-routes":      {"system.route", "system:*", `"subnet":"192.168.9.0/24"`},
		"system-tags":        {"system.tag", "system:*", `{"add":["pods","x"]}},{"action":"system.tag","detail":{"remove":["y"]}}`},
		"system-trust":       {"system.trust", "system:*", `"mark":"`},
		"system-unadd":       {"system.unadd", "system:*", `"system":"`},
		"system-untrust":     {"system.trust", "system:*", `"unmark":"disk"`},
		"system-update":      {"system.[ue]*", "system:*", `"at":"`}, // of its parts, or the only one
		"tag-rename":         {"tag.rename", "tag:x", `"to":"z"`},
		"tag-set":            {"tag.set", "tag:pods", `"trust":["mfa"]`},
		"tests-set":          {"tests.set", "tests", `"tests":1`},
		"token-create":       {"token.create", "token:*", `Z","name":"spare","scopes":["read"]`}, // behind its end
		"token-revoke":       {"token.revoke", "token:*"},
		"zone-create":        {"zone.create", "zone:corp.example", `"name":"corp.example"`},
		"zone-delete":        {"zone.delete", "zone:corp.example"},
		"zone-update":        {"zone.update", "zone:corp.example", `"auto_tags":["devs"]`},
	}
}

// wantOneRecord fails unless exactly one record was written after before, of this request
// and saying what the operation did. It returns its object.
func (w *world) wantOneRecord(op string, before int64, request string) (object string) {
	w.t.Helper()
	list, err := w.store.Audit(w.t.Context(), store.AuditQuery{After: before})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(list) != 1 || list[0].Request != request || request == "" || list[0].Actor != "token:root" || list[0].Outcome != audit.Done {
		w.t.Errorf("%s leaves %d records, the first %+v; the request is %q", op, len(list), list, request)
		return ""
	}
	e, want := list[0], recorded()[op]
	action, _ := path.Match(want[0], e.Action)
	about, _ := path.Match(want[1], e.Object)
	if !action || !about || !strings.Contains(e.Clear, want[2]) {
		w.t.Errorf("%s leaves the record %s %s %s, want %s", op, e.Action, e.Object, e.Clear, want)
	}
	return e.Object
}

// refusesUnrecorded makes a change while no record can be written: it must not happen.
func (w *world) refusesUnrecorded(method, path string, in any) {
	w.t.Helper()
	before, err := w.store.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	n := w.lastRecord()
	w.full.Store(true)
	defer w.full.Store(false)
	if _, p := w.tryAPI(method, path, in, nil); p == nil {
		w.t.Errorf("%s %s is done without a record", method, path)
	}
	after, err := w.store.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	was, _ := json.Marshal(before)
	is, _ := json.Marshal(after)
	if len(was) < 100 || !bytes.Equal(was, is) || w.lastRecord() != n {
		w.t.Errorf("%s %s has changed something without a record", method, path)
	}
}

// TestRefusalsAreRecorded asks for what nobody may have.
func TestRefusalsAreRecorded(t *testing.T) {
	w := newWorld(t)
	url := "https://" + w.addr + admin.Prefix
	w.tryAPI("GET", "/whoami", nil, nil) // makes the client
	last := func() store.Entry {
		t.Helper()
		list, err := w.store.Audit(t.Context(), store.AuditQuery{Newest: true, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	reader := w.tokenWith("read")
	bearer := func(token admin.Token) http.Header { return http.Header{"Authorization": {"Bearer " + string(token)}} }
	resp, p := do(t, w.calls, "POST", url+"/keys", bearer(reader), nil, nil)
	e := last()
	if p == nil || e.Action != "api.deny" || e.Actor != "token:t" || e.Object != "api:key-create" || e.Outcome != audit.Denied ||
		e.Request != resp.Header.Get(admin.RequestHeader) || !strings.Contains(e.Clear, `"needs":"keys"`) || !strings.Contains(e.Clear, `"from":"127.0.0.1"`) {
		t.Errorf("a scope that is missing: %+v", e)
	}
	wrong := admin.NewToken()
	if _, p := do(t, w.calls, "GET", url+"/systems", bearer(wrong), nil, nil); p == nil {
		t.Fatal("a wrong token")
	}
	if e := last(); e.Action != "auth.deny" || e.Actor != "stranger:127.0.0.1" || e.Subject != "stranger" || strings.Contains(e.Clear, string(wrong)) {
		t.Errorf("a wrong token: %+v", e)
	}
	n := w.lastRecord()
	do(t, w.calls, "GET", url+"/systems", nil, nil, nil)
	if w.lastRecord() != n {
		t.Error("no token is no refusal")
	}
	m := w.machine()
	if _, p := m.tryEnrol(m.request("00000-00000-00000-00000-00000", "evil")); p == nil {
		t.Fatal("enrolled")
	}
	if e := last(); e.Action != "enrol.deny" || e.Outcome != audit.Denied || !strings.Contains(e.Clear, `"code":"key_unknown"`) || !strings.Contains(e.Clear, `"name":"evil"`) {
		t.Errorf("a wrong key: %+v", e)
	}
	if _, err := w.store.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// fetch reads an answer that is no JSON document.
func (w *world) fetch(path string) ([]byte, *http.Response) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", "https://"+w.addr+admin.Prefix+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+string(w.token))
	resp, err := w.client(nil).Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return b, resp
}

// TestArchiveOverTheAPI exports, archives what it has, and verifies both files together.
func TestArchiveOverTheAPI(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.key(api.KeyCreate{Name: fmt.Sprint(i)})
	}
	var c api.AuditCheckpoint
	w.api("GET", "/audit/checkpoint", nil, &c)
	n := w.lastRecord()
	first, _ := w.fetch("/audit/export?last=10")
	w.wantOneRecord("audit-export", n, w.list1(n).Request)
	line := bytes.Split(bytes.TrimSpace(first), []byte("\n"))[10]
	var l audit.Line
	if err := audit.ParseLine(line, &l); err != nil {
		t.Fatal(err)
	}
	in := api.AuditArchive{Last: 10, LastHash: fmt.Sprintf("%x", l.Hash), FileSHA256: fmt.Sprintf("%x", sha256.Sum256(first))}
	w.refusesUnrecorded("POST", "/audit/archive", in)
	var seg api.AuditSegment
	if w.api("POST", "/audit/archive?dry_run=true", in, &seg); seg.Last != 10 {
		t.Errorf("%+v", seg)
	}
	if list, _ := w.store.Segments(t.Context()); len(list) != 0 {
		t.Error("a dry run archives")
	}
	n = w.lastRecord()
	resp := w.api("POST", "/audit/archive", in, &seg)
	w.wantOneRecord("audit-archive", n, resp.Header.Get(admin.RequestHeader))
	rest, _ := w.fetch("/audit/export")
	known, err := audit.OpenCheckpoint(c.Checkpoint, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := audit.NewVerifier(c.Key, []audit.Witnessed{{Name: "before", Checkpoint: known}}, nil)
	if err := errors.Join(err, v.File(bytes.NewReader(first)), v.File(bytes.NewReader(rest))); err != nil {
		t.Fatal(err)
	}
	if r := v.Report(); r.Finding != nil || r.First != 1 || !r.Witnessed[0].Matches || bytes.Contains(rest, []byte(w.token)) {
		t.Errorf("%+v", r)
	}
	if _, resp := w.fetch("/audit/export?before=" + time.Unix(0, 0).UTC().Format(time.RFC3339)); resp.StatusCode != http.StatusNotFound {
		t.Errorf("nothing to export: %s", resp.Status)
	}
	var p audit.Proof
	w.api("GET", "/audit/records/15/proof?size=16", nil, &p)
	if l, size, err := p.Check(c.Key); err != nil || l.Seq != 15 || size != 16 {
		t.Errorf("%d in %d, %v", l.Seq, size, err)
	}
	p.Record = strings.Replace(p.Record, "key.create", "key.delete", 1)
	if _, _, err := p.Check(c.Key); err == nil {
		t.Error("a changed record is proved")
	}
}

func (w *world) list1(after int64) store.Entry {
	w.t.Helper()
	list, err := w.store.Audit(w.t.Context(), store.AuditQuery{After: after, Limit: 1})
	if err != nil || len(list) == 0 {
		w.t.Fatal(list, err)
	}
	return list[0]
}

// waitRotated returns when the rotation that goes on behind its answer has ended.
func (w *world) waitRotated() {
	w.t.Helper()
	for {
		var st api.Seal
		if w.api("GET", "/seal", nil, &st); st.Rotation != nil && st.Rotation.Ended != nil {
			return
		}
		select {
		case <-w.store.AuditNews():
		case <-time.After(5 * time.Millisecond):
		}
	}
}
