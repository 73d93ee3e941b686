package tools

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"enclave/wire"
)

func TestAllMistakesOfArgumentsAtOnce(t *testing.T) {
	const rules = `{"type":"object","required":["to","n"],"additionalProperties":false,
		"properties":{"to":{"type":"string","format":"email"},"n":{"type":"integer","exclusiveMinimum":0,"multipleOf":5},
			"list":{"type":"array","maxItems":3,"items":{"$ref":"#/$defs/item"}},"kind":{"enum":["a","b"]},
			"when":{"anyOf":[{"format":"date","type":"string"},{"type":"null"}]}, "pair":{"prefixItems":[{"type":"string"}],"items":false}},
		"dependentRequired":{"kind":["list"]},"$defs":{"item":{"type":"object","properties":{"id":{"type":"string","format":"uuid"}}}}}`
	s, err := compile([]byte(rules), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ value, want string }{
		{`{"to":"a@b.example","n":10,"when":null}`, ""},
		{`{"to":"a@b.example","n":1e1,"when":"2026-02-28","pair":["x"]}`, ""},
		{`{"to":"nobody","n":7,"list":[{"id":"x"},{"id":1}],"kind":"c","more":1}`,
			`args.kind: want one of ["a","b"]; args.list[0].id: is no uuid such as 1b4e28ba-2fa1-41d2-883f-0016d3cca427; args.list[1].id: is integer, want string; ` +
				`args.more: there is no such field; there is kind, list, n, pair, to, when; args.n: want a multiple of 5; args.to: is no email such as a@example.com`},
		{`{"kind":"a"}`, `args: to is missing; args: n is missing; args: list is missing`},
		{`{"to":"a@b.example","n":0,"when":"2026-02-30"}`, `args.n: want more than 0; args.when: fits none of 2 alternatives`},
		{`{"to":"a@b.example","n":5,"pair":["x",1]}`, `args.pair[1]: nothing may stand here`},
		{`[]`, `args: is array, want object`},
		{`{"to":"a@b.example","n":5,"a b\"":1}`, `args["a b\""]: there is no such field; there is kind, list, n, pair, to, when`},
	} {
		v, err := decode([]byte(tc.value))
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(s.check("args", v)); got != tc.want {
			t.Errorf("%s\ngot  %s\nwant %s", tc.value, got, tc.want)
		}
	}
}

func TestFormats(t *testing.T) {
	for name, values := range map[string][2][]string{
		"date-time":    {{"2026-01-31T23:59:60Z", "2026-02-28t00:00:00.5+01:00"}, {"2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T00:00:00"}},
		"date":         {{"2026-12-31"}, {"2026-04-31", "2026-1-1", "2026-02-30", "2026-01-01 "}},
		"time":         {{"23:59:59Z", "00:00:00.1-05:30"}, {"12:00", "24:00:00Z"}},
		"duration":     {{"PT5M", "P1Y2M3DT4H5M6S", "P2W", "P1D"}, {"P", "PT", "5m", "P1H", "P1DT"}},
		"email":        {{"a@example.com", "a.b+c@x-y.example"}, {"a", "a@", "@b", "a b@c", "a@b@c", "<a@b>"}},
		"hostname":     {{"a.example", "localhost"}, {"-a.example", "a..b", "a_b"}},
		"ipv4":         {{"0.0.0.0", "255.255.255.255"}, {"256.1.1.1", "1.2.3", "01.2.3.4"}},
		"ipv6":         {{"::", "::1", "2001:db8::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4"}, {"1:2:3", ":::", "1::2::3", "g::"}},
		"uri":          {{"https://example.com/a?b#c", "urn:a:b"}, {"example.com", "http://a b", "://x"}},
		"uuid":         {{"1B4E28BA-2fa1-41d2-883f-0016d3cca427"}, {"1b4e28ba2fa141d2883f0016d3cca427", ""}},
		"json-pointer": {{"", "/a~1b/0"}, {"a", "/~2"}},
		"made-up":      {{"anything"}, nil},
	} {
		s, err := compile([]byte(`{"properties":{"v":{"format":"`+name+`"},"format":{"type":"string"}}}`), false)
		if err != nil {
			t.Fatal(err)
		}
		for i, list := range values {
			for _, text := range list {
				if bad := s.check("", map[string]any{"v": text, "format": "date"}); (len(bad) == 0) != (i == 0) {
					t.Errorf("%s %q: %v", name, text, bad)
				}
			}
		}
		if f, ok := formats()[name]; ok {
			if ok, _ := keeps(name, f.example); !ok {
				t.Errorf("%s: its example %q does not keep it", name, f.example)
			}
		}
		if bad := s.check("", map[string]any{"v": json.Number("5")}); len(bad) > 0 {
			t.Errorf("%s is of strings only: %v", name, bad)
		}
	}
}

