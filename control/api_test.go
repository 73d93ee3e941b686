package control

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
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

func (w *world) tokenWith(scopes ...string) admin.Token {
	w.t.Helper()
	token := admin.NewToken()
	_, err := w.store.CreateToken(w.t.Context(), at(time.Now()), store.TokenParams{Name: "t", Scopes: scopes, Secret: token.Hash()})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
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
	var pol api.Policy
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
	_ = pol
}

func has(part string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, part) }
}
func lacks(part string) func(string) bool {
	return func(s string) bool { return !strings.Contains(s, part) }
}

func TestMistakesComeAllWithTheirPaths(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		method, path string
		in           any
		status       int
		code         string
		paths        []string
	}{
		"policy": {"POST", "/policies", []byte(`{"type":"direct","enabled":true,"sender_tags":["A b"],"receiver_tags":["x","x"],
			"acls":[{"protocol":"icmp","ports":"22"}],"active_hours":{"tz":"Mars","days":["mon"],"start":"09:00","end":"09:00"}}`),
			422, api.CodeInvalid, []string{"sender_tags[0]"}},
		"policy meaning": {"POST", "/policies", []byte(`{"type":"direct","enabled":true,"sender_tags":["a"],"receiver_tags":["x","x"],
			"acls":[{"protocol":"icmp","ports":"22"}],"active_hours":{"tz":"Mars","days":["mon"],"start":"09:00","end":"09:00"}}`),
			422, api.CodeInvalid, []string{"receiver_tags[1]", "acls[0].ports", "active_hours.tz", "active_hours"}},
		"duplicate": {"POST", "/policies", []byte(`{"type":"direct","enabled":true,"enabled":false,"sender_tags":[],"acls":[]}`),
			400, api.CodeBadRequest, []string{"enabled"}},
		"unknown": {"POST", "/policies", []byte(`{"type":"direct","enabled":true,"sender_tags":["a"],"acls":[{"protocol":"any","deny":true}]}`),
			422, api.CodeInvalid, []string{"acls[0].deny"}},
		"own id": {"POST", "/policies", []byte(`{"id":"mine","type":"direct","enabled":true,"sender_tags":[],"acls":[]}`),
			422, api.CodeInvalid, []string{"id"}},
		"turned key":  {"POST", "/keys", []byte(`{"name":"a\u202eb","kind":"general"}`), 422, api.CodeInvalid, []string{"name"}},
		"turned name": {"POST", "/tokens", []byte(`{"name":"a\u009bb","scopes":["read"]}`), 422, api.CodeInvalid, []string{"name"}},
		"turned note": {"PUT", "/tags/x", []byte(`{"notes":"a\n\u001b[2J"}`), 422, api.CodeInvalid, []string{"notes"}},
		"past":        {"POST", "/keys", []byte(`{"name":"x","expires_at":"2001-01-01T00:00:00Z","kind":"odd","uses":0}`), 422, api.CodeInvalid, []string{"kind", "uses", "expires_at"}},
		"both":        {"POST", "/keys", []byte(`{"name":"x","expires_at":"2101-01-01T00:00:00Z","expires_local":{"time":"2101-01-01T00:00","tz":"Mars"}}`), 422, api.CodeInvalid, []string{"expires_local", "expires_local.tz"}},
		"local past":  {"POST", "/keys", []byte(`{"name":"x","expires_local":{"time":"2001-01-01T00:00","tz":"UTC"}}`), 422, api.CodeInvalid, []string{"expires_local"}},
		"sources":     {"POST", "/keys", []byte(`{"name":"x","sources":["10.0.0.0/8","10.0.0.1/8","10.0.0.9-10.0.0.1","here"]}`), 422, api.CodeInvalid, []string{"sources[1]", "sources[2]", "sources[3]"}},
		"no expiry":   {"POST", "/keys", []byte(`{"name":"x","expiry_action":"delete"}`), 422, api.CodeInvalid, []string{"expiry_action"}},
		"token":       {"POST", "/tokens", []byte(`{"name":"","scopes":["read","read","god"],"expires_at":"2001-01-01T00:00:00Z"}`), 422, api.CodeInvalid, []string{"name", "scopes[1]", "scopes[2]", "expires_at"}},
		"token twice": {"POST", "/tokens", []byte(`{"name":"root","scopes":["read"]}`), 409, api.CodeConflict, nil},
		"last token":  {"DELETE", "/tokens/root", nil, 409, api.CodeConflict, nil},
		"no token":    {"DELETE", "/tokens/nobody", nil, 404, api.CodeNotFound, nil},
		"no json":     {"POST", "/keys", []byte(`{"name":`), 400, api.CodeBadRequest, []string{""}},
		"nothing":     {"POST", "/keys", nil, 400, api.CodeBadRequest, nil},
		"too large":   {"POST", "/keys", []byte(`{"name":"` + strings.Repeat("x", wire.MaxRequestBody) + `"}`), 413, api.CodeTooLarge, nil},
		"query":       {"GET", "/systems?limit=0&state=odd&wrong=1", nil, 422, api.CodeInvalid, nil},
		"timeout":     {"GET", "/revision?applied=1&timeout=soon", nil, 422, api.CodeInvalid, []string{"timeout"}},
		"no system":   {"GET", "/systems/nobody", nil, 404, api.CodeNotFound, nil},
		"no route":    {"GET", "/nothing", nil, 404, api.CodeNotFound, nil},
		"no method":   {"DELETE", "/systems", nil, 405, api.CodeBadRequest, nil},
		"no relay":    {"DELETE", "/relays/nobody", nil, 404, api.CodeNotFound, nil},
		"patch empty": {"PATCH", "/systems/nobody", []byte(`{}`), 422, api.CodeInvalid, []string{""}},
		"rename":      {"POST", "/tags/none/rename", []byte(`{"name":"other"}`), 404, api.CodeNotFound, nil},
	} {
		_, p := w.tryAPI(c.method, c.path, c.in, nil)
		if p == nil || p.Status != c.status || p.Code != c.code {
			t.Errorf("%s: %+v, want %d %s", name, p, c.status, c.code)
			continue
		}
		for _, path := range c.paths {
			if !slices.ContainsFunc(p.Problems, func(m wire.Problem) bool { return m.Path == path }) {
				t.Errorf("%s: nothing at %q in %v", name, path, p.Problems)
			}
		}
	}
}

