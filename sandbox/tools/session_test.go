package tools

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
)

// ledger keeps records for tests.
type ledger struct {
	mu   sync.Mutex
	list []Record
	err  error
}

func (l *ledger) Append(_ context.Context, r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.list = append(l.list, r)
	}
	return l.err
}

func open(t *testing.T, text string, env map[string]string) *Registry {
	t.Helper()
	f, err := Load([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), f, Config{Dir: "testdata", Getenv: func(k string) string { return env[k] }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

var alice = Caller{User: "alice", Tenant: "lab"}

func TestCallsOfTheExample(t *testing.T) {
	r := open(t, example, map[string]string{"API_TOKEN": "tok-123456"})
	log := &ledger{}
	s := r.Session(SessionConfig{Run: "r1", Caller: alice, Level: "STRICT", Calls: 9, Audit: log})
	defer s.Close()
	for _, tc := range []struct {
		tool, args, want string
		code             Code
	}{
		{"users:list", `{"limit":3}`, `{"items":[{"id":1,"pin":"[REDACTED]"},{"id":2,"pin":"[REDACTED]"}]}`, ""},
		{"users:list", `{"limit":3000}`, "", InvalidArgs},
		{"users:list", `{"constructor":3}`, "", InvalidArgs},
		{"users:list", `[1]`, "", InvalidArgs},
		{"__proto__", `{}`, "", UnknownTool},
		{"mail:send", `{"to":"x","password":"hunter2"}`, `{"sent":true}`, ""},
		{"vault:read", `{}`, `"launch code"`, ""},
		{"mail:send", `{"to":"x"}`, "", SequenceRefused},
		{"db:count", `{}`, "", NoHandler},
		{"users:list", `{}`, "", TooManyCalls},
	} {
		out, err := s.Call(t.Context(), tc.tool, json.RawMessage(tc.args))
		if string(out) != tc.want || codeOf(err) != tc.code {
			t.Errorf("%s %s: %s, %v; want %s, %s", tc.tool, tc.args, out, err, tc.want, tc.code)
		}
	}
	if n := len(log.list); n != 11 { // ten results, and the intent of what was sent
		t.Errorf("%d records", n)
	}
	for _, rec := range log.list {
		if strings.Contains(string(rec.Args), "hunter2") {
			t.Errorf("a record tells a password: %s", rec.Args)
		}
	}
	if text := s.Clean("it is the launch code"); strings.Contains(text, "launch") {
		t.Errorf("others are shown what a secret tool returned: %s", text)
	}
	bob := r.Session(SessionConfig{Caller: Caller{User: "bob"}})
	defer bob.Close()
	if _, err := bob.Call(t.Context(), "mail:send", nil); codeOf(err) != Forbidden {
		t.Errorf("bob sends mail: %v", err)
	}
	if n := len(r.List(Caller{User: "bob"})); n != 4 {
		t.Errorf("bob is offered %d tools", n)
	}
}

// TestWhatIsRefused: what a run may not call, say or be told, each for a reason of its own.
func TestWhatIsRefused(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte("1"))
	}))
	defer srv.Close()
	const serve = `"serve":{"http":{"url":"SRV/x","method":"POST","allow_addresses":["127.0.0.0/8"]}}`
	r := open(t, strings.ReplaceAll(`{"version":1,"tools":[{"name":"any","serve":{"canned":{"result":"abcdef"}}},
		{"name":"theirs","tenants":["elsewhere"],"serve":{"canned":{"result":1}}}, {"name":"once","limits":{"calls":1},"serve":{"canned":{"result":1}}},
		{"name":"odd","result":{"type":"string"},`+serve+`}, {"name":"put","attributes":["writes"],`+serve+`}]}`, "SRV", srv.URL), nil)
	for _, tool := range r.Offered(alice) {
		if tool.Name == "theirs" {
			t.Error("a tool of another tenant is offered")
		}
	}
	s := r.Session(SessionConfig{Caller: alice})
	check := func(s *Session, tool, args string, want Code) {
		t.Helper()
		if out, err := s.Call(t.Context(), tool, json.RawMessage(args)); codeOf(err) != want || (err == nil) != (out != nil) {
			t.Errorf("%s %.20s: %s, %v; want %q", tool, args, out, err, want)
		}
	}
	check(s, "theirs", "", Forbidden)
	check(s, "once", "", "")
	check(s, "once", "", TooManyCalls)
	check(s, "odd", "", ResultNotSafe)
	check(s, "any", `{"a":1,"a":2}`, InvalidArgs)
	for _, args := range []string{`[1]`, `1`, `null`, `"x"`} {
		check(s, "any", args, InvalidArgs)
	}
	check(s, "any", `{"a":"`+strings.Repeat("x", MaxArgs)+`"}`, RequestTooLarge)
	s.Close()
	check(s, "any", "", Aborted)
	small := r.Session(SessionConfig{Caller: alice, Bounds: Bounds{ResultBytes: 7}})
	defer small.Close()
	check(small, "any", "", ResponseTooLarge)
	unrecorded := r.Session(SessionConfig{Caller: alice, Audit: &ledger{err: errors.New("disk full")}})
	defer unrecorded.Close()
	asked = 0
	if check(unrecorded, "put", "", AuditFailed); asked != 0 {
		t.Error("what could not be recorded was done")
	}
}

