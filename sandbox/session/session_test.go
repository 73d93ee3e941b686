package session

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/tools"
)

// puppet is a runner whose runs do what the test says.
type puppet func(ctx context.Context, spec sandbox.Spec, b sandbox.Broker) sandbox.Result

func (p puppet) Run(ctx context.Context, spec sandbox.Spec, b sandbox.Broker) sandbox.Result {
	return p(ctx, spec, b)
}

const someTools = `{"version":1,"tools":[{"name":"users:list","serve":{"canned":{"result":{"items":[1,2,3]}}}},
	{"name":"slow","limits":{"deadline":"10m"},"serve":{"canned":{"delay":"1h"}}},{"name":"bobs","users":["bob"],"serve":{"canned":{}}}]}`

const (
	aliceToken = "alice-token-0123456789"
	bobToken   = "bob-token-012345678901"
)

func server(t *testing.T, p puppet, change func(*Config)) *Server {
	t.Helper()
	f, err := tools.Load([]byte(someTools))
	if err != nil {
		t.Fatal(err)
	}
	r, err := tools.Open(t.Context(), f, tools.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := ParseTokens([]byte("# comment\n" + aliceToken + " alice@lab\n" + bobToken + " bob@lab\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Host: &Host{Runner: p, Tools: r}, Tokens: tok}
	if change != nil {
		change(&cfg)
	}
	s := New(cfg)
	t.Cleanup(func() { s.Close() })
	return s
}

// one is a run that calls a tool, prints and returns.
func one(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
	b.Output(sandbox.Line{Stream: sandbox.StreamOut, Text: "hello"})
	out, err := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "users:list", Args: json.RawMessage(`{"password":"hunter2"}`)})
	if err != nil {
		return sandbox.Result{Error: err}
	}
	return sandbox.Result{OK: true, Value: out, Stats: sandbox.Stats{ToolCalls: 1}}
}

func do(t *testing.T, s http.Handler, method, path, token, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func eventsOf(t *testing.T, body string) (out []Event) {
	t.Helper()
	sc := bufio.NewScanner(strings.NewReader(body))
	for sc.Scan() {
		var e Event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			t.Fatalf("%q: %v", sc.Text(), err)
		}
		out = append(out, e)
	}
	return out
}

func types(list []Event) string {
	var names []string
	for _, e := range list {
		names = append(names, fmt.Sprintf("%d %s", e.Seq, e.Type))
	}
	return strings.Join(names, ", ")
}

func TestASessionFromStartToEnd(t *testing.T) {
	s := server(t, one, nil).Handler()
	w := do(t, s, "POST", "/sessions", aliceToken, `{"code":"return 1","level":"STRICT"}`)
	list := eventsOf(t, w.Body.String())
	want := "1 session_init, 2 stdout, 3 tool_call, 4 tool_result_applied, 5 final"
	if got := types(list); w.Code != 200 || got != want {
		t.Fatalf("%d %s\nwant %s", w.Code, got, want)
	}
	if strings.Contains(w.Body.String(), "hunter2") {
		t.Error("the stream tells a password")
	}
	var final FinalPayload
	if err := json.Unmarshal(list[4].Payload, &final); err != nil || !final.OK || string(final.Result) != `{"items":[1,2,3]}` {
		t.Errorf("%s, %v", list[4].Payload, err)
	}
	path := "/sessions/" + list[0].Session
	if got := types(eventsOf(t, do(t, s, "GET", path+"/stream?fromSeq=4", aliceToken, "").Body.String())); got != "4 tool_result_applied, 5 final" {
		t.Errorf("replay: %s", got)
	}
	sse := do(t, s, "GET", path+"/stream", aliceToken, "", "Accept", "text/event-stream", "Last-Event-ID", "4").Body.String()
	if !strings.HasPrefix(sse, "id: 5\nevent: final\ndata: {") || !strings.HasSuffix(sse, "}\n\n") {
		t.Errorf("as server-sent events: %q", sse)
	}
	for _, tc := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", path, "", 401}, {"PUT", "/sessions", aliceToken, 404}, {"GET", path, "wrong-token-0123456789", 401}, {"GET", path, bobToken, 404}, {"DELETE", path, bobToken, 404},
		{"GET", path, aliceToken, 200}, {"GET", path + "/stream?fromSeq=x", aliceToken, 400}, {"GET", "/sessions/s_none", aliceToken, 404}, {"GET", "/nothing", aliceToken, 404},
	} {
		if w := do(t, s, tc.method, tc.path, tc.token, ""); w.Code != tc.status {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
	if w := do(t, s, "GET", "/sessions", bobToken, ""); strings.TrimSpace(w.Body.String()) != `{"sessions":[]}` {
		t.Errorf("bob sees %s", w.Body)
	}
	if w := do(t, s, "GET", "/tools", aliceToken, ""); strings.Contains(w.Body.String(), "bobs") {
		t.Errorf("alice is offered bob's tool: %s", w.Body)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	s := server(t, one, func(c *Config) { c.Level = sandbox.Secure; c.Tags = []string{"ai"} }).Handler()
	for body, status := range map[string]int{
		`{"code":"  "}`: 400, `{"code":"1","more":1}`: 400, `{"code":"1","code":"2"}`: 400, `{"code":"1","level":"NONE"}`: 400,
		`{"code":"1","level":"PERMISSIVE"}`: 403, `{"code":"1","level":"strict"}`: 200, `{"code":"1","tags":["admin"]}`: 403, `{"code":"1","tags":["A B"]}`: 400,
		`{"code":"1","tags":["ai"]}`: 200, `{"code":"1","limits":{"timeoutMs":-1}}`: 400, `{"sealed":{"sessionId":"s_1","seq":1,"payload":{}}}`: 403,
		`{"code":"` + strings.Repeat("x", maxBody) + `"}`: 413,
	} {
		if w := do(t, s, "POST", "/sessions", aliceToken, body); w.Code != status {
			t.Errorf("%.60s: %d %.200s", body, w.Code, w.Body)
		}
	}
	if w := do(t, s, "POST", "/sessions", aliceToken, `{"code":"1"}`, "Content-Type", "text/plain"); w.Code != 415 {
		t.Errorf("as text: %d", w.Code)
	}
}

// TestStreamsAreBoundedByTenant: who may read no further stream starts no run blindly.
func TestStreamsAreBoundedByTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := 0
		s := server(t, func(ctx context.Context, _ sandbox.Spec, _ sandbox.Broker) sandbox.Result {
			started++
			<-ctx.Done()
			return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeCancelled, "ended")}
		}, func(c *Config) { c.Limits.Streams = 2 })
		h := s.Handler()
		var in Info
		json.Unmarshal(do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`, "Accept", "application/json").Body.Bytes(), &in)
		ended := make(chan int, 2)
		for range cap(ended) {
			go func() { ended <- do(t, h, "GET", in.StreamURL, aliceToken, "").Code }()
		}
		synctest.Wait()
		if w := do(t, h, "GET", in.StreamURL, aliceToken, ""); w.Code != 429 || !strings.Contains(w.Body.String(), "TOO_MANY_STREAMS") {
			t.Errorf("a third: %d %s", w.Code, w.Body)
		}
		if w := do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`); w.Code != 429 || started != 1 {
			t.Errorf("with a run: %d, %d started", w.Code, started)
		}
		do(t, h, "DELETE", "/sessions/"+in.ID, aliceToken, "")
		<-ended
		<-ended
		if w := do(t, h, "GET", in.StreamURL, aliceToken, ""); w.Code != 200 || len(s.streams) > 0 {
			t.Errorf("when they have ended: %d, %v", w.Code, s.streams)
		}
	})
}

func TestCancelAndLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
			_, err := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "slow"})
			<-ctx.Done()
			return sandbox.Result{Error: err}
		}
		s := server(t, hang, func(c *Config) { c.Level = sandbox.Permissive })
		h := s.Handler()
		var in Info
		w := do(t, h, "POST", "/sessions", aliceToken, `{"code":"1","level":"PERMISSIVE"}`, "Accept", "application/json")
		if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil || w.Code != 201 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		synctest.Wait()
		if w := do(t, h, "GET", "/sessions/"+in.ID, aliceToken, ""); !strings.Contains(w.Body.String(), "waiting_for_tool") {
			t.Errorf("%s", w.Body)
		}
		do(t, h, "POST", in.CancelURL, aliceToken, "")
		list := eventsOf(t, do(t, h, "GET", in.StreamURL, aliceToken, "").Body.String())
		if got := types(list); got != "1 session_init, 2 tool_call, 3 tool_result_applied, 4 final" || !strings.Contains(string(list[3].Payload), `"CANCELLED"`) {
			t.Errorf("cancelled: %s %s", got, list[len(list)-1].Payload)
		}
		// A life ends by itself; heartbeats come meanwhile and take no number.
		began := time.Now()
		list = eventsOf(t, do(t, h, "POST", "/sessions", aliceToken, `{"code":"1","level":"PERMISSIVE","limits":{"sessionTtlMs":40000}}`).Body.String())
		want := "1 session_init, 2 tool_call, 2 heartbeat, 2 heartbeat, 3 tool_result_applied, 4 deadline_exceeded, 5 final"
		if got := types(list); got != want || time.Since(began) != 40*time.Second || !strings.Contains(string(list[6].Payload), `"TIMEOUT"`) {
			t.Errorf("after %v: %s %s", time.Since(began), got, list[len(list)-1].Payload)
		}
		s.forget(time.Now().Add(2 * time.Minute))
		if w := do(t, h, "GET", in.StreamURL, aliceToken, ""); w.Code != 404 {
			t.Errorf("kept after its retention: %d", w.Code)
		}
	})
}

