package engine

import (
	"testing"

	"enclave/sandbox"
)

// TestWhatIsAwaitedOnlyTakesNoTurns: all of a list is under way when it is given, so that no
// failure waits behind what does not end, and what becomes of the list afterwards is nothing.
func TestWhatIsAwaitedOnlyTakesNoTurns(t *testing.T) {
	for source, want := range map[string]string{
		"const p = callTool('never', {}), f = async () => { throw new Error('x') }; return await parallel([p, p, p, f()])": "EXECUTION_ERROR: Error: x",
		"const a = [1, 2, 3, 4].map(async x => x), all = parallel(a); a.length = 0; return await all":                      "[1,2,3,4]",
		"return await Promise.all(new Set([1]))": "EXECUTION_ERROR: TypeError: Promise.all takes an array here: [...x] makes one of anything else that can be iterated",
	} {
		if res, _ := runWith(t, sandbox.Spec{Source: source, Limits: sandbox.Limits{Pending: 2}}); describe(res) != want {
			t.Errorf("%s: %s, want %s", source, describe(res), want)
		}
	}
}

// TestNoTextIsRepeatedLessThanNever, as the language has it.
func TestNoTextIsRepeatedLessThanNever(t *testing.T) {
	const refused = "EXECUTION_ERROR: RangeError: repeat takes a count from 0 on, and no endless one"
	for count, want := range map[string]string{"-1": refused, "-Infinity": refused, "Infinity": refused, "{ valueOf: () => -2 }": refused,
		"-0.5": `""`, "NaN": `""`, "'2'": `"xx"`, "1.9": `"x"`} {
		if res, _ := runWith(t, sandbox.Spec{Source: "return 'x'.repeat(" + count + ")"}); describe(res) != want {
			t.Errorf("%s: %s, want %s", count, describe(res), want)
		}
	}
}
