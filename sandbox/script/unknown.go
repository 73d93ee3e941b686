package script

import (
	"slices"
	"strings"

	"github.com/dop251/goja/ast"
)

// global reports whether name is one that the level or the run gives to scripts.
func (w *walk) global(name string) bool {
	_, ok := slices.BinarySearch(w.rules.Globals, name)
	return ok || slices.Contains(w.opts.Globals, name)
}

// instead says what to use for the names that people try.
var instead = map[string]string{
	"fetch": "call a tool: await callTool('name', {...})", "XMLHttpRequest": "call a tool: await callTool('name', {...})", "WebSocket": "call a tool: await callTool('name', {...})",
	"require": "there are no modules; call a tool", "module": "there are no modules; return the value", "exports": "there are no modules; return the value",
	"process": "there is no host to see; pass what the script needs as a tool's result", "global": "there is no global object; use variables", "globalThis": "there is no global object; use variables",
	"window": "there is no global object; use variables", "self": "there is no global object; use variables", "document": "there is no page here",
	"setTimeout": "there are no timers; await what you wait for", "setInterval": "there are no timers; use a loop", "setImmediate": "there are no timers", "queueMicrotask": "there are no timers",
	"await":   "it works in async functions only: write async before the function around it",
	"Promise": "use async functions, await and try, parallel(items, fn) for many at once, and of Promise itself nothing but Promise.all(list)",
	"Symbol":  "use strings as keys", "Proxy": "use plain objects", "Reflect": "use plain objects", "WeakMap": "use Map", "WeakSet": "use Set",
	"BigInt": "write BigInt literals: 10n", "Intl": "format with String and Number methods", "Buffer": "use strings", "arguments": "use rest parameters: (...args) => {}",
	"ArrayBuffer": "use arrays", "Uint8Array": "use arrays", "DataView": "use arrays", "escape": "use encodeURIComponent", "unescape": "use decodeURIComponent",
	"parseInt": "use Number(), or the level SECURE", "parseFloat": "use Number(), or the level SECURE", "isNaN": "use Number.isNaN", "isFinite": "use Number.isFinite",
	"alert": "use console.log", "print": "use console.log", "structuredClone": "use JSON.parse(JSON.stringify(value))",
	"crypto": "there are no keys and no hashes; call a tool", "performance": "use Date.now()", "TextEncoder": "use strings", "TextDecoder": "use strings", "atob": "call a tool", "btoa": "call a tool",
	"URL": "take strings apart with match and split", "URLSearchParams": "use Object.entries(o).map(([k, v]) => k + '=' + encodeURIComponent(v)).join('&'), from the level SECURE on",
	"WeakRef": "use variables", "AbortController": "there is nothing to cancel; a tool has its own deadline", "ReferenceError": "use Error", "URIError": "use Error", "AggregateError": "use Error",
}

func (w *walk) unknownGlobal(id *ast.Identifier) {
	name := id.Name.String()
	switch name {
	case "eval", "Function":
		w.refuse(id.Idx, len(name), "no-eval", "NO_EVAL", "%s makes code out of text, which nothing has checked; write the code itself", name)
		return
	}
	hint, ok := instead[name]
	if !ok && len(w.findings) < maxFindings {
		names := slices.Concat(w.rules.Globals, w.opts.Globals)
		for s := w.scope; s != nil && len(names) < 200; s = s.outer {
			for _, b := range s.few {
				names = append(names, b.name)
			}
		}
		if near := w.nearest(name, names); near != "" {
			hint = strings.TrimPrefix(near, "; ")
		} else {
			hint = "declare it, or pass it to the run"
		}
	}
	w.refuse(id.Idx, len(name), "unknown-global", "UNKNOWN_GLOBAL", "%.60q is neither declared here nor given to scripts of this level; %s", name, hint)
}

// nearest proposes the closest of names, if one is close.
func (w *walk) nearest(name string, names []string) string {
	if len(w.findings) >= maxFindings {
		return "" // nobody reads that far, and it takes time
	}
	best, distance := "", min(2, len(name)/3)+1
	for _, n := range names {
		if d := edits(name, n, distance); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// edits is the Levenshtein distance of two short names, or most if it is not below.
func edits(a, b string, most int) int {
	if len(a) > 40 || len(b) > 40 || len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	var row [41]int
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
