package script

import (
	"strings"
	"testing"
)

// one admits src at a level and returns the code of its first refusal, "" if admitted.
func one(src string, l Level) (code string, findings []Finding) {
	p, findings := Admit(src, Options{Level: l})
	for _, f := range findings {
		if f.Severity == Refused {
			return f.Code, findings
		}
	}
	if p == nil {
		return "NIL WITHOUT REFUSAL", findings
	}
	return "", findings
}

func TestFindingsPointIntoTheUsersText(t *testing.T) {
	for _, tc := range []struct {
		src, code    string
		line, column int
	}{
		{"a", "UNKNOWN_GLOBAL", 1, 1},
		{"const a = 1;\nconst b = 'é' + c", "UNKNOWN_GLOBAL", 2, 17},
		{"const a = 1;\r\n  a.constructor", "NO_CONSTRUCTOR_ACCESS", 2, 5},
		{"1 +", "SYNTAX", 1, 4},
		{"const x = 1\nconst x = 2", "SYNTAX", 2, 7},
		{"'a'\n})(); (async () => {", "SYNTAX", 2, 1},
		{"'a\u202e'", "BIDI_ATTACK", 1, 3},
		{"return {\n  a: [1, 2,\n}", "SYNTAX", 3, 1},
		{"let x = /(?=a)/", "REGEX_NOT_LINEAR", 1, 9},
	} {
		code, findings := one(tc.src, Strict)
		if code != tc.code || findings[0].Line != tc.line || findings[0].Column != tc.column {
			t.Errorf("%q: %s %+v, want %s at %d:%d", tc.src, code, findings, tc.code, tc.line, tc.column)
		}
	}
}

func TestMessagesNameWhatInstead(t *testing.T) {
	for src, want := range map[string]string{
		"fetch('x')":                "callTool",
		"const total = 1; tota + 1": "did you mean total?",
		"for (const k in {}) {}":    "Object.keys",
		"new Promise(() => {})":     "parallel",
		"callTool(name)":            "string",
		"callTool('a').items":       "write: (await callTool(…)).items",
		"await callTool('a').items": "write: (await callTool(…)).items",
		"const r = callTool('a'); if (r) { return r.items[0] }": "write: (await r).items",
		"const { items } = callTool('a')":                       "write: await callTool(…)",
		"parallel([1], async x => x).length":                    "write: (await parallel(…)).length",
		"const callTool = 1":                                    "another name",
		"[1].map(x => { return await callTool('a') })":          "write async before",
		"[1].map(x => await (x))":                               "write async before",
		"function f() { await callTool('a') }":                  "parallel(items",
		"import { z } from 'zod'":                               "no modules",
		"export default 1":                                      "no modules",
		"const m = await import('fs')":                          "no modules",
		"for await (const x of [1]) {}":                         "for...of",
		"const x: number = 1":                                   "leave it out",
		"async function f() { await if (1) {} }":                "leave it out before if",
		"const f = (a?: number) => a":                           "if a type follows",
		"const f = ({ a }: Props) => a":                         "if a type follows",
		"function f(a): number { return a }":                    "if a type follows",
		"\ufeff```js\nreturn 1\n```":                            "fence of Markdown",
		"\ufeff \n":                                             "empty",
		"interface A { x: number }":                             "leave the types out",
		"const a = 1; const b = a as string":                    "leave the types out",
		"\n```js\nreturn 1\n```":                                "fence of Markdown",
		"while (true) { Math.abs(1) }":                          "breaks",
	} {
		_, findings := one(src, Strict)
		said := ""
		for _, f := range findings {
			said += f.Message + "\n"
		}
		if !strings.Contains(said, want) {
			t.Errorf("%s: says %q, want %q", src, said, want)
		}
	}
}

// TestNothingIsGuessedWrong: a message that sends somebody the wrong way is worse than none.
func TestNothingIsGuessedWrong(t *testing.T) {
	for _, src := range []string{"const a = {c:: 2}", "const a = 1 ? 1 : : 2", "const a = 1 ? 1 :: 2", "const a = 1 : 2", "async function f() { await return 1 }", "async function f() { await const a = 1 }"} {
		code, findings := one(src, Strict)
		if code != "SYNTAX" {
			t.Errorf("%q: %s", src, code)
		}
		for _, f := range findings {
			if strings.Contains(f.Message, "type") || strings.Contains(f.Message, "async functions only") {
				t.Errorf("%q: %s", src, f.Message)
			}
		}
	}
}
