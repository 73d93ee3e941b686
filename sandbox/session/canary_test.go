package session

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"enclave/sandbox"
	"enclave/sandbox/tools"
)

type rows struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *rows) Append(_ context.Context, rec tools.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return json.NewEncoder(&r.text).Encode(rec)
}

func (r *rows) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *rows) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// TestNoSecretIsShown has every kind of secret come back in every way that a service and
// a script have, and looks for it in what anybody but the script can see.
func TestNoSecretIsShown(t *testing.T) {
	const (
		operators = "canary-operator-0123456789" // of tools.json, in a header
		argument  = "canary-argument-0123456789" // x-secret of the arguments
		answer    = "canary-answer-0123456789"   // x-secret of the result
		returned  = "canary-returned-0123456789" // what a tool with the attribute secret returns
	)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := r.Header.Get("Authorization") + " " + r.URL.String() + " " + answer
		switch r.URL.Path {
		case "/fail":
			http.Error(w, said, http.StatusInternalServerError)
		case "/away":
			http.Redirect(w, r, "http://elsewhere.example/?x="+said, http.StatusFound)
		case "/broken":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, said)
		case "/nojson":
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{"+said)
		case "/vault":
			json.NewEncoder(w).Encode(map[string]any{"code": returned, "list": []string{returned + "-two"}})
		default:
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"hidden": answer, "echo": r.Header.Get("Authorization") + " " + r.URL.Query().Get("text"), "wrong": r.URL.Path == "/misfit"})
		}
	}))
	defer srv.Close()
	tool := func(name, attributes string) string {
		return `{"name":"` + name + `","attributes":[` + attributes + `],"arguments":{"type":"object","properties":{"pin":{"type":"string","x-secret":true,"maxLength":100},"text":{"type":"string"}}},
			"result":{"properties":{"hidden":{"x-secret":true},"wrong":{"const":false}}},
			"serve":{"http":{"url":"` + srv.URL + `/` + name + `{?pin,text}","headers":{"Authorization":"Bearer ${k}"},"allow_addresses":["127.0.0.0/8"]}}}`
	}
	names := []string{"good", "fail", "away", "broken", "nojson", "misfit"}
	list := []string{tool("vault", `"reads","secret"`), `{"name":"gone","arguments":{"properties":{"pin":{"x-secret":true}}},"serve":{"http":{"url":"http://127.0.0.1:1/{pin}","allow_addresses":["127.0.0.0/8"]}}}`}
	for _, name := range names {
		list = append(list, tool(name, `"reads","sends"`))
	}
	f, err := tools.Load([]byte(`{"version":1,"secrets":{"k":{"env":"K"}},"tools":[` + strings.Join(list, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	seen, audit := &rows{}, &rows{}
	log := slog.New(slog.NewJSONHandler(seen, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg, err := tools.Open(t.Context(), f, tools.Config{Logger: log, Getenv: func(string) string { return operators }})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	script := func(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
		id, texts := uint64(0), []string{}
		call := func(name string, args map[string]any) string {
			id++
			text, _ := json.Marshal(args)
			out, err := b.CallTool(ctx, sandbox.Call{ID: id, Name: name, Args: text})
			if err != nil {
				texts = append(texts, err.Message)
			}
			return string(out)
		}
		secret := call("vault", map[string]any{"pin": argument})
		if !strings.Contains(secret, returned) {
			t.Errorf("the script itself does not get it: %s", secret)
		}
		for _, name := range append(names, "gone") {
			out := call(name, map[string]any{"pin": argument, "text": "take " + returned + "-two along"})
			if strings.Contains(out, operators) || strings.Contains(out, answer) {
				t.Errorf("%s shows the script %s", name, out)
			}
			call(name, map[string]any{"pin": strings.Repeat(argument, 20), "password": argument})
		}
		if len(texts) < 8 {
			t.Errorf("only %d calls failed: %q", len(texts), texts)
		}
		b.Output(sandbox.Line{Stream: sandbox.StreamOut, Text: "it is " + returned})
		b.Output(sandbox.Line{Stream: sandbox.StreamErr, Text: operators})
		return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeScript, "%s, %s", returned, strings.Join(texts, " "))}
	}
	tok, err := ParseTokens([]byte(aliceToken + " alice@lab"))
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Host: &Host{Runner: puppet(script), Tools: reg, Audit: audit, Logger: log}, Tokens: tok, Logger: log})
	defer s.Close()
	events := do(t, s.Handler(), "POST", "/sessions", aliceToken, `{"code":"1","partial":true}`).Body.String()
	for where, text := range map[string]string{"the events": events, "the records": audit.String(), "the log": seen.String()} {
		if text == "" {
			t.Errorf("nothing in %s", where)
		}
		for _, canary := range []string{operators, argument, answer, returned} {
			if i := strings.Index(text, canary); i >= 0 {
				t.Errorf("%s show %s: …%s…", where, canary, text[max(0, i-200):min(len(text), i+60)])
			}
		}
	}
}