func TestAReaderThatFellBehindIsTold(t *testing.T) {
	l := NewLog("s_1", 10, 1<<20, nil)
	for i := range 25 {
		l.Append(TypeStdout, StdoutPayload{fmt.Sprint(i)})
	}
	l.Append(TypeFinal, FinalPayload{OK: true})
	l.Append(TypeStdout, StdoutPayload{"after the end"})
	events, lost, ended, _ := l.Read(3)
	if len(events) != 10 || events[0].Seq != 17 || events[9].Type != TypeFinal || lost != 16 || !ended {
		t.Errorf("%s, lost %d, ended %v", types(events), lost, ended)
	}
	s := server(t, func(_ context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
		for range 50 {
			b.Output(sandbox.Line{Text: "line"})
		}
		return sandbox.Result{OK: true}
	}, func(c *Config) { c.Limits.Events = 5 })
	list := eventsOf(t, do(t, s.Handler(), "POST", "/sessions", aliceToken, `{"code":"1"}`).Body.String())
	id := list[0].Session
	list = eventsOf(t, do(t, s.Handler(), "GET", "/sessions/"+id+"/stream", aliceToken, "").Body.String())
	if got := types(list); got != "47 error, 48 stdout, 49 stdout, 50 stdout, 51 stdout, 52 final" {
		t.Errorf("%s", got)
	}
}

func TestTenantsWaitForThemselvesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &Queue{All: 3, Tenant: 2, Waiting: 1}
		enter := func(tenant string) (func(), error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return q.Enter(ctx, tenant)
		}
		a1, _ := enter("a")
		a2, _ := enter("a")
		waits := make(chan error)
		go func() { _, err := enter("a"); waits <- err }()
		synctest.Wait()
		if _, err := enter("a"); err != ErrFull {
			t.Errorf("a fourth: %v", err)
		}
		b1, err := enter("b")
		if err != nil {
			t.Errorf("another tenant: %v", err)
		}
		a1()
		if err := <-waits; err != nil {
			t.Errorf("the one that waited: %v", err)
		}
		a2()
		b1()
		if err := func() error { _, err := enter("c"); return err }(); err != nil {
			t.Error(err)
		}
	})
}

func TestTokenFiles(t *testing.T) {
	for _, text := range []string{"short alice", aliceToken, aliceToken + " a b", aliceToken + " al/ice",
		aliceToken + " alice tomorrow", aliceToken + " alice 2026-12-31T18:00:00Z x", aliceToken + " alice\n" + aliceToken + " bob",
		strings.Repeat("x", minToken-1) + " alice", aliceToken + " alice@a/b", aliceToken + " alice@", aliceToken + " @lab", aliceToken + " alice 0001-01-01T00:00:00Z",
		"#" + strings.Repeat("x\n#", maxTokenFile/3+1)} {
		if _, err := ParseTokens([]byte(text)); err == nil {
			t.Errorf("took %.99q", text)
		} else if strings.Contains(err.Error(), aliceToken) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(aliceToken+" alice\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTokens(file); err == nil {
		t.Error("took a file that others can read")
	}
	os.Chmod(file, 0o600)
	tok, err := ReadTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	set, _, _ := bearers(nil).replaced(tok.list, time.Now(), false)
	if by := set.whose("Bearer "+aliceToken, time.Now()); by == nil || by.who != (tools.Caller{User: "alice", Tenant: "default"}) {
		t.Errorf("%v", by)
	}
	if set.whose("bearer  "+aliceToken, time.Now()) == nil {
		t.Error("the scheme's case matters")
	}
	if set.whose(aliceToken, time.Now()) != nil || set.whose("Basic "+aliceToken, time.Now()) != nil {
		t.Error("took a token that is no bearer's")
	}
}

func FuzzTokens(f *testing.F) {
	f.Add([]byte(aliceToken + " alice@lab\n# x\n"))
	f.Add([]byte(aliceToken + " alice 2026-12-31T18:00:00Z\n" + bobToken + " bob"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tok, err := ParseTokens(text)
		if err != nil {
			return
		}
		// What counts once is the same twice, and empties into nothing.
		now := time.Unix(1<<31, 0)
		set, _, _ := bearers(nil).replaced(tok.list, now, false)
		if len(set) != tok.Accepted(now) {
			t.Fatalf("%d of %d are accepted", len(set), tok.Accepted(now))
		}
		if again, gone, change := set.replaced(tok.list, now, false); len(again) != len(set) || gone != nil || change != nil {
			t.Fatalf("the same file changes %+v", change)
		}
		if left, gone, _ := set.replaced(nil, now, false); len(left) != 0 || len(gone) != len(set) {
			t.Fatal("an empty file leaves somebody")
		}
	})
}

func FuzzCreate(f *testing.F) {
	f.Add(`{"code":"return 1","level":"STRICT","limits":{"timeoutMs":1},"tags":["a"],"join":false}`)
	f.Add(`{"sealed":{"sessionId":"s_1","seq":1,"payload":{"kid":"1","nonceB64":"","ciphertextB64":""}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		tok, _ := ParseTokens([]byte(aliceToken + " alice"))
		file, _ := tools.Load([]byte(`{"version":1}`))
		reg, _ := tools.Open(t.Context(), file, tools.Config{})
		s := New(Config{Host: &Host{Runner: puppet(one), Tools: reg}, Tokens: tok})
		defer s.Close()
		if w := do(t, s.Handler(), "POST", "/sessions", aliceToken, body+" "); w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
