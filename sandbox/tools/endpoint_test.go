package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/score"
	"enclave/wire"
)

// TestURLsOfATool: a template names one host and one place below it, whatever its
// arguments are.
func TestURLsOfATool(t *testing.T) {
	for _, bad := range []string{"", "h/x", "//h/x", "ftp://h/x", "file:///x", "http://", "http:///x", "http://:80/x", "http://u@h/x", "http://u:p@h/x",
		"http://h#x/", "http://h\\x/", "http://{h}/x", "http://a{h}/x", "http://h{x}", "http://h{?a", "http://h{?a}b", "http://h/{?a}/b", "http://h/{a",
		"http://h/a}", "http://h/{}", "http://h/{a b}", "http://h/{?}", "http://h/{?a,}", "http://h/a b", "http://h/#x", "http://h/\\x", "http://h/%zz",
		"http://h/x?q=%zz", "http://h/x?q={-}", "http://h/\t", "http://h/x?q=\n"} {
		if u, err := parseTemplate(bad); err == nil {
			t.Errorf("%q: taken, %+v", bad, u)
		}
	}
	for _, c := range []struct{ url, args, want, rest string }{
		{"http://h", `{}`, "http://h", `{}`},
		{"https://h:8443/", `{"a":1}`, "https://h:8443/", `{"a":1}`},
		{"http://h{?a}", `{"a":"x","b":"y"}`, "http://h?a=x", `{"b":"y"}`},
		{"http://h/{a}/b{c}d/{e}", `{"a":"x y","c":1.50,"e":true}`, "http://h/x%20y/b1.50d/true", `{}`},
		{"http://h/{a}", `{"a":"x/y?z#&=%"}`, "http://h/x%2Fy%3Fz%23&=%25", `{}`},
		{"http://h/%7Ea/{a}", `{"a":"..x"}`, "http://h/%7Ea/..x", `{}`},
		{"http://h/{a}...", `{"a":"."}`, "http://h/....", `{}`},
		{"http://h/x?q={a}&r={b}", `{"a":"x&y=z","b":"u v","c":null}`, "http://h/x?q=x%26y%3Dz&r=u+v", `{"c":null}`},
		{"http://h/x?q={a}{?b,c}", `{"a":"..","b":["1","x&y"],"d":0}`, "http://h/x?q=..&b=1&b=x%26y", `{"d":0}`},
		{"http://h/x{?b,c}", `{"b":null,"c":[]}`, "http://h/x", `{}`},
	} {
		u, err := parseTemplate(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		v, _ := decode([]byte(c.args))
		got, rest, err := u.expand(v.(map[string]any))
		left, _ := encode(rest)
		if err != nil || got != c.want || string(left) != c.rest {
			t.Errorf("%s with %s: %s and %s left, %v; want %s and %s", c.url, c.args, got, left, err, c.want, c.rest)
		}
	}
	for _, c := range []struct{ url, args string }{
		{"http://h/{a}/x", `{"a":"."}`}, {"http://h/{a}/x", `{"a":".."}`}, {"http://h/{a}", `{"a":"../admin"}`}, {"http://h/{a}", `{"a":"x/../../admin"}`},
		{"http://h/{a}", `{"a":"..\\admin"}`}, {"http://h/{a}{b}", `{"a":".","b":"."}`}, {"http://h/{a}./x", `{"a":"."}`}, {"http://h/%2e{a}", `{"a":"."}`},
		{"http://h/{a}", `{}`}, {"http://h/{a}", `{"a":""}`}, {"http://h/{a}", `{"a":null}`}, {"http://h/{a}", `{"a":["x"]}`},
		{"http://h/?q={a}", `{"a":""}`}, {"http://h/?q={a}", `{"a":{}}`}, {"http://h/{?a}", `{"a":{}}`}, {"http://h/{?a}", `{"a":[["x"]]}`},
	} {
		u, err := parseTemplate(c.url)
		if err != nil {
			t.Fatal(c.url, err)
		}
		v, _ := decode([]byte(c.args))
		if got, _, err := u.expand(v.(map[string]any)); codeOf(err) != InvalidArgs {
			t.Errorf("%s with %s: %s, %v", c.url, c.args, got, err)
		}
	}
}

// TestRequestsOfATool: each argument is in one place, and what the operator set is not the
// script's to change.
func TestRequestsOfATool(t *testing.T) {
	for name, c := range map[string]struct {
		e       endpoint
		args    string
		body    string // "none" is no body at all
		headers string
	}{
		"read":            {endpoint{method: "GET"}, `{"id":"1","more":2}`, "none", ""},
		"write":           {endpoint{method: "POST"}, `{"id":"1","more":"<2>"}`, `{"more":"<2>"}`, "Content-Type=application/json"},
		"change":          {endpoint{method: "PATCH"}, `{"id":"1"}`, `{}`, "Content-Type=application/json"},
		"delete":          {endpoint{method: "DELETE"}, `{"id":"1","more":2}`, "none", ""},
		"a whole body":    {endpoint{method: "PUT", body: "b"}, `{"id":"1","b":[1],"c":2}`, `[1]`, "Content-Type=application/json"},
		"no body":         {endpoint{method: "PUT", body: "b"}, `{"id":"1","c":2}`, "none", ""},
		"a header":        {endpoint{method: "POST", spread: map[string]string{"h": "X-H", "i": "X-I"}}, `{"id":"1","h":"v"}`, `{}`, "Content-Type=application/json X-H=v"},
		"ours count more": {endpoint{method: "GET", spread: map[string]string{"h": "Authorization", "i": "Enclave-Run", "j": "Accept"}, headers: map[string]string{"Authorization": "secret"}}, `{"id":"1","h":"mine","i":"other","j":"x"}`, "none", "Authorization=secret"},
	} {
		var err error
		if c.e.url, err = parseTemplate("http://h/{id}"); err != nil {
			t.Fatal(err)
		}
		v, _ := decode([]byte(c.args))
		req, err := c.e.request(t.Context(), v.(map[string]any), callInfo{run: "r1"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body := []byte("none")
		if req.Body != nil {
			body, _ = io.ReadAll(req.Body)
		}
		var seen []string
		for _, h := range []string{"Authorization", "Content-Type", "X-H", "X-I"} {
			if v := req.Header.Values(h); v != nil {
				seen = append(seen, h+"="+strings.Join(v, ","))
			}
		}
		if req.Method != c.e.method || req.URL.String() != "http://h/1" || string(body) != c.body || strings.Join(seen, " ") != c.headers ||
			req.Header.Get("Accept") != "application/json" || req.Header.Get("User-Agent") != "enclave-sandbox" || req.Header.Get("Enclave-Run") != "r1" {
			t.Errorf("%s: %s %s %s %v", name, req.Method, req.URL, body, req.Header)
		}
	}
	e := endpoint{method: "GET", spread: map[string]string{"h": "X-H"}}
	e.url, _ = parseTemplate("http://h/")
	for _, bad := range []any{"a\r\nX-Other: b", "a\nb", "a\x00b", []any{"a"}, nil} {
		if _, err := e.request(t.Context(), map[string]any{"h": bad}, callInfo{}); codeOf(err) != InvalidArgs {
			t.Errorf("a header of %q: %v", bad, err)
		}
	}
}

// TestAnswersOfAService: what a script is told of each, and which are asked for again.
func TestAnswersOfAService(t *testing.T) {
	var asked atomic.Int64
	answer := func(string) (int, string, string) { return 0, "", "" }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		status, kind, body := answer(r.Host)
		w.Header()["Content-Type"] = []string{kind}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	defer srv.Close()
	r := open(t, strings.ReplaceAll(`{"version":1,"tools":[
		{"name":"get","idempotent":true,"retries":1,"limits":{"result_bytes":20},"serve":{"http":{"url":"SRV/x","allow_addresses":["127.0.0.0/8"]}}},
		{"name":"tells","tell_errors":true,"serve":{"http":{"url":"SRV/x","allow_addresses":["127.0.0.0/8"]}}},
		{"name":"over","serve":{"overlay":{"url":"http://svc.enclave/x"}}}]}`, "SRV", srv.URL), nil)
	s := r.Session(SessionConfig{Overlay: loop{srv.Listener.Addr().String()}})
	defer s.Close()
	for _, c := range []struct {
		status     int
		kind, body string
		want       string
		code       Code
		asked      int64
	}{
		{200, "application/json", `{"a":1.50}`, `{"a":1.50}`, "", 1},
		{201, "application/json; charset=utf-8", `[1]`, `[1]`, "", 1},
		{200, "application/problem+json", `1`, `1`, "", 1},
		{299, "text/plain", `1`, `"1"`, "", 1},
		{200, "", `<1>`, `"<1>"`, "", 1},
		{200, "no kind/", `{}`, `"{}"`, "", 1},
		{204, "application/json", "", `null`, "", 1},
		{200, "application/json", " \n", `null`, "", 1},
		{200, "text/plain", strings.Repeat("x", 18), `"` + strings.Repeat("x", 18) + `"`, "", 1},
		{200, "text/plain", strings.Repeat("x", 19), "", ResponseTooLarge, 1},
		{200, "text/plain", strings.Repeat("x", 21), "", ResponseTooLarge, 1},
		{200, "application/json", `{"a":1,"a":2}`, "", ResultNotJSON, 1},
		{200, "application/json", `{`, "", ResultNotJSON, 1},
		{200, "image/png", "\x89PNG", "", ResultNotSafe, 1},
		{300, "application/json", `1`, "", Failed, 2},
		{404, "application/json", `1`, "", Failed, 2},
		{500, "application/json", `1`, "", Failed, 2},
		{429, "application/json", `1`, "", RateLimited, 1},
	} {
		asked.Store(0)
		answer = func(string) (int, string, string) { return c.status, c.kind, c.body }
		out, err := s.Call(t.Context(), "get", nil)
		if string(out) != c.want || codeOf(err) != c.code || asked.Load() != c.asked {
			t.Errorf("%d %s %.30q: %s, %v, asked %d times; want %s, %q, %d", c.status, c.kind, c.body, out, err, asked.Load(), c.want, c.code, c.asked)
		}
	}
	answer = func(host string) (int, string, string) { return 200, "text/plain", host }
	if out, err := s.Call(t.Context(), "over", nil); string(out) != `"svc.enclave"` {
		t.Errorf("over the run's own system: %s, %v", out, err)
	}
	answer = func(string) (int, string, string) { return 404, "text/plain", "no such user" }
	if _, err := s.Call(t.Context(), "tells", nil); err == nil || !strings.Contains(err.Error(), "no such user") {
		t.Errorf("a tool that tells: %v", err)
	}
	if _, err := s.Call(t.Context(), "get", nil); err == nil || strings.Contains(err.Error(), "no such user") {
		t.Errorf("a tool that does not tell: %v", err)
	}
}

// TestARecordSaysWhatWasDone: of each call whose it was, and before a sending one that it is
// about to be made.
func TestARecordSaysWhatWasDone(t *testing.T) {
	canned := `"serve":{"canned":{"result":"abc"}}`
	r := open(t, `{"version":1,"tools":[{"name":"read",`+canned+`},{"name":"send","attributes":["sends"],`+canned+`},{"name":"put","attributes":["writes"],`+canned+`},
		{"name":"theirs","users":["bob"],`+canned+`}]}`, nil)
	log := &ledger{}
	s := r.Session(SessionConfig{Run: "r1", System: "k3j9x", Caller: alice, Audit: log})
	defer s.Close()
	longest := strings.Repeat("x", maxName)
	for _, name := range []string{"read", "send", "put", "theirs", longest, longest + "x"} {
		s.Call(t.Context(), name, json.RawMessage(`{"a":1,"password":"1234"}`))
	}
	var got []string
	for _, rec := range log.list {
		if rec.Run != "r1" || rec.System != "k3j9x" || rec.User != "alice" || rec.Tenant != "lab" || time.Since(rec.At) > time.Hour || rec.At.Location() != time.UTC {
			t.Errorf("%+v", rec)
		}
		name := rec.Tool
		if name == longest {
			name = "longest"
		}
		got = append(got, fmt.Sprintf("%d %s %s %s %d %s", rec.Call, rec.Action, name, rec.Args, rec.Bytes, rec.Outcome))
	}
	want := `1 tool.result read {"a":1,"password":"[REDACTED]"} 5 ok
2 tool.call send {"a":1,"password":"[REDACTED]"} 0 
2 tool.result send {"a":1,"password":"[REDACTED]"} 5 ok
3 tool.call put {"a":1,"password":"[REDACTED]"} 0 
3 tool.result put {"a":1,"password":"[REDACTED]"} 5 ok
4 tool.result theirs {"a":1,"password":"[REDACTED]"} 0 TOOL_DENIED
5 tool.result longest  0 UNKNOWN_TOOL
6 tool.result   0 UNKNOWN_TOOL`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
}

// TestWhatIsOfferedSaysWhatItDoes, and a failure where it was.
func TestWhatIsOfferedSaysWhatItDoes(t *testing.T) {
	r := open(t, `{"version":1,"tools":[{"name":"plain","serve":{"canned":{"error":"no"}}},
		{"name":"all","description":"d","attributes":["reads","writes","sends","secret"],"serve":{"canned":{}}},
		{"name":"of-alice","users":["alice"],"tenants":["lab"],"serve":{"canned":{}}}]}`, nil)
	want := []sandbox.Tool{{Name: "plain"}, {Name: "all", Description: "d", Declared: true, Reads: true, Writes: true, Sends: true, Secret: true}, {Name: "of-alice"}}
	for who, n := range map[Caller]int{alice: 3, {User: "alice", Tenant: "elsewhere"}: 2, {User: "bob", Tenant: "lab"}: 2} {
		if got := r.Offered(who); fmt.Sprint(got) != fmt.Sprint(want[:n]) {
			t.Errorf("%v is offered %+v", who, got)
		}
		s := r.Session(SessionConfig{Caller: who})
		if _, err := s.Call(t.Context(), "of-alice", nil); (err == nil) != (n == 3) {
			t.Errorf("%v calls what is alice's at the lab: %v", who, err)
		}
		s.Close()
	}
	s := r.Session(SessionConfig{})
	defer s.Close()
	b := &Broker{Session: s}
	_, failed := b.CallTool(t.Context(), sandbox.Call{Name: "plain", Line: 3, Column: 7})
	if failed == nil || failed.Code != sandbox.Code(Failed) || failed.Line != 3 || failed.Column != 7 {
		t.Fatalf("%+v", failed)
	}
	for _, c := range []struct {
		e    sandbox.Error
		line int
	}{
		{sandbox.Error{Code: failed.Code, Message: failed.Message}, 3},
		{sandbox.Error{Code: failed.Code, Message: failed.Message, Line: 9}, 9},
		{sandbox.Error{Code: failed.Code, Message: "other"}, 0},
		{sandbox.Error{Code: "OTHER", Message: failed.Message}, 0},
	} {
		if b.Place(&c.e); c.e.Line != c.line {
			t.Errorf("%+v, want line %d", c.e, c.line)
		}
	}
	if _, err := b.Opinion(t.Context(), score.Features{}); err == nil {
		t.Error("nobody has an opinion")
	}
	for _, joined := range []bool{false, true} {
		cfg, asks := SessionConfig{}, &asked{err: errors.New("busy")}
		if joined {
			cfg.Overlay = loop{"127.0.0.1:1"}
		}
		s := r.Session(cfg)
		b := &Broker{Session: s, Second: asks}
		if _, err := b.Opinion(t.Context(), score.Features{}); err != asks.err || asks.via != joined {
			t.Errorf("part of the overlay %t: asked by it %t, %v", joined, asks.via, err)
		}
		s.Close()
	}
}

// asked is somebody who is asked for an opinion, and notes by which way.
type asked struct {
	via bool
	err error
}

func (a *asked) Ask(_ context.Context, _ score.Features, via func(ctx context.Context, network, addr string) (net.Conn, error)) (score.Verdict, error) {
	a.via = via != nil
	return score.Verdict{}, a.err
}

// TestACallEndsInItsTime: a run's bound makes a tool's smaller and never larger, the pauses
// between tries grow, and who cancels is not told that the tool failed.
func TestACallEndsInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, `{"version":1,"secrets":{"k":{"env":"K"}},"tools":[{"name":"slow","limits":{"deadline":"1s"},"serve":{"canned":{"delay":"1h","result":1}}},
			{"name":"thrice","idempotent":true,"retries":2,"serve":{"canned":{"error":"no key-123456"}}}]}`, map[string]string{"K": "key-123456"})
		call := func(ctx context.Context, b Bounds, tool string, code Code, after time.Duration) error {
			t.Helper()
			s := r.Session(SessionConfig{Bounds: b})
			defer s.Close()
			began := time.Now()
			_, err := s.Call(ctx, tool, nil)
			if codeOf(err) != code || time.Since(began) != after {
				t.Errorf("%s within %s: %v after %s; want %s after %s", tool, b.Deadline, err, time.Since(began), code, after)
			}
			return err
		}
		call(t.Context(), Bounds{Deadline: 100 * time.Millisecond}, "slow", TimedOut, 100*time.Millisecond)
		call(t.Context(), Bounds{Deadline: time.Hour}, "slow", TimedOut, time.Second)
		if err := call(t.Context(), Bounds{}, "thrice", Failed, 3*retryWait); err == nil || strings.Contains(err.Error(), "key-123456") {
			t.Errorf("a failure tells a secret: %v", err)
		}
		for _, tool := range []string{"slow", "thrice"} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			call(ctx, Bounds{}, tool, Aborted, 10*time.Millisecond)
		}
	})
}

