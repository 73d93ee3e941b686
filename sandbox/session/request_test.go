package session

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
	"enclave/wire"
)

// TestWhatACallerAsksForIsBounded: of the level's limits, the server's and the caller's, the
// smallest is what a run gets, at the level that the caller asked for.
func TestWhatACallerAsksForIsBounded(t *testing.T) {
	type bounds struct {
		level   sandbox.Level
		timeout time.Duration
		calls   int
		output  int64
	}
	level := sandbox.LimitsOf(sandbox.Strict)
	for asked, want := range map[string]bounds{
		`"level":"STRICT"`:                                    {sandbox.Strict, 5 * time.Second, 7, 900},
		`"limits":{}`:                                         {sandbox.Standard, 9 * time.Second, 7, 900},
		`"limits":{"timeoutMs":2000}`:                         {sandbox.Standard, 2 * time.Second, 7, 900},
		`"limits":{"sessionTtlMs":3000}`:                      {sandbox.Standard, 3 * time.Second, 7, 900},
		`"limits":{"maxToolCalls":3}`:                         {sandbox.Standard, 9 * time.Second, 3, 900},
		`"limits":{"maxStdoutBytes":80}`:                      {sandbox.Standard, 9 * time.Second, 7, 80},
		`"limits":{"timeoutMs":86400000,"maxToolCalls":1000}`: {sandbox.Standard, 9 * time.Second, 7, 900},
		`"limits":{"maxStdoutBytes":1000000000}`:              {sandbox.Standard, 9 * time.Second, 7, 900},
	} {
		if want.level == sandbox.Strict {
			want.timeout = min(level.Timeout, 9*time.Second)
		}
		var got bounds
		s := server(t, func(_ context.Context, spec sandbox.Spec, _ sandbox.Broker) sandbox.Result {
			got = bounds{spec.Level, spec.Limits.Timeout, spec.Limits.ToolCalls, spec.Limits.OutputBytes}
			return sandbox.Result{OK: true}
		}, func(c *Config) { c.Limits = Limits{Lifetime: 9 * time.Second, ToolCalls: 7, Stdout: 900} }).Handler()
		if w := do(t, s, "POST", "/sessions", aliceToken, `{"code":"1",`+asked+`}`); w.Code != 200 || got != want {
			t.Errorf("%s: %d, %+v, want %+v", asked, w.Code, got, want)
		}
	}
}

func TestLimitsThatAreNone(t *testing.T) {
	s := server(t, one, nil).Handler()
	for _, name := range []string{"sessionTtlMs", "timeoutMs", "maxToolCalls", "maxStdoutBytes", "toolTimeoutMs", "maxToolResultBytes"} {
		if w := do(t, s, "POST", "/sessions", aliceToken, `{"code":"1","limits":{"`+name+`":-1}}`); w.Code != 400 || !strings.Contains(w.Body.String(), "below zero") {
			t.Errorf("%s below zero: %d %s", name, w.Code, w.Body)
		}
		if !strings.HasSuffix(name, "Ms") {
			continue
		}
		for ms, want := range map[int]int{maxMS: 200, maxMS + 1: 400} {
			if w := do(t, s, "POST", "/sessions", aliceToken, fmt.Sprintf(`{"code":"1","limits":{"%s":%d}}`, name, ms)); w.Code != want {
				t.Errorf("%s of %d: %d %s", name, ms, w.Code, w.Body)
			}
		}
	}
}

// TestTagsOfARun: without a list the enrolment key decides, and only about so many.
func TestTagsOfARun(t *testing.T) {
	tags := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprint("t", i))
		}
		b, _ := json.Marshal(list)
		return `{"code":"1","tags":` + string(b) + `}`
	}
	s := server(t, one, nil).Handler()
	for n, want := range map[int]int{1: 200, wire.MaxTagsPerSystem: 200, wire.MaxTagsPerSystem + 1: 400} {
		if w := do(t, s, "POST", "/sessions", aliceToken, tags(n)); w.Code != want {
			t.Errorf("%d tags: %d %s", n, w.Code, w.Body)
		}
	}
}

// TestARunThatShallJoinDoes, or does not begin: asked for by its caller or by the operator.
func TestARunThatShallJoinDoes(t *testing.T) {
	for _, tc := range []struct {
		all  bool
		body string
		ran  bool
	}{{false, `{"code":"1"}`, true}, {false, `{"code":"1","join":true}`, false}, {true, `{"code":"1"}`, false}} {
		ran := false
		s := server(t, func(context.Context, sandbox.Spec, sandbox.Broker) sandbox.Result {
			ran = true
			return sandbox.Result{OK: true}
		}, func(c *Config) { c.Join = tc.all }).Handler()
		w := do(t, s, "POST", "/sessions", aliceToken, tc.body)
		if ran != tc.ran || strings.Contains(w.Body.String(), "not part of an overlay") == tc.ran {
			t.Errorf("%s, all join: %v: ran %v, %s", tc.body, tc.all, ran, w.Body)
		}
	}
}

// TestSessionsAreBounded: a tenant holds so many, and all together so many; what goes on is
// never forgotten for what begins, and after the end nothing begins.
func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, func(ctx context.Context, _ sandbox.Spec, _ sandbox.Broker) sandbox.Result {
			<-ctx.Done()
			return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeCancelled, "ended")}
		}, withThieves(t, func(c *Config) {
			c.Limits = Limits{Sessions: 3, PerTenant: 2, Running: 9, TenantRuns: 9, Waiting: 9}
		}))
		h := s.Handler()
		begin := func(token string) int {
			defer synctest.Wait()
			return do(t, h, "POST", "/sessions", token, `{"code":"1"}`, "Accept", "application/json").Code
		}
		for i, one := range []struct {
			token string
			want  int
		}{{aliceToken, 201}, {bobToken, 201}, {aliceToken, 429}, {carolToken, 201}, {twinToken, 429}} {
			if got := begin(one.token); got != one.want {
				t.Errorf("session %d: %d, want %d", i, got, one.want)
			}
		}
		s.Close()
		if w := do(t, h, "POST", "/sessions", carolToken, `{"code":"1"}`, "Accept", "application/json"); w.Code != 503 {
			t.Errorf("after the end: %d %s", w.Code, w.Body)
		}
	})
}
