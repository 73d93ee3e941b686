package control

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"enclave/control/admin"
	"enclave/wire"
	"enclave/wire/api"
)

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
