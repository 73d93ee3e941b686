package pool

import (
	"context"
	"errors"
	"testing"

	"enclave/sandbox"
	"enclave/sandbox/score"
)

// adviser is an echo that is asked for a second opinion.
type adviser struct {
	echo
	asked   int
	verdict score.Verdict
	err     error
}

func (a *adviser) Opinion(_ context.Context, f score.Features) (score.Verdict, error) {
	a.asked++
	if len(f.Calls) != 1 || f.Calls[0].Tool != "echo" {
		return score.Verdict{}, errors.New("these are not the features of the script")
	}
	return a.verdict, a.err
}

func TestASecondOpinionCrossesTheWalls(t *testing.T) {
	p := open(t, Config{Warm: 2})
	const risky = "return await callTool('echo', {password: 'x', token: 'y'})"
	for _, tc := range []struct {
		name   string
		source string
		level  sandbox.Level
		a      *adviser
		asked  int
		code   sandbox.Code
	}{
		{"raises", risky, sandbox.Standard, &adviser{verdict: score.Verdict{Score: 90}}, 1, sandbox.CodeBlocked},
		{"cannot lower", risky, sandbox.Standard, &adviser{}, 1, ""},
		{"does not come", risky, sandbox.Secure, &adviser{err: errors.New("gone")}, 1, ""},
		{"does not come at STRICT", risky, sandbox.Strict, &adviser{err: errors.New("gone")}, 1, sandbox.CodeBlocked},
		{"is not wanted", "return await callTool('echo', {n: 1})", sandbox.Strict, &adviser{verdict: score.Verdict{Score: 90}}, 0, ""},
	} {
		res := p.Run(t.Context(), sandbox.Spec{Source: tc.source, Level: tc.level, Tools: tools, Opinion: true}, tc.a)
		var code sandbox.Code
		if res.Error != nil {
			code = res.Error.Code
		}
		if tc.a.asked != tc.asked || code != tc.code || res.Verdict == nil || (tc.code == "" && res.Stats.ToolCalls != 1) {
			t.Errorf("%s: asked %d times, %s, verdict %+v, stats %+v", tc.name, tc.a.asked, describeResult(res), res.Verdict, res.Stats)
		}
	}
}
