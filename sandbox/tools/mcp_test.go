package tools

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
