package tools

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func mcpBinary(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "mcpserver")
	if out, err := exec.Command("go", "build", "-o", bin, "./testdata/mcpserver").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	return bin
}

func TestMCPServerOnItsPipes(t *testing.T) {
	bin := mcpBinary(t)
	t.Setenv("HOST_ONLY", "must not be inherited")
	r := open(t, `{"version":1,"secrets":{"k":{"env":"K"}},"mcp":[
		{"name":"m","command":["`+bin+`"],"prefix":"m:","env":{"KEY":"${k}"},"rules":{"attributes":["reads"]},"tools":{"fail":{"idempotent":true,"retries":1}}},
		{"name":"h","command":["`+bin+`","hang"],"prefix":"h:","only":["add"],"rules":{"limits":{"deadline":"50ms"}}}]}`, map[string]string{"K": "key-123456"})
	s := r.Session(SessionConfig{})
	defer s.Close()
	for _, tc := range []struct {
		tool, args, want string
		code             Code
	}{
		{"m:add", `{"a":1,"b":2}`, `{"sum":3}`, ""},
		{"m:add", `{"a":1}`, "", InvalidArgs},
		{"m:env_get", `{}`, `"PATH=\nKEY=[REDACTED]"`, ""},
		{"m:fail", `{}`, "", Failed},
		{"h:add", `{"a":1,"b":2}`, "", TimedOut},
		{"h:fail", `{}`, "", UnknownTool},
		{"m:die", `{}`, "", Failed},
	} {
		out, err := s.Call(t.Context(), tc.tool, json.RawMessage(tc.args))
		if string(out) != tc.want || codeOf(err) != tc.code {
			t.Errorf("%s: %s, %v", tc.tool, out, err)
		}
		if err != nil && strings.Contains(err.Error(), "/home/") {
			t.Errorf("%s: a path of the host crossed: %v", tc.tool, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	// What a program says before it dies is in the log, without its secrets.
	var log bytes.Buffer
	f, err := Load([]byte(`{"version":1,"secrets":{"k":{"env":"K"}},"mcp":[{"name":"m","command":["` + bin + `"],"env":{"KEY":"${k}"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err = Open(t.Context(), f, Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Getenv: func(string) string { return "key-123456" }})
	if err != nil {
		t.Fatal(err)
	}
	s = r.Session(SessionConfig{})
	s.Call(t.Context(), "die", nil)
	s.Close()
	r.Close()
	if !strings.Contains(log.String(), "it said: fatal: no disk with key [REDACTED]") || strings.Contains(log.String(), "key-123456") {
		t.Errorf("the log says %s", log.String())
	}
	r = open(t, `{"version":1,"mcp":[{"name":"m","command":["`+bin+`"],"only":["fail"],"rules":{"tell_errors":true}}]}`, nil)
	s = r.Session(SessionConfig{})
	defer s.Close()
	if _, err := s.Call(t.Context(), "fail", nil); err == nil || !strings.Contains(err.Error(), "the tool reported an error: cannot open") {
		t.Errorf("declared to tell: %v", err)
	}
}

func TestMCPServerIsBounded(t *testing.T) {
	bin := mcpBinary(t)
	for _, text := range []string{
		`{"version":1,"mcp":[{"name":"m","command":["` + bin + `","flood"]}]}`,
		`{"version":1,"mcp":[{"name":"m","command":["` + bin + `"],"only":["nothing"]}]}`,
		`{"version":1,"mcp":[{"name":"m","command":["/nowhere"]}]}`,
	} {
		f, err := Load([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Open(t.Context(), f, Config{}); err == nil {
			r.Close()
			t.Errorf("opened %s", text)
		}
	}
}

func TestMCPServerOverHTTP(t *testing.T) {
	var ended bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			ended = true
			return
		}
		var m rpc
		if json.NewDecoder(r.Body).Decode(&m) != nil || r.Header.Get("Authorization") != "Bearer tok-123456" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Mcp-Session-Id", "s1")
		result := map[string]string{
			"initialize": `{"protocolVersion":"2025-03-26","capabilities":{}}`,
			"tools/list": `{"tools":[{"name":"now","inputSchema":{"type":"object"}}]}`,
			"tools/call": `{"content":[{"type":"text","text":"noon"}]}`,
		}[m.Method]
		switch {
		case m.Method != "initialize" && (r.Header.Get("Mcp-Session-Id") != "s1"):
			w.WriteHeader(http.StatusBadRequest)
		case len(m.ID) == 0:
			w.WriteHeader(http.StatusAccepted)
		case m.Method == "tools/call":
			w.Header().Set("Content-Type", "text/event-stream")
			w.Write([]byte("event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n: note\ndata: {\"jsonrpc\":\"2.0\",\"id\":" + string(m.ID) + ",\"result\":" + result + "}\n\n"))
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + result + `}`))
		}
	}))
	defer srv.Close()
	r := open(t, `{"version":1,"secrets":{"k":{"env":"K"}},"mcp":[{"name":"m","url":"`+srv.URL+`","headers":{"Authorization":"Bearer ${k}"},"allow_addresses":["127.0.0.1/32"]}]}`, map[string]string{"K": "tok-123456"})
	s := r.Session(SessionConfig{})
	defer s.Close()
	if out, err := s.Call(t.Context(), "now", nil); string(out) != `"noon"` {
		t.Errorf("%s, %v", out, err)
	}
	if r.Close(); !ended {
		t.Error("the server was not told that the session is over")
	}
}

func TestOpenAPIOperations(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body any
		json.NewDecoder(r.Body).Decode(&body)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"name": r.Method + " " + r.URL.String(), "owner": nil, "tag": body, "trace": r.Header.Get("X-Trace")})
	}))
	defer srv.Close()
	r := open(t, `{"version":1,"openapi":[{"name":"pets","document":"pets.json","server":"`+srv.URL+`/v1","prefix":"pets:","allow_addresses":["127.0.0.0/8"],"tools":{"createPet":{"attributes":["writes"]}}}]}`, nil)
	s := r.Session(SessionConfig{})
	defer s.Close()
	for _, tc := range []struct{ tool, args, want string }{
		{"pets:getPet", `{"petId":7,"verbose":true,"X-Trace":"t"}`, `{"name":"GET /v1/pets/7?verbose=true","owner":null,"tag":null,"trace":"t"}`},
		{"pets:createPet", `{"body":{"name":"rex","tag":"dog"}}`, `{"name":"POST /v1/pets","owner":null,"tag":{"name":"rex","tag":"dog"},"trace":""}`},
	} {
		if out, err := s.Call(t.Context(), tc.tool, json.RawMessage(tc.args)); string(out) != tc.want {
			t.Errorf("%s: %s, %v", tc.tool, out, err)
		}
	}
	if _, err := s.Call(t.Context(), "pets:createPet", json.RawMessage(`{"body":{"tag":"no name"}}`)); codeOf(err) != InvalidArgs {
		t.Errorf("a pet without a name: %v", err)
	}
}

// TestReferencesOfADocument are followed as their generators write them, wherever in the
// document they lead; what is secret there is hidden.
func TestReferencesOfADocument(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"plain":"w","account":"v","deep":[{"pin":"v"}],"same":{"plain":"w","account":"v"}}`))
	}))
	defer srv.Close()
	dir := t.TempDir()
	doc := `{"openapi":"3.1.0","info":{"title":"x","version":"1"},"paths":{
		"/a/{id}":{"get":{"operationId":"a","parameters":[{"$ref":"#/components/parameters/The%20Id"}],
			"responses":{"200":{"$ref":"#/components/responses/A~1B"}}}},
		"/b":{"get":{"operationId":"b","responses":{"200":{"content":{"application/json":{"schema":{"$ref":"#/paths/~1a~1%7Bid%7D/get/x-schema"}}}}}}},
		"/c":{"get":{"operationId":"c","responses":{"200":{"content":{"application/json":{"schema":{"$ref":"#/properties/body"}}}}},
			"requestBody":{"content":{"application/json":{"schema":{"$ref":"#/properties/id"}}}}}}},
		"components":{"parameters":{"The Id":{"name":"id","in":"path","schema":{"$ref":"#/components/schemas/An%20Id"}}},
		"responses":{"A/B":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Foo%20Bar%3CT%3E"}}}}},
		"schemas":{"An Id":{"type":"integer"},"Foo Bar<T>":{"type":"object","properties":{"account":{"$ref":"#/components/schemas/%53ecret"},
			"deep":{"items":{"properties":{"pin":{"$ref":"#/components/schemas/Foo%20Bar%3CT%3E/properties/account"}}}},"same":{"type":"object"}}},
			"Secret":{"type":"string","x-secret":true}}}}`
	doc = strings.Replace(doc, `"operationId":"a",`, `"operationId":"a","x-schema":{"$ref":"#/components/schemas/Foo Bar<T>"},`, 1)
	if err := os.WriteFile(filepath.Join(dir, "d.json"), []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, `{"version":1,"openapi":[{"name":"d","document":"`+filepath.Join(dir, "d.json")+`","server":"`+srv.URL+`","allow_addresses":["127.0.0.0/8"]}]}`, nil)
	s := r.Session(SessionConfig{})
	defer s.Close()
	const want = `{"account":"[REDACTED]","deep":[{"pin":"[REDACTED]"}],"plain":"w","same":{"account":"v","plain":"w"}}`
	for tool, args := range map[string]string{"a": `{"id":7}`, "b": `{}`} {
		if out, err := s.Call(t.Context(), tool, json.RawMessage(args)); string(out) != want {
			t.Errorf("%s: %s, %v", tool, out, err)
		}
	}
	if _, err := s.Call(t.Context(), "a", json.RawMessage(`{"id":"x"}`)); codeOf(err) != InvalidArgs {
		t.Errorf("an ID that is none: %v", err)
	}
	if _, err := s.Call(t.Context(), "c", json.RawMessage(`{}`)); codeOf(err) != UnknownTool {
		t.Errorf("a reference to nothing: %v", err)
	}
	if got := shape(r.tools["b"].resultText); got != `{ account?: string, deep?: any, same?: {} }` {
		t.Errorf("a model is told %s", got)
	}
}