func TestPoliciesReadBackAsWritten(t *testing.T) {
	w := newWorld(t)
	for name, doc := range map[string]string{
		"least":        `{"type":"direct","enabled":true,"sender_tags":["a"],"acls":[]}`,
		"nulls":        `{"type":"direct","enabled":true,"sender_tags":["a"],"receiver_tags":["b"],"acls":[{"protocol":"any","ports":null}],"expires_at":null,"active_hours":null,"gateways":[]}`,
		"one window":   `{"type":"direct","enabled":true,"sender_tags":["a"],"acls":[{"protocol":"tcp","ports":"22,80,8000-8100"}],"active_hours":{"tz":"UTC","days":["mon"],"start":"22:00","end":"24:00"}}`,
		"many windows": `{"type":"direct","enabled":true,"sender_tags":["a"],"acls":[{"protocol":"udp","description":"d"}],"active_hours":[{"tz":"UTC","days":["mon"],"start":"22:00","end":"02:00"},{"tz":"Europe/London","days":[],"start":"00:00","end":"01:00"}]}`,
		"gateway":      `{"type":"gateway","enabled":false,"sender_tags":["a"],"acls":[{"protocol":"any"}],"gateways":[{"system":"g1abc","subnets":["192.168.1.0/24"]}],"subnet_filter":["192.168.1.0/28"],"priority":"ordered"}`,
	} {
		var out api.Policy
		w.api("POST", "/policies", []byte(doc), &out)
		var want wire.Policy
		if err := wire.Unmarshal([]byte(doc), &want); err != nil {
			t.Fatal(err)
		}
		want.ID = out.ID
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(out.Policy)
		if got := strings.ReplaceAll(string(b), `"receiver_tags":[],`, ""); got != string(a) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, a)
		}
	}
}

func TestIfMatch(t *testing.T) {
	w := newWorld(t)
	resp := w.api("POST", "/policies", direct("a", "b"), nil)
	tag := resp.Header.Get("ETag")
	if resp.StatusCode != http.StatusCreated || tag == "" {
		t.Fatalf("%s, ETag %q", resp.Status, tag)
	}
	put := func(match string) (*http.Response, *api.Problem) {
		return do(t, w.calls, "PUT", "https://"+w.addr+admin.Prefix+"/policies/p",
			http.Header{"Authorization": {"Bearer " + string(w.token)}, "If-Match": {match}}, direct("a", "c"), nil)
	}
	if resp, p := put(tag); p != nil || resp.Header.Get("ETag") == tag {
		t.Fatalf("with the right version: %v", p)
	}
	if _, p := put(tag); p == nil || p.Status != http.StatusPreconditionFailed || p.Code != api.CodeStale {
		t.Errorf("with an old version: %+v", p)
	}
	if _, p := put(`"x"`); p == nil || p.Status != http.StatusBadRequest {
		t.Errorf("with no version: %+v", p)
	}
}

