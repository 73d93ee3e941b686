package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"enclave/sandbox"
)

// TestStacksAreTheScripts compares whole texts: each line of them is one that a script's
// author reads.
func TestStacksAreTheScripts(t *testing.T) {
	for _, tc := range []struct{ name, src, want string }{
		{"thrown by the interpreter", "const f = x => {\n    x.y.z\n}\ntry { f({}) } catch (e) { return e.stack }",
			"TypeError: Cannot read property 'z' of undefined\n    at f (<script>:2:9)\n    at <script>:4:8"},
		{"first line", "try { null.x } catch (e) { return e.stack }", "TypeError: Cannot read property 'x' of undefined\n    at <script>:1:12"},
		{"made in a helper", "const make = m => new Error(m)\n\nreturn make('a').stack", "Error: a\n    at make (<script>:1:19)\n    at <script>:3:12"},
		{"a callback", "try {\n  [1].map(x => { throw new Error('m') })\n} catch (e) { return e.stack }",
			"Error: m\n    at <script>:2:24\n    at map (native)\n    at <script>:2:10"},
		{"rethrown", "const f = () => { throw new Error('m') }\ntry { try { f() } catch (e) { throw e } } catch (e) { return e.stack }",
			"Error: m\n    at f (<script>:1:25)\n    at <script>:2:14"},
		{"async", "const f = async () => {\n  await null\n  throw new Error('m')\n}\nconst g = async () => { await f() }\ntry { await g() } catch (e) { return e.stack }",
			"Error: m\n    at f (<script>:3:9)"},
		{"parallel", "try { await parallel([1], async x => { await null\n throw new Error('m') }) } catch (e) { return e.stack }", "Error: m\n    at <script>:2:8"},
		{"what parallel refuses", "try { await parallel(1, 2) } catch (e) { return e.stack }", "TypeError: parallel takes an array and a function\n    at parallel (native)\n    at <script>:1:21"},
		{"a tool", "try {\n  await callTool('fail', {})\n} catch (e) { return e.stack }", "ToolError: no luck\n    at callTool (native)\n    at <script>:2:17"},
		{"a guarded key", "const k = JSON.parse('[\"__pro\"]')[0] + JSON.parse('[\"to__\"]')[0]\nconst g = o => o[k]\ntry { g({}) } catch (e) { console.log(e.stack) }", ""},
		{"JSON", "try { JSON.parse('{') } catch (e) { return e.stack }", "SyntaxError: unexpected end of JSON input\n    at parse (native)\n    at <script>:1:17"},
		{"characters, not bytes", "const s = 'é😀é'; try { null.x } catch (e) { return e.stack }", "TypeError: Cannot read property 'x' of undefined\n    at <script>:1:29"},
		{"all line ends", "let a\r\nlet b\rlet c\ntry { null.x } catch (e) { return e.stack }", "TypeError: Cannot read property 'x' of undefined\n    at <script>:4:12"},
		{"a pattern", "try { null.x } catch (e) { const { stack } = e; return stack }", "TypeError: Cannot read property 'x' of undefined\n    at <script>:1:12"},
		{"a written key", "try { null.x } catch (e) { return e['stack'] }", "TypeError: Cannot read property 'x' of undefined\n    at <script>:1:12"},
		{"an optional one", "try { null.x } catch (e) { return e?.stack }", "TypeError: Cannot read property 'x' of undefined\n    at <script>:1:12"},
		{"of the script's own", "const e = new Error('a'); e.stack = 'mine'; return e.stack", "mine"},
		{"of what is no error", "return [({ stack: [1, 2] }).stack.length, (undefined)?.stack ?? 'no'].join()", "2,no"},
	} {
		res, h := runWith(t, sandbox.Spec{Source: tc.src})
		var got string
		_ = json.Unmarshal(res.Value, &got)
		if tc.name == "a guarded key" {
			if len(h.lines) != 1 || !strings.HasSuffix(h.lines[0].Text, "is not available\n    at g (<script>:2:18)\n    at <script>:3:8") {
				t.Errorf("%s: got %+v", tc.name, h.lines)
			}
			continue
		}
		if !res.OK || got != tc.want {
			t.Errorf("%s:\n got %q %s\nwant %q", tc.name, got, describe(res), tc.want)
		}
	}
}

// TestNoStackNamesUs takes the stack in the ways that the helper does not see.
func TestNoStackNamesUs(t *testing.T) {
	for _, src := range []string{
		"const k = JSON.parse('\"stack\"')\ntry { await parallel([1], async x => { await null; null.x }) } catch (e) { return e[k] }",
		"try { null.x } catch ({ stack }) { return stack }",
		"const f = ({ stack }) => stack\ntry { null.x } catch (e) { return f(e) }",
		"try { null.x } catch (e) { const { error: { stack } } = { error: e }; return stack }",
		"try { null.x } catch (e) { Object.freeze(e); return e.stack }",
		"const k = JSON.parse('\"stack\"')\ntry { await parallel([1], x => null.x) } catch (e) { return e[k] }",
	} {
		res, _ := runWith(t, sandbox.Spec{Source: src})
		got := string(res.Value)
		if !res.OK || !strings.Contains(got, "<script>:") || strings.Contains(got, "eval") || strings.Contains(got, ".js") || strings.Contains(got, ".go") {
			t.Errorf("%s\n gives %s %s", src, got, describe(res))
		}
	}
}

func TestUncaughtIsPlaced(t *testing.T) {
	for _, tc := range []struct {
		src          string
		line, column int
	}{
		{"const a = 1\n\n    throw new Error('x')", 3, 11},
		{"const a = 1\n\n    throw 'x'", 3, 11},
		{"const f = () => {\n  throw { code: 1 }\n}\nf()", 2, 9},
		{"try {\n  throw 'x'\n} catch (e) {\n  throw e }", 4, 9},
		{"const make = () => new Error('x')\nconst e = make()\nthrow e", 1, 20},
		{"await parallel([1, 2], async x => {\n  await null; x.y.z })", 2, 19},
		{"await parallel(1, 2)", 1, 15},
		{"const a = 1;\n  await callTool('fail', {})", 2, 17},
		{"const e = new Error('x')\ne.stack = 'Error\\n at <script>:9:9(9)'\nthrow e", 1, 11},
		{"throw { stack: 'Error\\n at <script>:9:9(9)', name: 'X' }", 1, 7},
	} {
		res, _ := runWith(t, sandbox.Spec{Source: tc.src})
		if res.OK || res.Error.Line != tc.line || res.Error.Column != tc.column {
			t.Errorf("%s\n got %+v, want %d:%d", tc.src, res.Error, tc.line, tc.column)
		}
	}
}
