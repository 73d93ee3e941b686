package engine

import (
	"slices"
	"strings"
	"testing"

	"enclave/sandbox"
)

// TestARestIsPaidFor wherever a pattern stands, and before it is made: an array that is all
// hole costs nothing to have, and what would be its rest does not fit into any memory.
func TestARestIsPaidFor(t *testing.T) {
	const makes = "const a = []; a.length = 2000000000; const b = Array(5000).fill(7); let x, r, s, o = {}; "
	for _, source := range []string{
		"const [x, ...r] = %; return r.length",
		"[x, ...r] = %; return r.length",
		"[x, ...o.r] = %; return o.r.length",
		"[x, ...o['r' + x]] = %; return o.r7.length",
		"[x, ...[x, ...o.r]] = %; return o.r.length",
		"const [[x, ...r]] = [%]; return r.length",
		"const { q: [x, ...r] } = { q: % }; return r.length",
		"const { q: [x, ...r] = % } = {}; return r.length",
		"return (([x, ...r]) => r.length)(%)",
		"return (function ([x, ...r]) { return r.length })(%)",
		"return (([x, ...r] = %) => r.length)()",
		"return ((...[[x, ...r]]) => r.length)(%)",
		"return [%].map(([x, ...r]) => r.length)[0]",
		"try { throw % } catch ([x, ...r]) { return r.length }",
		"for (const [x, ...r] of [%]) return r.length",
		"for (let [x, ...r] of [%]) return r.length",
		"for (var [v, ...w] of [%]) return w.length",
		"for ([x, ...r] of [%]) return r.length",
		"for (const { q: [x, ...r] } of [{ q: % }]) return r.length",
	} {
		restOf(t, makes, source, "a", "b", "4999", "4998")
	}
	const texts = "let n = 6000000; const a = 'x'.repeat(n), p = Array(5000).fill(7); let r, o = {}; "
	for _, source := range []string{
		"const { x, ...r } = %; return Object.keys(r).length",
		"({ x: r, ...o.r } = %); return Object.keys(o.r).length",
		"return (({ x, ...r }) => Object.keys(r).length)(%)",
		"try { throw % } catch ({ x, ...r }) { return Object.keys(r).length }",
		"for (const { x, ...r } of [%]) return Object.keys(r).length",
		"for (const [{ x, ...r }] of [[%]]) return Object.keys(r).length",
	} {
		restOf(t, texts, source, "a", "p", "5000")
	}
}

// TestARestCostsNoMoreThanASlice: who takes a list apart from its head, as functional code
// does, stays within the smallest budget.
func TestARestCostsNoMoreThanASlice(t *testing.T) {
	of := func(sum string) sandbox.Result {
		res, _ := runWith(t, sandbox.Spec{Source: sum + "; return sum(Array(300).fill(1))", Gate: sandbox.GateOff, Level: sandbox.Strict})
		if describe(res) != "300" {
			t.Errorf("%s: %s", sum, describe(res))
		}
		return res
	}
	rest := of("const sum = ([h, ...t]) => h === undefined ? 0 : h + sum(t)")
	slice := of("const sum = a => a.length === 0 ? 0 : a[0] + sum(a.slice(1))")
	if rest.Stats.Iterations > 2*slice.Stats.Iterations {
		t.Errorf("a rest costs %d, a slice %d", rest.Stats.Iterations, slice.Stats.Iterations)
	}
}

// restOf runs the source with one value in it that is too much and one that is not: that gives one
// of want, and takes from the budget what its 5000 elements cost.
func restOf(t *testing.T, makes, source, much, little string, want ...string) {
	t.Helper()
	with := func(name string) sandbox.Result {
		res, _ := runWith(t, sandbox.Spec{Source: makes + "{ " + strings.Replace(source, "%", name, 1) + " }", Gate: sandbox.GateOff})
		return res
	}
	if res := with(much); res.OK || res.Error.Code != sandbox.CodeMemory && res.Error.Code != sandbox.CodeIterations {
		t.Errorf("too much: %s: %s", source, describe(res))
	}
	if res := with(little); !slices.Contains(want, describe(res)) || res.Stats.Iterations < 120 { // 50 of it to make them
		t.Errorf("%s: %s, for %d of the budget", source, describe(res), res.Stats.Iterations)
	}
}