func TestAmbiguousNamesListTheIDs(t *testing.T) {
	w := newWorld(t)
	key := w.key(automatic())
	a, b := w.machine(), w.machine()
	a.enrol(key.Secret, "twin")
	b.enrol(key.Secret, "twin")
	_, p := w.tryAPI("POST", "/systems/twin/disable", nil, nil)
	if p == nil || p.Code != api.CodeAmbiguous || !strings.Contains(p.Detail, string(a.id)) || !strings.Contains(p.Detail, string(b.id)) {
		t.Errorf("%+v", p)
	}
	w.api("POST", "/systems/"+string(a.id)+"/disable", nil, nil)
}

func TestPagesMeetWithoutGaps(t *testing.T) {
	w := newWorld(t)
	for range 7 {
		w.key(api.KeyCreate{Name: "k"})
	}
	var ids []wire.KeyID
	after := ""
	for pages := 0; ; pages++ {
		var page api.Page[api.Key]
		w.api("GET", "/keys?limit=3&after="+after, nil, &page)
		for _, k := range page.Items {
			ids = append(ids, k.ID)
		}
		if after = page.Next; after == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	var all api.Page[api.Key]
	w.api("GET", "/keys", nil, &all)
	for i, k := range all.Items {
		if i >= len(ids) || ids[i] != k.ID {
			t.Fatalf("pages %v", ids)
		}
	}
}

// TestAPageOfPoliciesIsAPage: the pages are the whole list in its order, and one of them
// does not cost what all do.
func TestAPageOfPoliciesIsAPage(t *testing.T) {
	w := newWorld(t)
	set := wire.PolicySet{}
	for i := range 300 { // all of one instant
		set.Policies = append(set.Policies, named(fmt.Sprint("p", i), "mesh", "mesh"))
	}
	w.api("POST", "/policyset", api.Apply{Set: set}, nil)
	for _, name := range []string{"later", "last"} {
		w.api("POST", "/policies", named(name, "mesh", "mesh"), nil)
	}
	var all api.Page[api.Policy]
	w.api("GET", "/policies?limit=1000", nil, &all)
	if n := len(all.Items); n != 302 || all.Next != "" || all.Items[n-1].Name != "last" || all.Items[n-2].Name != "later" {
		t.Fatalf("%d policies, next %q", n, all.Next)
	}
	var got []api.Policy
	var page api.Page[api.Policy]
	for pages := 1; pages == 1 || page.Next != ""; pages++ {
		after := page.Next
		page = api.Page[api.Policy]{}
		w.api("GET", "/policies?limit=151&after="+after, nil, &page)
		if got = append(got, page.Items...); pages == 2 && page.Next != "" {
			t.Errorf("a third page begins after %q", page.Next) // the last was full
		}
	}
	if !slices.EqualFunc(got, all.Items, func(a, b api.Policy) bool { return a.ID == b.ID }) {
		t.Errorf("%d policies in pages, %d at once, or in another order", len(got), len(all.Items))
	}
	for _, wrong := range []string{"x", "12-abc", "-0000000000000000001-abc", strings.Repeat("9", 20) + "-abc", strings.Repeat("0", 20)} {
		if _, p := w.tryAPI("GET", "/policies?after="+wrong, nil, nil); p == nil || p.Code != api.CodeInvalid {
			t.Errorf("after %s: %+v", wrong, p)
		}
	}
	one := testing.AllocsPerRun(5, func() { w.api("GET", "/policies?limit=1", nil, nil) })
	if one > 10*float64(len(all.Items)) {
		t.Errorf("a page of one takes %.0f allocations, as if all %d were read", one, len(all.Items))
	}
	t.Logf("%.0f allocations", one)
}

// TestSystemsAreReadOnUntilThePageIsFull: what a filter leaves out makes no short page.
func TestSystemsAreReadOnUntilThePageIsFull(t *testing.T) {
	w := newWorld(t)
	key := w.key(api.KeyCreate{Name: "k"})
	for i := range 9 {
		w.machine().enrol(key.Secret, fmt.Sprint([]string{"odd", "even", "odd"}[i%3], i))
	}
	for _, filter := range []string{"", "&search=even", "&search=none"} {
		var all, page api.Page[api.System]
		w.api("GET", "/systems?limit=1000"+filter, nil, &all)
		var got []api.System
		for first := true; first || page.Next != ""; first = false {
			after := page.Next
			page = api.Page[api.System]{}
			w.api("GET", "/systems?limit=2&after="+after+filter, nil, &page)
			got = append(got, page.Items...)
			if len(page.Items) < 2 && page.Next != "" {
				t.Errorf("%q: a page of %d", filter, len(page.Items))
			}
		}
		if want := map[string]int{"": 9, "&search=even": 3}[filter]; len(all.Items) != want || !slices.EqualFunc(got, all.Items, func(a, b api.System) bool { return a.ID == b.ID }) {
			t.Errorf("%q: %d systems in pages, %d at once, want %d in one order", filter, len(got), len(all.Items), want)
		}
	}
}

func TestTokensAreThrottledByAddress(t *testing.T) {
	w := newWorld(t)
	try := func(token string) *api.Problem {
		_, p := do(t, w.calls, "GET", "https://"+w.addr+admin.Prefix+"/whoami", http.Header{"Authorization": {"Bearer " + token}}, nil, nil)
		return p
	}
	w.api("GET", "/whoami", nil, nil) // the good token has worked
	fresh := w.tokenWith("read")
	for range 20 {
		if p := try("enctok_wrong"); p == nil {
			t.Fatal("a wrong token is accepted")
		}
	}
	if p := try("enctok_wrong"); p.Status != http.StatusTooManyRequests || p.Code != api.CodeTryAgain {
		t.Errorf("after 20 wrong tokens: %+v", p)
	}
	if p := try(string(fresh)); p == nil || p.Status != http.StatusTooManyRequests {
		t.Errorf("a token never seen from a throttled address: %+v", p)
	}
	if p := try(string(w.token)); p != nil {
		t.Errorf("others' mistakes lock out a token that works: %v", p)
	}
}

func TestEndedTokensAreRefused(t *testing.T) {
	w := newWorld(t)
	w.api("GET", "/whoami", nil, nil)
	good, then := w.token, time.Now().Add(-time.Hour)
	w.token = admin.NewToken()
	_, err := w.store.CreateToken(t.Context(), at(then), store.TokenParams{Name: "old", Scopes: []string{"admin"}, ExpiresAt: then.Add(time.Minute), Secret: w.token.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	if _, p := w.tryAPI("GET", "/whoami", nil, nil); p == nil || p.Code != api.CodeUnauthorised {
		t.Errorf("an expired token: %+v", p)
	}
	w.token = good
	w.api("GET", "/whoami", nil, nil)
	list, err := w.store.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range list {
		if err := w.store.RevokeToken(t.Context(), at(time.Now()), tok.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, p := w.tryAPI("GET", "/whoami", nil, nil); p == nil || p.Code != api.CodeUnauthorised {
		t.Errorf("a deleted token: %+v", p)
	}
}

func TestCrossOriginRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, h := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://evil.example"}}} {
		h.Set("Authorization", "Bearer "+string(w.token))
		resp, p := do(t, w.client(nil), "POST", "https://"+w.addr+admin.Prefix+"/keys", h, api.KeyCreate{Name: "x"}, nil)
		if p == nil || p.Status != http.StatusForbidden {
			t.Errorf("%v: %+v", h, p)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Error("CORS is on")
		}
	}
}

func TestDocumentationNeedsNoOtherMachine(t *testing.T) {
	w := newWorld(t)
	resp, err := w.client(nil).Get("https://" + w.addr + admin.Prefix + "/docs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	page := string(b)
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("policy %q", csp)
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "http://") || strings.Contains(page, "https://") {
		t.Error("the page refers to something outside it")
	}
	for _, part := range []string{"/api/v1/policies/{policy}/disable", "Ports and ranges", `id="Problem"`} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
}

func TestActivityIsFollowed(t *testing.T) {
	w := newWorld(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+w.addr+admin.Prefix+"/activity/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+string(w.token))
	resp, err := w.client(nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, name := range []string{"one", "two"} {
		k := w.key(api.KeyCreate{Name: name})
		for lines.Scan() && lines.Text() == "" {
		}
		var a api.Activity
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil || a.Action != "key.create" || a.Object != "key:"+string(k.ID) || a.Actor != "token:root" {
			t.Fatalf("%s: %s (%v)", name, lines.Text(), err)
		}
	}
}