// TestWhatAForeignResultHides: a schema that values cannot be checked against still tells what
// is secret; a tool with one that cannot be followed takes the operator's word.
func TestWhatAForeignResultHides(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"pin":"v","token":"v","next":{"pin":"v","n":"w"},"n":1}`))
	}))
	defer srv.Close()
	doc := `{"openapi":"3.0.0","info":{"title":"x","version":"1"},"components":{"schemas":{"Node":{"properties":{"pin":{"x-secret":true},"next":{"$ref":"#/components/schemas/Node"}}}}},"paths":{`
	for name, result := range map[string]string{
		"tree":   `{"$ref":"#/components/schemas/Node"}`,
		"ahead":  `{"properties":{"pin":{"x-secret":true},"n":{"pattern":"^(?!x)"}},"patternProperties":{"^(?=next)":{"properties":{"pin":{"writeOnly":true}}}}}`,
		"old":    `{"properties":{"pin":{"x-secret":true},"n":{"minimum":0,"exclusiveMinimum":true},"next":{"properties":{"pin":{"x-secret":true}}}}}`,
		"kind":   `{"properties":{"pin":{"x-secret":true,"type":"any"},"next":{"type":null,"properties":{"pin":{"x-secret":true}}}}}`,
		"lost":   `{"properties":{"pin":{"$ref":"#/components/schemas/Gone"}}}`,
		"broken": `{"properties":[{"x-secret":true}]}`,
		"word":   `{"properties":{"pin":{"x-secret":"yes"}}}`,
		"let-in": `{"properties":{"pin":{"$ref":"#pin"}}}`,
	} {
		doc += `"/` + name + `":{"get":{"operationId":"` + name + `","responses":{"200":{"content":{"application/json":{"schema":` + result + `}}}}}},`
	}
	file := filepath.Join(t.TempDir(), "d.json")
	if err := os.WriteFile(file, []byte(strings.TrimSuffix(doc, ",")+"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, `{"version":1,"openapi":[{"name":"d","document":"`+file+`","server":"`+srv.URL+`","allow_addresses":["127.0.0.0/8"],"tools":{"let-in":{"unchecked_result":true}}}]}`, nil)
	s := r.Session(SessionConfig{Level: "PERMISSIVE"})
	defer s.Close()
	const hidden = `{"n":1,"next":{"n":"w","pin":"[REDACTED]"},"pin":"[REDACTED]","token":"[REDACTED]"}`
	for tool, want := range map[string]string{"tree": hidden, "ahead": hidden, "old": hidden, "kind": hidden, "lost": "", "broken": "", "word": "",
		"let-in": `{"n":1,"next":{"n":"w","pin":"v"},"pin":"v","token":"[REDACTED]"}`} {
		out, err := s.Call(t.Context(), tool, json.RawMessage(`{}`))
		if string(out) != want || want == "" && codeOf(err) != UnknownTool {
			t.Errorf("%s: %s, %v", tool, out, err)
		}
	}
}

// TestNullBesideAReference is how generators of OpenAPI 3.0 say that a member may be null.
func TestNullBesideAReference(t *testing.T) {
	const doc = `{"openapi":"3.0.3","components":{"schemas":{"S":{"type":"object","properties":{"n":{"type":"integer"},"pin":{"x-secret":true}}}}}}`
	var whole map[string]any
	if err := json.Unmarshal([]byte(doc), &whole); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{"nullable":true,"allOf":[{"$ref":"#/components/schemas/S"}]}`,
		`{"nullable":true,"type":"object","oneOf":[{"$ref":"#/components/schemas/S"}],"discriminator":{"propertyName":"n"}}`,
		`{"nullable":true,"$ref":"#/components/schemas/S"}`,
		`{"nullable":true,"type":"object","properties":{"n":{"type":"integer"},"pin":{"x-secret":true}}}`,
	} {
		var one map[string]any
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			t.Fatal(err)
		}
		p := pruner{doc: whole, old: true}
		s, unchecked, err := foreignResult(p.schema(map[string]any{"properties": map[string]any{"a": one}}))
		if err != nil || unchecked != nil {
			t.Fatalf("%s: %v, %v", text, unchecked, err)
		}
		r, err := newRedactor("", nil)
		if err != nil {
			t.Fatal(err)
		}
		for value, fits := range map[string]bool{`null`: true, `{"n":1,"pin":"v"}`: true, `{"n":"x"}`: false, `7`: false} {
			v, err := decode([]byte(`{"a":` + value + `}`))
			if err != nil {
				t.Fatal(err)
			}
			if bad := s.check("", v); (len(bad) == 0) != fits {
				t.Errorf("%s: %s: %v", text, value, bad)
			}
			if out, _ := encode(r.hide(v, s)); strings.Contains(string(out), `"v"`) {
				t.Errorf("%s: shown: %s", text, out)
			}
		}
	}
}

