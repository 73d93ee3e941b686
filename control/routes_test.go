package control

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

// operation is what the tests need of an operation in the OpenAPI document.
type operation struct {
	OperationID string
	Security    []map[string][]string
}

// operations reads the document as a client would.
func (w *world) operations() (ops map[string]operation) {
	w.t.Helper()
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]operation
	}
	w.api("GET", "/openapi.json", nil, &doc)
	if doc.OpenAPI != "3.1.0" {
		w.t.Errorf("OpenAPI %q", doc.OpenAPI)
	}
	ops = make(map[string]operation)
	for path, item := range doc.Paths {
		for method, op := range item {
			ops[strings.ToUpper(method)+" "+path] = op
		}
	}
	return ops
}

func TestEveryRouteAsksForItsScope(t *testing.T) {
	w := newWorld(t)
	ops := w.operations()
	if len(ops) < 30 {
		t.Fatalf("%d operations", len(ops))
	}
	for route, op := range ops {
		method, path, _ := strings.Cut(route, " ")
		url := "https://" + w.addr + strings.NewReplacer("{", "", "}", "").Replace(path)
		if len(op.Security) == 0 {
			if op.OperationID != "version" {
				t.Errorf("%s is open to everybody", route)
			}
			continue
		}
		if _, p := do(t, w.calls, method, url, nil, nil, nil); p == nil || p.Status != http.StatusUnauthorized || p.Code != api.CodeUnauthorised {
			t.Errorf("%s without a token: %+v", route, p)
		}
		scope := op.Security[0]["bearer"][0]
		if scope == string(admin.Signed) {
			continue
		}
		var others []string
		for _, s := range admin.Scopes() {
			if s != admin.All && string(s) != scope {
				others = append(others, string(s))
			}
		}
		bearer := http.Header{"Authorization": {"Bearer " + string(w.tokenWith(others...))}}
		if _, p := do(t, w.calls, method, url, bearer, nil, nil); p == nil || p.Status != http.StatusForbidden || p.Code != api.CodeForbidden {
			t.Errorf("%s with every scope but %s: %+v", route, scope, p)
		}
	}
}