func TestNoRecordNoResult(t *testing.T) {
	r := open(t, example, map[string]string{"API_TOKEN": "tok-123456"})
	s := r.Session(SessionConfig{Caller: alice, Audit: &ledger{err: errors.New("disk full")}})
	defer s.Close()
	for _, name := range []string{"users:list", "mail:send"} {
		if out, err := s.Call(t.Context(), name, nil); codeOf(err) != AuditFailed || out != nil {
			t.Errorf("%s without a record: %s, %v", name, out, err)
		}
	}
}

// TestARunThatWasCancelledCallsNothing: its script may have caught the end of the call
// before.
func TestARunThatWasCancelledCallsNothing(t *testing.T) {
	r := open(t, `{"version":1,"tools":[{"name":"put","attributes":["writes"],"serve":{"canned":{"result":1}}}]}`, nil)
	l := &ledger{}
	s := r.Session(SessionConfig{Run: "run-1", Caller: alice, Audit: l})
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Call(ctx, "put", nil); codeOf(err) != Aborted {
		t.Errorf("%v", err)
	}
	if len(l.list) != 1 || l.list[0].Action != "tool.result" || l.list[0].Outcome != string(Aborted) {
		t.Errorf("%+v", l.list)
	}
}

func TestRatesAreOfOneUser(t *testing.T) {
	r := open(t, example, map[string]string{"API_TOKEN": "tok-123456"})
	for i, want := range []Code{"", "", RateLimited} {
		s := r.Session(SessionConfig{Caller: alice}) // rates outlive a run
		if _, err := s.Call(t.Context(), "mail:send", nil); codeOf(err) != want {
			t.Errorf("call %d: %v", i, err)
		}
		s.Close()
	}
}

func TestDeadlineAndRetriesOfATool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, `{"version":1,"tools":[
			{"name":"slow","limits":{"deadline":"1s"},"serve":{"canned":{"delay":"1h","result":1}}},
			{"name":"twice","idempotent":true,"retries":1,"serve":{"canned":{"error":"no"}}}]}`, nil)
		s := r.Session(SessionConfig{})
		began := time.Now()
		if _, err := s.Call(t.Context(), "slow", nil); codeOf(err) != TimedOut || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		began = time.Now()
		if _, err := s.Call(t.Context(), "twice", nil); codeOf(err) != Failed || time.Since(began) != retryWait {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		done := make(chan error)
		go func() { _, err := s.Call(t.Context(), "slow", nil); done <- err }()
		synctest.Wait()
		go s.Close()
		if err := <-done; codeOf(err) != Aborted {
			t.Errorf("a call of a run that ended: %v", err)
		}
		if _, err := s.Call(t.Context(), "twice", nil); codeOf(err) != Aborted {
			t.Errorf("a call after the end: %v", err)
		}
	})
}

