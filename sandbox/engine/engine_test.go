package engine

import (
	"strings"
	"testing"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/script/corpus"
)

// fakeHost answers calls in order: echo returns its arguments, fail fails.
type fakeHost struct {
	answers chan Answer
	calls   []sandbox.Call
	lines   []sandbox.Line
}

func (h *fakeHost) Output(l sandbox.Line) { h.lines = append(h.lines, l) }

func (h *fakeHost) Call(c sandbox.Call) {
	h.calls = append(h.calls, c)
	switch c.Name {
	case "fail":
		h.answers <- Answer{ID: c.ID, Error: sandbox.Errorf(sandbox.CodeToolFailed, "no luck")}
	case "never":
	default:
		h.answers <- Answer{ID: c.ID, Value: c.Args}
	}
}

func runWith(t *testing.T, spec sandbox.Spec) (sandbox.Result, *fakeHost) {
	t.Helper()
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"echo", "fail", "never"} {
		spec.Tools = append(spec.Tools, sandbox.Tool{Name: name})
	}
	spec, bad := spec.Resolved()
	if bad != nil {
		t.Fatal(bad)
	}
	h := &fakeHost{answers: make(chan Answer, 1000)}
	return e.Run(t.Context(), spec, h, h.answers), h
}

func describe(r sandbox.Result) string {
	if r.OK {
		return string(r.Value)
	}
	s := string(r.Error.Code) + ": "
	if r.Error.Name != "" {
		s += r.Error.Name + ": "
	}
	return s + r.Error.Message
}

