package pool

import (
	"context"
	"testing"

	"enclave/sandbox"
	"enclave/sandbox/engine"
)

// TestPartsThatAreInitialisedLate: each script is the first to need a part of the
// interpreter that its worker has put off. It ends as in this process, which has put off
// nothing.
func TestPartsThatAreInitialisedLate(t *testing.T) {
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, Config{})
	for round := range 2 { // the workers of the second are a nursery's
		for _, source := range []string{
			"return 'ÀÉß\u0130'.toLowerCase()",
			"return 'àéßŉ'.toUpperCase()",
			"return 'ÀÉß'.toLocaleLowerCase()",
			"return 'àéß'.toLocaleUpperCase()",
			"return ['é', 'e', 'z', 'a', 'É', 'ä'].sort((a, b) => a.localeCompare(b))",
			"return 'e\u0301'.normalize('NFC')",
			"const f = ['à'].map(x => x.toUpperCase); return 'à'['toUpper' + 'Case']()",
			"return /é+/i.exec('aÉé').index",
			"const r = /[\\w-]+/g; const a = []; let m; while (m = r.exec('ab cd é-x')) a.push(m[0]); return a",
			"return [...'a1b22é3'.matchAll(/[0-9]+/g)].map(m => m[0])",
			"return [...'aébab'.matchAll('a')].map(m => m.index)",
			"return 'xéy'.search('y')",
			"return 'a-b_é c'.split(/[-_ ]/)",
			"return 'aéa'.replace(/a/g, 'É').replaceAll('É', x => x.toLowerCase())",
		} {
			spec := sandbox.Spec{Source: source, Level: sandbox.Strict, Gate: sandbox.GateOff}
			resolved, bad := spec.Resolved()
			if bad != nil {
				t.Fatal(bad)
			}
			want := e.Run(context.Background(), resolved, nil, nil)
			if got := p.Run(t.Context(), spec, &echo{}); describeResult(got) != describeResult(want) {
				t.Errorf("round %d: %s\n  in a worker %s\n  here        %s", round, source, describeResult(got), describeResult(want))
			} else if round == 0 {
				t.Logf("%s: %s", source, describeResult(got))
			}
		}
	}
}
