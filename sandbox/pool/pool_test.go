package pool

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/sandbox"
)

// echo is a broker whose tools return their arguments, but for three.
type echo struct {
	mu    sync.Mutex
	lines []string
}

func (e *echo) Output(l sandbox.Line) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, l.Text)
}

func (e *echo) CallTool(ctx context.Context, c sandbox.Call) (json.RawMessage, *sandbox.Error) {
	switch c.Name {
	case "fail":
		return nil, sandbox.Errorf(sandbox.CodeToolFailed, "no luck")
	case "never":
		<-ctx.Done()
		return nil, sandbox.Errorf(sandbox.CodeToolTimeout, "too late")
	case "huge":
		return json.RawMessage(`"` + strings.Repeat("x", 6<<20) + `"`), nil
	}
	return c.Args, nil
}

var tools = []sandbox.Tool{{Name: "echo"}, {Name: "fail"}, {Name: "never"}, {Name: "huge"}}

func open(t testing.TB, cfg Config) *Pool {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func describeResult(r sandbox.Result) string {
	if r.OK {
		return string(r.Value)
	}
	return string(r.Error.Code) + ": " + r.Error.Message
}

func TestARunThroughAWorker(t *testing.T) {
	p := open(t, Config{Warm: 2})
	for _, level := range []sandbox.Level{sandbox.Strict, sandbox.Secure, sandbox.Standard, sandbox.Permissive} {
		b := &echo{}
		res := p.Run(t.Context(), sandbox.Spec{
			Source: "console.log('hello', 1); const r = await callTool('echo', {a: [1, 'x']}); try { await callTool('fail', {}) } catch (e) { return [r, e.code] }",
			Level:  level, Tools: tools,
		}, b)
		if got := describeResult(res); got != `[{"a":[1,"x"]},"TOOL_CALL_FAILED"]` || len(b.lines) != 1 || res.Stats.ToolCalls != 2 {
			t.Errorf("%s: got %s, lines %q, stats %+v", level, got, b.lines, res.Stats)
		}
	}
}

func TestAProcessServesItsTenantAgain(t *testing.T) {
	p := open(t, Config{Warm: 2})
	run := func(level sandbox.Level, tenant string) sandbox.Stats {
		res := p.Run(t.Context(), sandbox.Spec{Source: "return 1", Level: level, Tenant: tenant}, &echo{})
		if !res.OK {
			t.Fatal(res.Error)
		}
		return res.Stats
	}
	a := run(sandbox.Standard, "a")
	if b := run(sandbox.Standard, "b"); b.Worker == a.Worker || b.Reused {
		t.Error("another tenant got the same process")
	}
	if again := run(sandbox.Standard, "a"); again.Worker != a.Worker || !again.Reused {
		t.Error("the tenant got another process")
	}
	if s := run(sandbox.Strict, "a"); s.Worker == a.Worker {
		t.Error("a strict run got a used process")
	}
	c := run(sandbox.Strict, "a")
	if d := run(sandbox.Strict, "a"); c.Worker == d.Worker {
		t.Error("two strict runs shared a process")
	}
}

func TestEndsFromOutside(t *testing.T) {
	if underRace {
		t.Skip("bounds on memory mean nothing under the race detector")
	}
	p := open(t, Config{Warm: 2})
	limits := sandbox.Limits{Timeout: time.Second, Iterations: 1 << 40}
	for _, tc := range []struct {
		src  string
		want sandbox.Code
	}{
		{"let i = 0; while (i >= 0) { i++ } return i", sandbox.CodeTimeout},
		{"await callTool('never', {})", sandbox.CodeTimeout},
		{"let s = 'xxxxxxxx'; while (s.length > 0) { s = s + s } return s", sandbox.CodeMemory},
		{"let a = [1]; while (a.length > 0) { a = [...a, ...a] } return a", sandbox.CodeMemory},
		{"const a = Array(1000).fill(0).map((_, i) => i); let n = 1e9; return [...Array(n)].length", sandbox.CodeMemory},
		{"let b = 2n; while (b > 0n) { b = b * b } return 1", sandbox.CodeMemory},
		{"await callTool('huge', {})", sandbox.CodeToolResult},
	} {
		began := time.Now()
		res := p.Run(t.Context(), sandbox.Spec{Source: tc.src, Level: sandbox.Strict, Limits: limits, Tools: tools}, &echo{})
		// How far a script comes before its deadline is the machine's business.
		if res.OK || (res.Error.Code != tc.want && !(tc.want == sandbox.CodeMemory && res.Error.Code == sandbox.CodeTimeout)) {
			t.Errorf("%s\n got %s, want %s", tc.src, describeResult(res), tc.want)
		}
		t.Logf("%v %s %s", time.Since(began).Round(time.Millisecond), describeResult(res), tc.src)
		if res := p.Run(t.Context(), sandbox.Spec{Source: "1+1", Level: sandbox.Strict}, &echo{}); string(res.Value) != "2" {
			t.Fatalf("the next run: %s", describeResult(res))
		}
	}
}

func TestCancelling(t *testing.T) {
	p := open(t, Config{Warm: 1})
	ctx, cancel := context.WithCancel(t.Context())
	b := &cancelling{cancel: cancel}
	res := p.Run(ctx, sandbox.Spec{Source: "await callTool('never', {})", Tools: tools}, b)
	if res.OK || res.Error.Code != sandbox.CodeCancelled {
		t.Error(describeResult(res))
	}
}

type cancelling struct {
	echo
	cancel func()
}

func (c *cancelling) CallTool(ctx context.Context, _ sandbox.Call) (json.RawMessage, *sandbox.Error) {
	c.cancel()
	<-ctx.Done()
	return nil, nil
}
