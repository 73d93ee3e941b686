package tools

import (
	"strings"
	"testing"

	"enclave/wire"
)

func TestYAMLDocuments(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: [x, 'y', 2.5, true, null, ~]\n":         `{"a":1,"b":["x","y",2.5,true,null,null]}`,
		"200: ok\n'201': {d: 2026-01-01, e: 0x1F}\n":      `{"200":"ok","201":{"d":"2026-01-01","e":31}}`,
		"x: &a {k: v}\ny: *a\nz: |\n  two\n  lines\n":     `{"x":{"k":"v"},"y":{"k":"v"},"z":"two\nlines\n"}`,
		"\ufeff# comment\n---\nopenapi: 3.1.0\n...\n":     `{"openapi":"3.1.0"}`,
		`  {"a": [1, {"b": null}]}`:                       `{"a":[1,{"b":null}]}`,
		"version: 1.0\nno: no\nbig: 123456789012345678\n": `{"big":123456789012345678,"no":"no","version":1}`,
	} {
		doc, err := readDocument([]byte(text))
		got, _ := encode(doc)
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		prev := string(rune('a'+i-1)) + "0"
		name := string(rune('a'+i)) + "0"
		bomb += name + ": &" + name + " [" + strings.Repeat("*"+prev+", ", 9) + "*" + prev + "]\n"
	}
	for _, text := range []string{"", "- a\n", "a: 1\na: 2\n", "? [a]\n: 1\n", "a: !!binary aGk=\n", "a: .inf\n", "a: .nan\n", "x: &a {b: 1}\ny: {<<: *a}\n",
		"a: *nothing\n", "a: !mine x\n", bomb, "a: " + strings.Repeat("[", 500) + strings.Repeat("]", 500), "a: &a [*a]\n", `{"a":1,"a":2}`} {
		if doc, err := readDocument([]byte(text)); err == nil {
			t.Errorf("took %.60q as %.60v", text, doc)
		}
	}
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte("openapi: 3.1.0\npaths:\n  /a: {get: {responses: {200: {description: x}}}}\n"))
	f.Add([]byte("a: &a [1, *a]\nb: !!float 1e400\n"))
	f.Add([]byte("{\"a\": 1}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := readDocument(text)
		if err != nil {
			return
		}
		out, err := encode(doc)
		if err != nil || wire.CheckJSON(out) != nil {
			t.Fatalf("%.100q became %.100q, %v", text, out, err)
		}
	})
}
