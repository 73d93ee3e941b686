package engine

import (
	"encoding/json"
	"testing"

	"enclave/sandbox"
)

// TestReplacementsAreTheLanguages compares what is substituted match by match, where a
// replacement could be much, with what the interpreter itself makes of it.
func TestReplacementsAreTheLanguages(t *testing.T) {
	patterns := []string{"$$", "$&", "[$`]", "[$']", "$1", "$2", "$3", "$01", "$10", "$11", "$0", "$", "a$", "$<x>", "$<none>", "$<x", "$x", "${{U}}é$&é"}
	const text = "'é-ab-ab-'"
	for _, re := range []string{`/(a)(b)?(c)?/g`, `/(?<x>a)(b)/g`, `/(a)(b)/`, `/b|(z)/g`} {
		for _, to := range patterns {
			quoted, _ := json.Marshal(to)
			small := "return " + text + ".replace(" + re + ", " + string(quoted) + ")"
			// The same, so long that each match pays for itself.
			large := "const to = " + string(quoted) + "\nconst s = " + text + " + 'p'.repeat(5000)\n" +
				"return s.replace(" + re + ", to.concat('q'.repeat(2000))).replaceAll('q', '').replaceAll('p', '')"
			limits := sandbox.Limits{Iterations: 1 << 30, MemoryBytes: 64 << 20}
			a, _ := runWith(t, sandbox.Spec{Source: small, Level: "PERMISSIVE", Limits: limits})
			b, _ := runWith(t, sandbox.Spec{Source: large, Level: "PERMISSIVE", Limits: limits})
			if !a.OK || !b.OK || string(a.Value) != string(b.Value) {
				t.Errorf("%s with %s: %s, and where it is long %s", re, to, describe(a), describe(b))
			}
		}
	}
}

func TestReplacementsAreMadeText(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"return 'a1b1'.replaceAll(1, 2)", `"a2b2"`},
		{"return 'a1b1'.replace(1, [2, 3])", `"a2,3b1"`},
		{"return 'a1b1'.replace(/1/g, () => 7)", `"a7b7"`},
		{"return 'aXb'.replace('X', (m, at, s) => m + at + s)", `"aX1aXbb"`},
		{"return 'aXb'.replace('X', null)", `"anullb"`},
		{"return 'aXb'.replace('X')", `"aundefinedb"`},
		{"return 'atrueb'.replace(true, false)", `"afalseb"`},
		{"return 'a1b'.split(1)", `["a","b"]`},
		{"return 'a,b'.split(/,/)", `["a","b"]`},
		{"return 'ab'.split()", `["ab"]`},
		{"return ''.repeat.call(5, 3)", `"555"`},
		{"return ['1', '2', 'x'].map(Number).concat([1, 0].map(Boolean))", `[1,2,null,true,false]`},
		{"return [3, 1].sort().concat(['b', 'a'].sort(undefined))", `[1,3,"a","b"]`},
		{"let n = 0; const o = { toString: () => { n++; return 'X' } }; return ['aXb'.replaceAll(o, o), n]", `["aXb",2]`},
		{"const { a, ...r } = { ...{ a: 1, b: 2 }, ...'x', ...null, ...[5] }; return r", `{"0":5,"b":2}`},
		{"return Array.from(new Set([1, 2]), String)", `["1","2"]`},
	} {
		res, _ := runWith(t, sandbox.Spec{Source: tc.src})
		if describe(res) != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.src, describe(res), tc.want)
		}
	}
}
