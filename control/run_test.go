package control

import (
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

func TestRunsRecordThemselvesAndLeave(t *testing.T) {
	w := newWorld(t)
	key := w.key(api.KeyCreate{Name: "runs", Kind: "ephemeral", Tags: []wire.Tag{"ai"}})
	m := w.machine()
	req := m.request(key.Secret, "run-a")
	req.Run = &wire.RunInfo{Tags: []wire.Tag{"ai"}, Seconds: 60}
	resp, p := m.tryEnrol(req)
	if p != nil {
		t.Fatal(p)
	}
	leaf, err := x509.ParseCertificate(resp.SVID[0])
	if err != nil {
		t.Fatal(err)
	}
	id, err := svid.FromCert(leaf)
	if err != nil || id != svid.Run(resp.Org, resp.System) || id.String() != "spiffe://"+string(resp.Org)+"/run/"+string(resp.System) {
		t.Errorf("the run's SVID names %s, %v", id, err)
	}
	if leaf.NotAfter.Sub(resp.Now) > wire.RunSVIDLife {
		t.Errorf("the run's SVID lives until %v", leaf.NotAfter)
	}
	for _, tc := range []struct {
		rec  wire.RunRecord
		code string
	}{
		{wire.RunRecord{Action: "run.start", Detail: json.RawMessage(`{"script":"sha256:1"}`)}, ""},
		{wire.RunRecord{Action: "system.delete", Detail: json.RawMessage(`{}`)}, api.CodeInvalid},
		{wire.RunRecord{Action: "tool.call", Detail: json.RawMessage(`[]`)}, api.CodeInvalid},
		{wire.RunRecord{Action: "tool.call", Detail: json.RawMessage(`{"a":"` + strings.Repeat("x", wire.MaxRunRecord) + `"}`)}, api.CodeInvalid},
	} {
		if p := m.call("POST", wire.PathRecord, tc.rec, nil); (p == nil) != (tc.code == "") || (p != nil && p.Code != tc.code) {
			t.Errorf("%s: %v, want %q", tc.rec.Action, p, tc.code)
		}
	}
	machine := w.machine() // is no run, though its key makes some
	machine.enrol(key.Secret, "a-machine")
	for _, path := range []string{wire.PathRecord, wire.PathLeave} {
		if p := machine.call("POST", path, wire.RunRecord{Action: "run.start", Detail: json.RawMessage(`{}`)}, nil); p == nil || p.Code != api.CodeForbidden {
			t.Errorf("%s by a machine: %v", path, p)
		}
	}
	if p := m.call("POST", wire.PathLeave, struct{}{}, nil); p != nil {
		t.Fatal(p)
	}
	if p := m.call("POST", wire.PathRecord, wire.RunRecord{Action: "run.end", Detail: json.RawMessage(`{}`)}, nil); p == nil || p.Code != wire.ByeRevoked {
		t.Errorf("a run that has left: %v", p)
	}
	// However much a run wants to have recorded, there is an end.
	loud := w.machine()
	req = loud.request(key.Secret, "run-b")
	req.Run = &wire.RunInfo{}
	if _, p := loud.tryEnrol(req); p != nil {
		t.Fatal(p)
	}
	for range wire.MaxRunRecords {
		if !w.srv.hub.mayRecord(loud.id) {
			t.Fatal("refused too early")
		}
	}
	if p := loud.call("POST", wire.PathRecord, wire.RunRecord{Action: "tool.call", Detail: json.RawMessage(`{}`)}, nil); p == nil || p.Status != 429 {
		t.Errorf("one record too many: %v", p)
	}
}
