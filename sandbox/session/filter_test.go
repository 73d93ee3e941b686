package session

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func TestFilters(t *testing.T) {
	call := Event{Type: TypeCall, Payload: json.RawMessage(`{"callId":"c_1","toolName":"users:list","args":{"path":"/a/b"}}`)}
	out := Event{Type: TypeStdout, Payload: json.RawMessage(`{"chunk":"Hello\n"}`)}
	final := Event{Type: TypeFinal, Payload: json.RawMessage(`{}`)}
	rules := func(mode, rest string) string { return `{"mode":"` + mode + `","rules":[` + rest + `]}` }
	content := func(p string) string { return `{"content":{"patterns":[` + p + `]}}` }
	for _, tc := range []struct {
		text      string
		call, out bool
	}{
		{"stdout", false, true},
		{"stdout, tool_call", true, true},
		{"-stdout", true, false},
		{"-log,-tool_call", false, true},
		{rules("include", `{"types":{"types":["tool_call"]}}`), true, false},
		{rules("exclude", content(`{"type":"prefix","pattern":"users:","field":"payload.toolName"}`)), false, true},
		{rules("include", content(`{"type":"exact","pattern":"hello\n","field":"payload.chunk","caseInsensitive":true}`)), false, true},
		{rules("include", content(`{"type":"regex","pattern":"Hel+o"}`)), false, true},
		{rules("include", content(`{"type":"glob","pattern":"/*","field":"payload.args.path"}`)), false, false},
		{rules("include", content(`{"type":"glob","pattern":"/**","field":"payload.args.path"}`)), true, false},
		{rules("include", content(`{"type":"exact","pattern":"tool_call","field":"type"}`)), true, false},
		{rules("include", `{"types":{"types":["stdout"]},"content":{"match":"all","patterns":[{"type":"regex","pattern":"H"},{"type":"regex","pattern":"x"}]}}`), false, false},
		{rules("include", content(`{"type":"exact","pattern":"x","field":"payload.chunk.deeper"}`)), false, false},
	} {
		f, err := ParseFilter(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if f.Passes(call) != tc.call || f.Passes(out) != tc.out || !f.Passes(final) {
			t.Errorf("%s: call %v, out %v, final %v", tc.text, f.Passes(call), f.Passes(out), f.Passes(final))
		}
	}
	for _, text := range []string{"", "stdot", "stdout,-log", "{", `{}`, rules("both", `{"types":{"types":[]}}`), rules("include", `{}`), rules("include", ``),
		rules("include", content(`{"type":"regex","pattern":"("}`)), rules("include", content(`{"type":"like","pattern":"x"}`)), rules("include", `{"types":{"types":["x"]}}`),
		strings.Repeat("log,", 2000) + "log"} {
		if _, err := ParseFilter(text); err == nil {
			t.Errorf("took %.60q", text)
		}
	}
}

func TestAReaderGetsWhatItsFilterPasses(t *testing.T) {
	s := server(t, one, nil).Handler()
	w := do(t, s, "POST", "/sessions?filter="+url.QueryEscape("-tool_call,-tool_progress"), aliceToken, `{"code":"1"}`)
	list := eventsOf(t, w.Body.String())
	if got := types(list); got != "1 session_init, 2 stdout, 4 tool_result_applied, 5 final" {
		t.Errorf("%d %s", w.Code, got)
	}
	path := "/sessions/" + list[0].Session + "/stream"
	if got := types(eventsOf(t, do(t, s, "GET", path+"?fromSeq=2&filter=stdout", aliceToken, "").Body.String())); got != "2 stdout, 5 final" {
		t.Errorf("replay: %s", got)
	}
	for _, at := range []string{path + "?filter=nothing", "/sessions?filter=nothing"} {
		method := map[bool]string{true: "POST", false: "GET"}[strings.HasPrefix(at, "/sessions?")]
		if w := do(t, s, method, at, aliceToken, map[string]string{"POST": `{"code":"1"}`}[method]); w.Code != 400 || !strings.Contains(w.Body.String(), "is no type of event") {
			t.Errorf("%s: %d %s", at, w.Code, w.Body)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("stdout,log", `{"chunk":"x"}`)
	f.Add(`{"mode":"include","rules":[{"content":{"patterns":[{"type":"glob","pattern":"**a?*","field":"payload.a.b"}]}}]}`, `{"a":{"b":"xay"}}`)
	f.Fuzz(func(t *testing.T, text, payload string) {
		p, err := ParseFilter(text)
		if err != nil {
			return
		}
		p.Passes(Event{Type: TypeStdout, Payload: json.RawMessage(payload)})
		if !p.Passes(Event{Type: TypeFinal}) {
			t.Fatal("a final event was held back")
		}
	})
}