// TestEveryRouteWorks calls each operation once, as an administrator would, and fails
// for one that it does not know.
func TestEveryRouteWorks(t *testing.T) {
	w := newWorld(t)
	auto, manual := w.key(automatic("devs")), w.key(api.KeyCreate{Name: "manual"})
	relayKey := w.key(api.KeyCreate{Name: "relays", Kind: store.RelayKey})
	alice, bob := w.machine(), w.machine()
	alice.enrol(auto.Secret, "alice")
	bob.enrol(manual.Secret, "bob")
	r := w.machine()
	req := r.request(relayKey.Secret, "relay")
	req.Relay = &wire.RelayInfo{Addr: "192.0.2.1:443", STUN: []string{"192.0.2.1:3478"}}
	relay, p := r.tryEnrol(req)
	if p != nil {
		t.Fatal(p)
	}
	doc := direct("devs", "pods")
	doc.Name = "ssh"
	doc.ActiveHours = wire.Windows{{Zone: "Europe/London", Days: []string{"mon"}, Start: "09:00", End: "17:00"}}
	var list json.RawMessage

	_, other, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := seal.ParseIdentities([]byte(other))
	if err != nil {
		t.Fatal(err)
	}
	another := ids[0].Recipient.String()
	until := time.Now().Add(time.Hour).UTC()
	type step struct {
		op, path string // path below the prefix; the method is the operation's
		in       any
		check    func(body string) bool
	}
	steps := []step{
		{"version", "/version", nil, has(`"protocol":1`)},
		{"whoami", "/whoami", nil, has(`"name":"root"`)},
		{"revision", "/revision", nil, has(`"applied":true`)},
		{"seal-status", "/seal", nil, has(`"state":"open"`)},
		{"seal-rotate", "/seal/rotate", nil, has(`"rotation":{`)},
		{"seal-add", "/seal/recipients", api.SealAdd{Recipient: another}, has(another)},
		{"seal-remove", "/seal/recipients/remove", api.SealRemove{Recipient: another}, lacks(another)},
		{"health", "/health", nil, has(`"checked":false`)},
		{"system-list", "/systems?state=pending&search=BO&limit=1", nil, has(`"name":"bob"`)},
		{"system-list", "/systems?search=fd", nil, lacks(`"name":`)}, // every IPv6 address begins so
		{"system-list", "/systems?search=BO+pend", nil, lacks(`"name":`)},
		{"system-get", "/systems/alice", nil, has(`"state":"disconnected"`)},
		{"system-update", "/systems/alice", map[string]any{"name": "ally", "notes": "n", "expires_at": until}, has(`"name":"ally"`)},
		{"system-update", "/systems/ally", map[string]any{"expires_at": nil}, lacks(`expires_at`)},
		{"system-approve", "/systems/bob/approve", nil, has(`"revision":`)},
		{"system-disable", "/systems/bob/disable", nil, has(`"revision":`)},
		{"system-enable", "/systems/bob/enable", nil, has(`"revision":`)},
		{"system-tags", "/systems/bob/tags", map[string]any{"add": []string{"pods", "x"}, "remove": []string{"y"}}, has(`"revision":`)},
		{"system-routes", "/systems/bob/routes", map[string]any{"add": []map[string]any{{"subnet": "192.168.9.0/24"}}}, has(`"revision":`)},
		{"system-trust", "/systems/bob/trust/mfa", map[string]any{"until": until}, has(`"revision":`)},
		{"system-trust", "/systems/bob/trust/disk", nil, has(`"revision":`)},
		{"system-untrust", "/systems/bob/trust/disk", nil, has(`"revision":`)},
		{"system-get", "/systems/bob", nil, has(`"requirement":"mfa"`)},
		{"system-list", "/systems?tag=x", nil, has(`"bob"`)},
		{"tag-set", "/tags/pods", map[string]any{"notes": "n", "trust": []string{"mfa"}}, has(`"revision":`)},
		{"tag-rename", "/tags/x/rename", map[string]any{"name": "z"}, has(`"revision":`)},
		{"tag-list", "/tags", nil, has(`"name":"z"`)},
		{"key-create", "/keys", api.KeyCreate{Name: "spare", ExpiresAt: &until}, has(`"secret":"`)},
		{"key-list", "/keys", nil, lacks(`secret`)},
		{"key-get", "/keys/spare", nil, has(`"approval":"manual"`)},
		{"key-disable", "/keys/spare/disable", nil, has(`"revision":`)},
		{"key-enable", "/keys/spare/enable", nil, has(`"revision":`)},
		{"key-delete", "/keys/spare", nil, has(`"revision":`)},
		{"policy-create", "/policies", doc, has(`"ports":"22"`)},
		{"policy-list", "/policies", nil, has(`"name":"ssh"`)},
		{"policy-get", "/policies/ssh", nil, has(`"tz":"Europe/London"`)},
		{"policy-update", "/policies/ssh", doc, has(`"version":`)},
		{"policy-disable", "/policies/ssh/disable", nil, has(`"revision":`)},
		{"policy-enable", "/policies/ssh/enable", nil, has(`"revision":`)},
		{"policy-delete", "/policies/ssh", nil, has(`"revision":`)},
		{"system-add", "/systems/bob/adds/ally", nil, has(`"revision":`)},
		{"system-get", "/systems/bob", nil, has(`"adds":["`)},
		{"system-unadd", "/systems/bob/adds/ally", nil, has(`"revision":`)},
		{"requirement-set", "/requirements/office", wire.Requirement{Kind: wire.PublicIP, ID: "office", Ranges: []wire.RangeCondition{{Range: "192.0.2.0/24"}}}, has(`"id":"office"`)},
		{"requirement-list", "/requirements", nil, has(`"kind":"public-ip"`)},
		{"requirement-get", "/requirements/office", nil, has(`"version":`)},
		{"requirement-delete", "/requirements/office", nil, has(`"revision":`)},
		{"zone-create", "/dns/zones", wire.Zone{Name: "Corp.Example."}, has(`"name":"corp.example"`)},
		{"zone-update", "/dns/zones/corp.example", wire.Zone{AutoTags: []wire.Tag{"devs"}}, has(`"auto_tags":["devs"]`)},
		{"zone-list", "/dns/zones", nil, has(`"built_in":true`)},
		{"record-create", "/dns/records", wire.Record{Name: "*.corp.example", Tags: []wire.Tag{"devs"}}, has(`"zone":"corp.example"`)},
		{"record-update", "/dns/records/*.corp.example", wire.Record{Systems: []wire.SystemID{alice.id}}, has(string(alice.id))},
		{"record-list", "/dns/records", nil, has(`"*.corp.example"`)},
		{"resolve", "/dns/resolve?name=alice.corp.example&as=" + string(alice.id), nil, has(`"kind":"missing"`)},
		{"record-delete", "/dns/records/*.corp.example", nil, has(`"revision":`)},
		{"zone-delete", "/dns/zones/corp.example", nil, has(`"revision":`)},
		{"tests-set", "/tests", map[string]any{"tests": []wire.Assertion{{Name: "shut", From: "ally", To: "bob", Proto: wire.TCP, Port: 22}}}, has(`"revision":`)},
		{"tests-get", "/tests", nil, has(`"name":"shut"`)},
		{"tests-run", "/tests/run", nil, has(`"passed":true`)},
		{"explain", "/explain?from=ally&to=bob&protocol=tcp&port=22", nil, has(`"allow":false`)},
		{"forecast", "/forecast?days=7&limit=5", nil, has(`"items":[`)},
		{"graph", "/graph", nil, has(`"nodes":[`)},
		{"graph", "/graph?from_tag=devs&to_tag=nobody", nil, has(`"edges":[]`)},
		{"system-access", "/systems/bob/access", nil, has(`"items":[`)},
		{"graph-tags", "/graph/tags", nil, has(`"untagged":`)},
		{"flow-list", "/flows", nil, has(`"items":[]`)},
		{"denied-list", "/flows/denied", nil, has(`"items":[]`)},
		{"policyset-get", "/policyset", nil, has(`"policies":[`)},
		{"policyset-apply", "/policyset?force=shut", map[string]any{"set": map[string]any{"policies": []any{map[string]any{"name": "one", "type": "direct", "enabled": true,
			"sender_tags": []string{"devs"}, "receiver_tags": []string{"z"}, "acls": []any{map[string]any{"protocol": "any"}}}}}, "confirm_within_seconds": 60}, has(`"confirm_by":"`)},
		{"policyset-confirm", "/policyset/confirm", nil, has(`"revision":`)},
		{"revision-list", "/revisions?limit=2", nil, has(`"action":"policyset.apply"`)},
		{"revision-get", "/revisions/2", nil, has(`"set":{`)},
		{"revision-diff", "/revisions/1/diff", nil, has(`"change":"added"`)},
		{"revision-restore", "/revisions/1/restore?reason=because", nil, has(`"revision":`)},
		{"token-create", "/tokens", api.TokenCreate{Name: "spare", Scopes: []string{"read"}, ExpiresAt: &until}, has(`"secret":"enctok_`)},
		{"token-list", "/tokens", nil, has(`"name":"spare"`)},
		{"token-revoke", "/tokens/spare", nil, has(`"revision":`)},
		{"relay-list", "/relays", nil, has(`"addr":"192.0.2.1:443"`)},
		{"relay-delete", "/relays/" + string(relay.Relay), nil, has(`"revision":`)},
		{"activity-list", "/activity?after=3&limit=2", nil, has(`"seq":4`)},
		{"system-revoke", "/systems/bob/revoke", nil, has(`"revision":`)},
		{"system-delete", "/systems/ally", nil, has(`"revision":`)},
	}
	steps = append(steps, []step{
		{"audit-list", "/audit?newest=true&limit=2&action=system.*&outcome=ok", nil, has(`"action":"system.delete"`)},
		{"audit-list", "/audit?since=2001-01-01T00:00:00Z&until=2002-01-01T00:00:00Z", nil, has(`"items":[]`)},
		{"audit-checkpoint", "/audit/checkpoint?old=3", nil, has(`"consistency":["`)},
		{"audit-prove", "/audit/records/3/proof", nil, has(`"enclave_audit_proof":1`)},
		{"audit-subjects", "/audit/subjects", nil, has(`"organisation"`)},
		{"audit-erase", "/audit/erase?reason=asked", map[string]any{"subject": "system:" + string(bob.id)}, has(`"keys":1`)},
		{"audit-segments", "/audit/segments", nil, has(`"items":[]`)},
	}...)
	byID := map[string]string{}
	for route, op := range w.operations() {
		method, _, _ := strings.Cut(route, " ")
		byID[op.OperationID] = method
	}
	called := map[string]bool{"flow-cut": true, "system-peers": true, // TestAFlowIsCutByHand, TestPathsAndDenialsAreTold
		"activity-stream": true,                                             // TestActivityIsFollowed
		"seal-lock":       true, "seal-unlock": true, "backup-create": true, // TestLock, TestBackupOverTheAPI, with their records
		"audit-stream": true, "audit-export": true, "audit-archive": true} // TestActivityIsFollowed, TestArchiveOverTheAPI
	for _, s := range steps {
		called[s.op] = true
		if s.op == "seal-rotate" { // goes on behind its answer, and is recorded before it counts
			w.api(byID[s.op], s.path, s.in, &list)
			w.waitRotated()
			before := w.lastRecord()
			resp := w.api(byID[s.op], s.path, s.in, &list)
			w.waitRotated()
			w.wantOneRecord(s.op, before, resp.Header.Get(admin.RequestHeader))
			continue
		}
		changes := byID[s.op] != "GET" && s.op != "tests-run"
		if changes {
			w.refusesUnrecorded(byID[s.op], s.path, s.in)
		}
		before := w.lastRecord()
		resp := w.api(byID[s.op], s.path, s.in, &list)
		if !s.check(string(list)) {
			t.Errorf("%s %s answers %s", s.op, s.path, list)
		}
		if changes {
			w.wantOneRecord(s.op, before, resp.Header.Get(admin.RequestHeader))
		} else if n := w.lastRecord(); n != before {
			t.Errorf("%s leaves %d records", s.op, n-before)
		}
	}
	for id := range byID {
		if !called[id] {
			t.Errorf("nobody calls %s", id)
		}
	}
}

func has(part string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, part) }
}

func lacks(part string) func(string) bool {
	return func(s string) bool { return !strings.Contains(s, part) }
}