func TestMistakesNeverQuoteValues(t *testing.T) {
	s, err := compile([]byte(`{"properties":{"a":{"pattern":"^x$"},"b":{"enum":["y"]},"c":{"const":1},"d":{"format":"uuid"},"e":{"type":"null"},"f":{"not":{"type":"string"}},
		"g":{"items":{"maxLength":1},"uniqueItems":true},"h":{"unevaluatedProperties":false}}}`), false)
	if err != nil {
		t.Fatal(err)
	}
	const canary = "canary-0123456789"
	v := map[string]any{"g": []any{canary, canary}, "h": map[string]any{"x": canary}}
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		v[key] = canary
	}
	bad := s.check("args", v)
	if len(bad) < 8 || strings.Contains(summary(bad), canary) {
		t.Errorf("%d mistakes: %v", len(bad), bad)
	}
	delete(v, "g")
	for key := range v {
		if bad := s.check("args", map[string]any{key: v[key]}); len(bad) != 1 || strings.Contains(bad[0].Error(), canary) {
			t.Errorf("%s: %v", key, bad)
		}
	}
}

func TestReferencesThatNeverEnd(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"$ref":"#"}`: false,
		`{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}`:                                     false,
		`{"properties":{"x":{"$ref":"#/$defs/b"}},"$defs":{"a":{"properties":{"y":{"$ref":"#/$defs/b"}},"$ref":"#/$defs/b"},"b":{"if":{"$ref":"#/$defs/a"}}}}`: false,
		`{"properties":{"next":{"$ref":"#"}}}`:                              true,
		`{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/a"}}}}`: true,
	} {
		if _, err := compile([]byte(text), false); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzSchema holds the two checkers against each other: where the library refuses there
// is a mistake to tell, and nothing takes for ever.
func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"format":"date"}},"required":["a"]}`, `{"a":"2026-01-01","b":1e300}`)
	f.Add(`{"anyOf":[{"$ref":"#/$defs/x"},{"multipleOf":0.1}],"$defs":{"x":{"const":1.0}}}`, `1`)
	f.Add(`{"prefixItems":[true,false],"contains":{"minimum":1e-999999}}`, `[1,1e-99999999,"x"]`)
	f.Add(`{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}`, `null`)
	f.Fuzz(func(t *testing.T, rules, value string) {
		s, err := compile([]byte(rules), true)
		if err != nil || s == nil || wire.CheckJSON([]byte(value)) != nil {
			return
		}
		v, err := decode([]byte(value))
		if err != nil {
			return
		}
		bad := s.check("v", v)
		if (s.resolved.Validate(native(v)) == nil) != (len(bad) == 0) {
			t.Fatalf("%v", bad)
		}
	})
}

// FuzzPointer: where a reference is followed for redaction, the library is led to the same
// place, and what is written as one is read back.
func FuzzPointer(f *testing.F) {
	for _, s := range [][2]string{{"#/$defs/Foo%20Bar", "Foo Bar"}, {"#/$defs/A~1B", "A/B"}, {"#/$defs/~01", "~1"}, {"#%2F$defs%2fother", "x"}, {"#/$defs/%7E1", "/"},
		{"#/$defs/a%2Bb+c", "a+b+c"}, {"#/$defs/%C3%A9", "é"}, {"#/$defs/%", "%"}, {"#/$defs/a#b", "a#b"}, {"#/$defs/%23", "#"}, {"#/properties/a/allOf/0", ""}, {"#/$defs/?", "?"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, ref, name string) {
		if steps, ok := pointer(refTo("$defs", name)); utf8.ValidString(name) && len(name) < 200 && (!ok || len(steps) != 2 || steps[1] != name) {
			t.Fatalf("%q is written as %s and read as %q, %v", name, refTo("$defs", name), steps, ok)
		}
		text, err := encode(map[string]any{"properties": map[string]any{"a": map[string]any{"$ref": ref}, "b": map[string]any{"allOf": []any{map[string]any{"const": "b"}}}},
			"$defs": map[string]any{name: map[string]any{"const": "named"}, "other": map[string]any{"const": "other"}}})
		if err != nil {
			t.Skip()
		}
		s, err := compile(text, false)
		if err != nil {
			t.Skip()
		}
		target, ok := lookup(s.doc, ref)
		m, isMap := target.(map[string]any)
		if !ok || !isMap {
			t.Fatalf("%q passes and leads to %v, %v", ref, target, ok)
		}
		for _, v := range []string{"named", "other", "b"} {
			if c, ok := m["const"]; ok && (c == v) != (len(s.check("", map[string]any{"a": v})) == 0) {
				t.Fatalf("%q leads to %v, and the library takes %q differently", ref, m, v)
			}
		}
	})
}