// TestASequenceRefusesWhatItNames and nothing else; and only what a secret tool returned is
// hidden.
func TestASequenceRefusesWhatItNames(t *testing.T) {
	r := open(t, `{"version":1,"sequences":[{"after":"secret","refuse":"sends"}],"tools":[{"name":"vault","attributes":["secret"],"serve":{"canned":{"result":"launch code"}}},
		{"name":"read","attributes":["reads"],"serve":{"canned":{"result":"plain words"}}},{"name":"mail","attributes":["sends"],"serve":{"canned":{"result":1}}}]}`, nil)
	s := r.Session(SessionConfig{})
	defer s.Close()
	for _, c := range []struct {
		tool string
		code Code
	}{{"mail", ""}, {"read", ""}, {"vault", ""}, {"read", ""}, {"mail", SequenceRefused}, {"vault", ""}} {
		if _, err := s.Call(t.Context(), c.tool, nil); codeOf(err) != c.code || c.code != "" && !strings.Contains(err.Error(), "returns secrets") {
			t.Errorf("%s: %v, want %q", c.tool, err, c.code)
		}
	}
	if got := s.Clean("plain words and a launch code"); got != "plain words and a [REDACTED]" {
		t.Errorf("%s", got)
	}
}

// TestMistakesAreSummedUp within what a script is told, and the rest is counted.
func TestMistakesAreSummedUp(t *testing.T) {
	var bad []wire.Problem
	for i := range 100 {
		bad = append(bad, wire.Problem{Path: fmt.Sprintf("args.a%02d", i), Message: "has to be a string"})
	}
	one := bad[0].Error()
	if got := summary(bad[:1]); got != one {
		t.Errorf("one: %s", got)
	}
	if got := summary(bad[:2]); got != one+"; "+bad[1].Error() {
		t.Errorf("two: %s", got)
	}
	got := summary(bad)
	told := strings.Count(got, "has to be")
	if !strings.HasSuffix(got, fmt.Sprintf("; and %d more", 100-told)) || told < 2 || len(got) > maxMessage {
		t.Errorf("%d of many are told: %s", told, got)
	}
	huge := []wire.Problem{{Path: "x", Message: strings.Repeat("y", 2*maxSummary)}, bad[0]}
	if got := summary(huge); !strings.HasPrefix(got, huge[0].Error()) || !strings.HasSuffix(got, "; and 1 more") {
		t.Errorf("a long one is left out: %.60s", got)
	}
}