func TestHTTPEndpoint(t *testing.T) {
	var got *http.Request
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the other host was asked") }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		switch r.URL.Path {
		case "/away/1":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/big/1":
			w.Write(make([]byte, 1<<20))
		case "/bad/1":
			http.Error(w, "open /etc/enclave/users.db: permission denied", http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"echo": r.Header.Get("Authorization"), "path": r.URL.EscapedPath(), "query": r.URL.RawQuery})
		}
	}))
	defer srv.Close()
	r := open(t, strings.ReplaceAll(`{"version":1,"secrets":{"api":{"env":"T"}},"tools":[
		{"name":"get","limits":{"result_bytes":10000},"serve":{"http":{"url":"SRV/{dir}/{id}{?full}","headers":{"Authorization":"Bearer ${api}"},"allow_addresses":["127.0.0.0/8"]}}},
		{"name":"local","serve":{"http":{"url":"SRV/x"}}}]}`, "SRV", srv.URL), map[string]string{"T": "tok-123456"})
	s := r.Session(SessionConfig{})
	defer s.Close()
	call := func(name, args string) (string, *Error) {
		out, err := s.Call(t.Context(), name, json.RawMessage(args))
		var e *Error
		errors.As(err, &e)
		return string(out), e
	}
	out, err := call("get", `{"dir":"users","id":"a/..b?x=1#y","full":true}`)
	if err != nil || got.Header.Get("Authorization") != "Bearer tok-123456" {
		t.Errorf("%v, header %q", err, got.Header.Get("Authorization"))
	}
	if want := `{"echo":"Bearer [REDACTED]","path":"/users/a%2F..b%3Fx=1%23y","query":"full=true"}`; out != want {
		t.Errorf("answer %s, want %s", out, want)
	}
	for _, tc := range []struct {
		name, args string
		code       Code
		message    string
	}{
		{"get", `{"dir":"..","id":"1"}`, InvalidArgs, "an argument would change the path of the request"},
		{"get", `{"dir":"users"}`, InvalidArgs, "argument id is missing"},
		{"get", `{"dir":"users","id":{}}`, InvalidArgs, "argument id has to be a string, a number or a boolean"},
		{"get", `{"dir":"away","id":1}`, Forbidden, "the service redirected to another host, which is not followed"},
		{"get", `{"dir":"big","id":1}`, ResponseTooLarge, "the service's answer has more than 10000 bytes"},
		{"get", `{"dir":"bad","id":1}`, Failed, "the service answered 500"},
		{"local", `{}`, Forbidden, "the service's address is not one this tool may reach"},
	} {
		if _, err := call(tc.name, tc.args); err == nil || err.Code != tc.code || err.Message != tc.message {
			t.Errorf("%s %s: %v", tc.name, tc.args, err)
		}
	}
}

func TestReferences(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	r := open(t, `{"version":1,"tools":[
		{"name":"long","serve":{"canned":{"result":{"text":"`+long+`","n":1}}}},
		{"name":"take","arguments":{"type":"object","properties":{"text":{"type":"string","minLength":71680}}},"serve":{"canned":{"result":true}}}]}`, nil)
	s := r.Session(SessionConfig{Level: "STRICT"})
	defer s.Close()
	var res struct{ Text string }
	out, err := s.Call(t.Context(), "long", nil)
	if err != nil || json.Unmarshal(out, &res) != nil || !refPattern.MatchString(res.Text) || len(out) > 200 {
		t.Fatalf("%.200s, %v", out, err)
	}
	for _, tc := range []struct {
		args string
		code Code
	}{
		{`{"text":"` + res.Text + `"}`, ""},
		{`{"text":"a` + res.Text + `"}`, RefFailed}, // joining is for higher levels
		{`{"text":"__REF_00000000-0000-4000-8000-000000000000__"}`, RefFailed},
		{`{"more":[[[[[["` + res.Text + `"]]]]]]}`, RefLimit},
		{`{"more":["` + strings.Repeat(res.Text+`","`, 200) + `"]}`, RefLimit},
	} {
		if _, err := s.Call(t.Context(), "take", json.RawMessage(tc.args)); codeOf(err) != tc.code {
			t.Errorf("%.80s: %v, want %q", tc.args, err, tc.code)
		}
	}
	for range 60 {
		_, err = s.Call(t.Context(), "long", nil)
	}
	if codeOf(err) != RefLimit {
		t.Errorf("beyond the count: %v", err)
	}
}

// loop is an overlay whose every name is a server on this machine.
type loop struct{ addr string }