func TestOpenAPIInYAML(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"name":"` + r.Method + r.URL.Path + `"}`))
	}))
	defer srv.Close()
	r := open(t, `{"version":1,"openapi":[{"name":"pets","document":"pets.yaml","server":"`+srv.URL+`","allow_addresses":["127.0.0.0/8"]}]}`, nil)
	s := r.Session(SessionConfig{})
	defer s.Close()
	if out, err := s.Call(t.Context(), "getPet", json.RawMessage(`{"petId":7}`)); string(out) != `{"name":"GET/pets/7"}` {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := s.Call(t.Context(), "putPet", json.RawMessage(`{"petId":7,"body":{}}`)); codeOf(err) != InvalidArgs {
		t.Errorf("a pet without a name: %v", err)
	}
}

func FuzzMCP(f *testing.F) {
	f.Add([]byte(`data: {"id":1,"result":{"content":[{"type":"text","text":"x"}]}}` + "\n\n"))
	f.Add([]byte(`data: {"id":1,"error":{"code":1}}` + "\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := answerIn(bufio.NewReader(strings.NewReader(string(data))), "1")
		if err == nil {
			mcpValue(out, told)
		}
	})
}

// TestALargeResultOfADocument lets the tool in where nothing that its schema reaches can call
// anything secret, and leaves it out otherwise, wherever the word stands.
func TestALargeResultOfADocument(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"pin":"w","token":"v"}`))
	}))
	defer srv.Close()
	var many strings.Builder // parts
	for i := range maxPruned * 2 / 3 {
		fmt.Fprintf(&many, `,"m%d":{"type":"string"}`, i)
	}
	long := strings.Repeat("x", MaxSchema)
	const let, out = `{"pin":"w","token":"[REDACTED]"}`, ""
	cases := map[string]struct{ schema, want string }{
		"parts":   {`{"$ref":"#/components/schemas/Parts"}`, let},
		"long":    {`{"description":"` + long + `","properties":{"next":{"$ref":"#/components/schemas/Tree"}}}`, let},
		"said":    {`{"$ref":"#/components/schemas/Parts","properties":{"pin":{"x-secret":true}}}`, out},
		"behind":  {`{"$ref":"#/components/schemas/Parts","properties":{"a":{"$ref":"#/components/schemas/Behind"}}}`, out},
		"nowhere": {`{"$ref":"#/components/schemas/Parts","properties":{"a":{"$ref":"#/components/schemas/Gone"}}}`, out},
		"remote":  {`{"$ref":"#/components/schemas/Parts","properties":{"a":{"$ref":"other.json"}}}`, out},
		"dynamic": {`{"description":"` + long + `","$dynamicRef":"#/components/schemas/Behind"}`, out},
		"yes":     {`{"description":"` + long + `","properties":{"pin":{"x-secret":"yes"}}}`, out},
	}
	doc := `{"openapi":"3.1.0","components":{"schemas":{"Parts":{"type":"array","properties":{"a":{}` + many.String() + `}},
		"Tree":{"properties":{"next":{"$ref":"#/components/schemas/Tree"}}},
		"Behind":{"items":[{"$ref":"#/components/schemas/Tree"},{"$ref":"#/components/schemas/Secret"}]},"Secret":{"writeOnly":true}}},"paths":{`
	for name, tc := range cases {
		doc += `"/` + name + `":{"get":{"operationId":"` + name + `","responses":{"200":{"content":{"application/json":{"schema":` + tc.schema + `}}}}}},`
	}
	file := filepath.Join(t.TempDir(), "d.json")
	if err := os.WriteFile(file, []byte(strings.TrimSuffix(doc, ",")+"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, `{"version":1,"openapi":[{"name":"d","document":"`+file+`","server":"`+srv.URL+`","allow_addresses":["127.0.0.0/8"]}]}`, nil)
	s := r.Session(SessionConfig{Level: "PERMISSIVE"})
	defer s.Close()
	for tool, tc := range cases {
		got, err := s.Call(t.Context(), tool, json.RawMessage(`{}`))
		if string(got) != tc.want || tc.want == "" && codeOf(err) != UnknownTool {
			t.Errorf("%s: %s, %v", tool, got, err)
		}
	}
}

// TestEveryGoodAnswerHides: what any of an operation's answers calls secret is hidden, whichever
// the server gives, and each is checked against what it may be.
func TestEveryGoodAnswerHides(t *testing.T) {
	const plain, secret = `{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}`, `{"type":"object","required":["pin"],"properties":{"pin":{"x-secret":true}}}`
	as := func(schema string) string { return `{"content":{"application/json":{"schema":` + schema + `}}}` }
	for _, tc := range []struct {
		responses string
		bad       bool // an answer of another kind is refused
	}{
		{`"200":` + as(plain) + `,"206":` + as(secret), true},
		{`"2XX":` + as(secret) + `,"201":` + as(plain), true},
		{`"200":` + as(plain) + `,"201":` + as(plain) + `,"default":` + as(secret), true},
		{`"200":{"description":"what it likes"},"202":` + as(secret), false},
		{`"204":{"description":"nothing"},"200":` + as(secret), true},
		{`"204":{"description":"nothing"},"default":` + as(secret), true},
		{`"default":` + as(secret) + `,"404":` + as(plain), true},
	} {
		doc, err := decode([]byte(`{"responses":{` + tc.responses + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		p := pruner{doc: doc.(map[string]any)}
		s, unchecked, err := foreignResult(p.schema(success(newSilence(p.doc), p.doc)))
		if err != nil || unchecked != nil {
			t.Fatalf("%s: %v, %v", tc.responses, unchecked, err)
		}
		r, err := newRedactor("", nil)
		if err != nil {
			t.Fatal(err)
		}
		v := map[string]any{"pin": "v", "n": json.Number("1")}
		if out, _ := encode(r.hide(v, s)); string(out) != `{"n":1,"pin":"[REDACTED]"}` {
			t.Errorf("%s: shown: %s", tc.responses, out)
		}
		if bad := s.check("", v); len(bad) > 0 {
			t.Errorf("%s: %v", tc.responses, bad)
		}
		if bad := s.check("", map[string]any{"other": "v"}); (len(bad) > 0) != tc.bad {
			t.Errorf("%s: another kind: %v", tc.responses, bad)
		}
	}
	for _, responses := range []string{``, `"204":{"description":"nothing"}`, `"404":` + as(secret)} {
		doc, _ := decode([]byte(`{"responses":{` + responses + `}}`))
		op := doc.(map[string]any)
		if got := success(newSilence(op), op); got != nil {
			t.Errorf("%s: %v", responses, got)
		}
	}
}