func TestValues(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"return 1+1", "2"},
		{"1+1", "2"},
		{"const a = [3,1,2]; a.sort(); a", "[1,2,3]"},
		{"return {a:1,b:[true,null,'x'],c:undefined}", `{"a":1,"b":[true,null,"x"]}`},
		{"return new Map([['a',1],['b',[2]]])", `{"a":1,"b":[2]}`},
		{"return new Map([[1,2]])", `[[1,2]]`},
		{"return new Set([1,2,2])", `[1,2]`},
		{"return 2n**70n", `"1180591620717411303424"`},
		{"return new Date(0)", `"1970-01-01T00:00:00.000Z"`},
		{"return JSON.stringify({a:[1,{b:2}],d:new Date(5)})", `"{\"a\":[1,{\"b\":2}],\"d\":\"1970-01-01T00:00:00.005Z\"}"`},
		{"return JSON.stringify({a:[1,2],b:{}},null,2)", `"{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}"`},
		{"return JSON.stringify({a:1,b:2,c:{a:3,z:1}},['a','c'])", `"{\"a\":1,\"c\":{\"a\":3}}"`},
		{"return JSON.parse('{\"a\":[1,2.5,-0,1e3,\"\\\\u00e9\\\\n\"],\"__proto__\":{\"x\":1}}')", `{"a":[1,2.5,0,1000,"é\n"],"__proto__":{"x":1}}`},
		{"return (await callTool('echo',{a:1})).a", "1"},
		{"return await parallel([1,2,3], async x => (await callTool('echo',{x})).x*2)", "[2,4,6]"},
		{"try { await callTool('fail',{}) } catch (e) { return [e.name,e.code,e.message] }", `["ToolError","TOOL_CALL_FAILED","no luck"]`},
		{"const e = new Error('a'); e.name = 'Mine'; e.message = 'b'; return [e.name, e.message, String(e)]", `["Mine","b","Mine: b"]`},
		{"const o = {}; o.toString = () => 'me'; return `${o}`", `"me"`},
		{"return 'aXbX'.replaceAll('X','-') + 'abc'.padStart(5,'.') + 'ab'.repeat(2)", `"a-b-..abcabab"`},
		{"return ['a1b22'.match(/\\d+/g), 'x'.search('x'), [...'a1b2'.matchAll(/\\d/g)].map(m => m[0])]", `[["1","22"],0,["1","2"]]`},
		{"return new RegExp('a+','g').test('caat')", "true"},
		{"return (new RegExp('a')) instanceof RegExp", "true"},
		{"return [1,[2,[3]]].flat(Infinity).concat([4],[5]).join('-')", `"1-2-3-4-5"`},
		{"return Array.from({length:3},(_, i) => i)", "[0,1,2]"},
		{"let n = 0; while (n < 10) n++; do { n-- } while (n > 5); return n", "5"},
		{"return new Error('x')", `{"name":"Error","message":"x"}`},
		{"console.log('a', 1, {b:2}, [3]); return undefined", ""},
		{"return Object.keys({b:1,a:2}).concat(Object.entries({x:1}).flat())", `["b","a","x",1]`},
		{"return typeof Date.now()", `"number"`},
		{"return '\\ud800'", `"\ud800"`},
		{"return {a:{toJSON: () => 7}}", `{"a":7}`},
		{"return JSON.stringify({b: 1, 10: 2, 9: 3, a: undefined, c: () => 1, 'é': 4})", `"{\"9\":3,\"10\":2,\"b\":1,\"é\":4}"`},
		{"const a = [1,,3]; a.toJSON = () => 7; return [JSON.stringify(a), JSON.stringify([1,,undefined,() => 1])]", `["7","[1,null,null,null]"]`},
		{"const a = [1, {toJSON: () => { a.length = 1; return 2 }}, 3, 4]; return JSON.stringify(a)", `"[1,2,null,null]"`},
		{"const o = {a: {toJSON: () => { delete o.b; o.z = 1; return 2 }}, b: 3, c: 4}; return JSON.stringify(o).length > 8", "true"},
		{"const a = []; a.x = 1; a[2] = 5; return JSON.stringify([a, Object.freeze([1, 2]), Object.freeze({k: 1})])", `"[[null,null,5],[1,2],{\"k\":1}]"`},
		{"const {a, ...rest} = {a:1,b:2,c:3}; return rest", `{"b":2,"c":3}`},
	} {
		res, _ := runWith(t, sandbox.Spec{Source: tc.src})
		if got := describe(res); got != tc.want && !(strings.HasSuffix(tc.want, "ERROR") && strings.HasPrefix(got, tc.want)) {
			t.Errorf("%s\n got %s\nwant %s", tc.src, got, tc.want)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		src  string
		code sandbox.Code
	}{
		{"for (let i = 0; i < 20000; i++) {}", sandbox.CodeIterations},
		{"let i = 0; while (i < 20000) { try { i++ } catch (e) {} finally { i = i } }", sandbox.CodeIterations},
		{"let i = 0; do { i++ } while (i < 20000)", sandbox.CodeIterations},
		{"for (const x of Array(20000)) {}", sandbox.CodeIterations},
		{"for (let i = 0; i < 900; i++) for (let j = 0; j < 900; j++) {}", sandbox.CodeIterations},
		{"try { for (let i = 0; i < 20000; i++) {} } catch (e) { return 1 } finally { return 2 }", sandbox.CodeIterations},
		{"let n = 0; Array(20000).fill(1).forEach(() => { n++ }); return n", sandbox.CodeIterations},
		{"const f = n => n < 2 ? n : f(n-1) + f(n-2); return f(30)", sandbox.CodeIterations},
		{"const f = async () => { await null; await f() }; await f()", sandbox.CodeIterations},
		{"const f = n => f(n+1); f(0)", sandbox.CodeDepth},
		{"const f = n => f(n+1); try { f(0) } catch (e) { return 1 }", sandbox.CodeDepth},
		{"const a = []; a.length = 4e9; return a.indexOf(1)", sandbox.CodeIterations},
		{"const n = 1e9; return Array(n).join('x')", sandbox.CodeMemory},
		{"return Array.from({length: 1e9})", sandbox.CodeMemory},
		{"return [].fill.call({length: 1e12}, 0)", sandbox.CodeIterations},
		{"const n = 1e9; return 'x'.repeat(n)", sandbox.CodeMemory},
		{"const n = 1e9; return 'x'.padStart(n)", sandbox.CodeMemory},
		{"const n = {valueOf: () => 1e9}; return 'x'.repeat(n)", sandbox.CodeMemory},
		{"let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; return a.flat(Infinity)", sandbox.CodeIterations},
		{"let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; return JSON.stringify(a)", sandbox.CodeIterations},
		{"let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; return a", sandbox.CodeValue},
		{"let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; return String(a)", sandbox.CodeIterations},
		{"await callTool('never', {})", sandbox.CodeTimeout},
		{"return await new Promise(() => {})", sandbox.CodeValidation},
		{"for (let i = 0; i < 200; i++) await callTool('echo', {})", sandbox.CodeToolLimit},
		{"try { for (let i = 0; i < 200; i++) await callTool('echo', {}) } catch (e) { return 'caught' }", sandbox.CodeToolLimit},
		{"await callTool('fail', {})", sandbox.CodeToolFailed},
		{"throw new TypeError('mine')", sandbox.CodeScript},
		{"throw 5", sandbox.CodeScript},
		{"const k = JSON.parse('[\"const\"]')[0] + JSON.parse('[\"ructor\"]')[0]; try { return [][k] } catch (e) { return 1 }", sandbox.CodeSecurity},
		{"return () => 1", sandbox.CodeValue},
		{"const o = {}; o.o = o; return o", sandbox.CodeValue},
		{"Object.prototype", sandbox.CodeValidation},
		{"return 'a'.match('(a)\\\\1')", sandbox.CodeScript},
		{"return callTool('echo', {f: () => 1})", sandbox.CodeToolArgs},
		{"const m = Math; m.x = 1", sandbox.CodeScript},
		{"return JSON.parse('['.repeat(5000))", sandbox.CodeScript},
	} {
		timeout := corpus.Patience // what ends by itself does so however busy the machine is
		if tc.code == sandbox.CodeTimeout {
			timeout = time.Second / 4
		}
		res, _ := runWith(t, sandbox.Spec{Source: tc.src, Limits: sandbox.Limits{Timeout: timeout}})
		if res.OK || res.Error.Code != tc.code {
			t.Errorf("%s\n got %.200s\nwant %s", tc.src, describe(res), tc.code)
		}
	}
}