func (l loop) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, l.addr)
}

func TestOverlayService(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 100)
			n, _ := c.Read(b)
			c.Write([]byte(strings.ToUpper(string(b[:n])) + "more"))
			c.Close()
		}
	}()
	r := open(t, `{"version":1,"tools":[{"name":"shout","serve":{"overlay":{"tcp":"shout.enclave:7","until":"line"}}}]}`, nil)
	s := r.Session(SessionConfig{Overlay: loop{ln.Addr().String()}})
	defer s.Close()
	if out, err := s.Call(t.Context(), "shout", json.RawMessage(`{"data":"hello"}`)); string(out) != `"HELLO"` {
		t.Errorf("%s, %v", out, err)
	}
}

func TestPublicAddresses(t *testing.T) {
	for _, a := range []string{"127.0.0.1:1", "10.1.2.3:1", "169.254.169.254:80", "[::1]:1", "[fe80::1]:1", "[fd00::1]:1", "0.0.0.0:1", "100.64.0.1:1",
		"[::ffff:127.0.0.1]:1", "[64:ff9b::7f00:1]:1", "224.0.0.1:1", "255.255.255.255:1"} {
		if _, err := guarded(nil)(t.Context(), "tcp", a); !errors.Is(err, errGuarded) {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestRedactionFollowsTheSchema(t *testing.T) {
	s, err := compile([]byte(`{"properties":{"next_token":{"x-secret":false,"type":"string"},"note":{"$ref":"#/$defs/s"},
		"list":{"items":{"anyOf":[{"type":"string"},{"properties":{"deep":{"writeOnly":true}}}]}}},"$defs":{"s":{"x-secret":true}}}`), false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRedactor("", []string{"topsecretvalue"})
	if err != nil {
		t.Fatal(err)
	}
	v, _ := decode([]byte(`{"next_token":"n","note":{"a":1},"list":[{"deep":1,"other":2}],"api_key":"k","userPassword":"p","keyboard":"qwerty","shipping":"dhl","text":"a topsecretvalue b"}`))
	out, _ := encode(r.hide(v, s))
	want := `{"api_key":"[REDACTED]","keyboard":"qwerty","list":[{"deep":"[REDACTED]","other":2}],"next_token":"n","note":"[REDACTED]","shipping":"dhl","text":"a [REDACTED] b","userPassword":"[REDACTED]"}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

// watcher notes what it is told.
type watcher struct {
	mu  sync.Mutex
	log []string
}

func (w *watcher) note(s string) { w.mu.Lock(); w.log = append(w.log, s); w.mu.Unlock() }

func (w *watcher) ToolCall(_ uint64, tool string, _ json.RawMessage) { w.note(tool) }
func (w *watcher) ToolProgress(_ uint64, _ string, p Phase, _ int64) { w.note(string(p)) }
func (w *watcher) ToolResult(_ uint64, _ string, code Code, _ time.Duration) {
	w.note("end" + string(code))
}
func (w *watcher) Output(l sandbox.Line) { w.note(l.Text) }

func TestAnObserverSeesACallFromStartToEnd(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }))
	defer srv.Close()
	r := open(t, `{"version":1,"secrets":{"k":{"env":"K"}},"tools":[{"name":"get","serve":{"http":{"url":"`+srv.URL+`/","allow_addresses":["127.0.0.1/32"]}}}]}`, map[string]string{"K": "key-123456"})
	s := r.Session(SessionConfig{})
	defer s.Close()
	w := &watcher{}
	b := &Broker{Session: s, Observer: w}
	if out, err := b.CallTool(t.Context(), sandbox.Call{ID: 1, Name: "get", Args: json.RawMessage(`{}`)}); err != nil || string(out) != `"ok"` {
		t.Errorf("%s, %v", out, err)
	}
	b.Output(sandbox.Line{Text: "it is key-123456"})
	// Writing and reading are two goroutines of the client, so the middle has no order.
	got := strings.Join(w.log, " ")
	if !strings.HasPrefix(got, "get connecting sending ") || !strings.Contains(got, "receiving") || !strings.HasSuffix(got, " end it is [REDACTED]") {
		t.Errorf("saw %s", got)
	}
}
