package script

import (
	"strings"
	"testing"
)

// TestWhatIsNotedOfCalls: the scoring gate judges by these; a way of writing a loop that
// is not noted is a way past it.
func TestWhatIsNotedOfCalls(t *testing.T) {
	const list = "const all = await callTool('users:list', {});\n"
	for _, c := range []struct {
		name, text string
		loop       int
		over, runs bool // the last call is over a tool's result; a loop runs over one
	}{
		{"outside of a loop", "const a = 1; await callTool('echo', {})", 0, false, false},
		{"a counted loop", "for (let i = 0; i < 3; i++) { await callTool('echo', {}) }", 1, false, false},
		{"over a list of the text", "for (const x of [1, 2]) { await callTool('echo', { x }) }", 1, false, false},
		{"over a result", list + "for (const u of all.items) { await callTool('echo', { u }) }", 1, true, true},
		{"over a part of a result", list + "const { items } = all; for (const u of items) { await callTool('echo', { u }) }", 1, true, true},
		{"over what was assigned", list + "let x = []; x = all.items; for (const u of x) { await callTool('echo', { u }) }", 1, true, true},
		{"over a part of an element", list + "for (const u of all.items) { for (const f of u.friends) { await callTool('echo', { f }) } }", 2, true, true},
		{"a callback over a result", list + "all.items.map(async u => callTool('echo', { u }))", 1, true, false},
		{"a callback over a list of the text", "[1].map(async u => callTool('echo', { u }))", 1, false, false},
		{"parallel over a result", list + "await parallel(all.items, async u => callTool('echo', { u }))", 1, true, false},
		{"a loop within one over a result, then one after it", list + "for (const u of all.items) { u.id } for (let i = 0; i < 3; i++) { await callTool('echo', {}) }", 1, false, true},
	} {
		p, findings := Admit(c.text, Options{Level: Standard, Tools: []string{"echo", "users:list"}})
		if p == nil {
			t.Errorf("%s is refused: %+v", c.name, findings)
			continue
		}
		f := p.Features
		if last := f.Calls[len(f.Calls)-1]; last.Loop != c.loop || last.OverTool != c.over || f.IteratesTool != c.runs {
			t.Errorf("%s: loop %d, over a tool %v, iterates one %v", c.name, last.Loop, last.OverTool, f.IteratesTool)
		}
	}
}

func TestNamesOfTools(t *testing.T) {
	for name, ok := range map[string]bool{
		"echo": true, "Users:list": true, "a.b_c-d9": true, strings.Repeat("a", MaxToolName): true,
		"": false, "_x": false, "[x": false, "9x": false, ":x": false, "a$": false, "a b": false, "\u00e9": false, strings.Repeat("a", MaxToolName+1): false,
	} {
		if ValidToolName(name) != ok {
			t.Errorf("%.40q is a name: %v", name, !ok)
		}
	}
}