func TestTheErrorPointsAtTheAuthorsText(t *testing.T) {
	res, h := runWith(t, sandbox.Spec{Source: "const a = 1;\nconst f = x => x.y.z;\n  await callTool('echo', {});\nreturn f({})"})
	if res.OK || res.Error.Line != 2 || res.Error.Name != "TypeError" {
		t.Errorf("got %+v", res.Error)
	}
	if len(h.calls) != 1 || h.calls[0].Line != 3 || h.calls[0].Column < 3 {
		t.Errorf("got call %+v", h.calls)
	}
}

func TestTheMemoryLimitHolds(t *testing.T) {
	src := "const keep = []; for (let i = 0; i < 5000; i++) keep.push(('x' + i).repeat(20000)); return keep.length"
	res, _ := runWith(t, sandbox.Spec{Source: src, Limits: sandbox.Limits{MemoryBytes: 16 << 20, Iterations: 1 << 40}})
	if res.OK || res.Error.Code != sandbox.CodeMemory {
		t.Errorf("got %s, peak %d MiB", describe(res), res.Stats.Memory>>20)
	}
	// What is let go of is not counted against the script.
	src = "let n = 0; for (let i = 0; i < 5000; i++) n += ('x' + i).repeat(20000).length; return n > 0"
	res, _ = runWith(t, sandbox.Spec{Source: src, Limits: sandbox.Limits{MemoryBytes: 16 << 20, Iterations: 1 << 40}})
	if !res.OK && res.Error.Code == sandbox.CodeMemory {
		t.Errorf("got %s", describe(res))
	}
}

// TestTheBudgetIsExact counts what the documentation says is counted, to the one.
func TestTheBudgetIsExact(t *testing.T) {
	for _, tc := range []struct {
		src  string
		want int64
	}{
		{"return 1", 0},
		{"for (let i = 0; i < 100; i++) {}", 100},
		{"let i = 0; while (i < 100) i++", 100},
		{"for (const x of [1,2,3]) {}", 3},
		{"const f = () => 1; f(); f(); f()", 3},
		{"let i = 0; do { i++ } while (i < 100)", 100},
	} {
		res, _ := runWith(t, sandbox.Spec{Source: tc.src})
		if res.Stats.Iterations != tc.want {
			t.Errorf("%s: %d iterations, want %d", tc.src, res.Stats.Iterations, tc.want)
		}
	}
}

func TestNothingOfTheHostIsSeen(t *testing.T) {
	for _, src := range []string{
		"return String(JSON.parse) + String([].map) + String(console.log) + String(parallel)",
		"try { null.x } catch (e) { return e.stack + e.message }",
		"try { [1].map(() => { throw new Error('x') }) } catch (e) { return e.stack }",
		"try { await callTool('fail', {}) } catch (e) { return String(e.stack) }",
		"return Object.getOwnPropertyNames(JSON.parse).map(k => String(JSON.parse[k]))",
		"return console.log.name + JSON.stringify.name + [].map.name",
	} {
		res, _ := runWith(t, sandbox.Spec{Source: src})
		got := describe(res)
		for _, bad := range []string{"enclave", "goja", ".go", "func1", "main.", "/tmp", "realm", "github"} {
			if strings.Contains(got, bad) {
				t.Errorf("%s\n shows %q: %s", src, bad, got)
			}
		}
		t.Logf("%.200s", got)
	}
}
