package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"enclave/sandbox"
)

// TestEveryKeywordCanHide: wherever a schema speaks of a part of a value, it can say that
// the part is secret; the arguments are shown as records and streams have them, and the
// result as the script has it.
func TestEveryKeywordCanHide(t *testing.T) {
	const secret = `{"x-secret":true}`
	for name, tc := range map[string]struct{ schema, value, want string }{
		"property":              {`{"properties":{"a":SECRET}}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"pattern":               {`{"patternProperties":{"^pin_":SECRET}}`, `{"pin_1":"v","b":"w"}`, `{"b":"w","pin_1":"[REDACTED]"}`},
		"a pattern, deeper":     {`{"allOf":[{"properties":{"a":{"patternProperties":{"^pin_":SECRET}}}}]}`, `{"a":{"pin_1":"v","b":"w"}}`, `{"a":{"b":"w","pin_1":"[REDACTED]"}}`},
		"any other member":      {`{"properties":{"b":{}},"additionalProperties":SECRET}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"no other member":       {`{"properties":{"a":SECRET},"additionalProperties":false}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"beside a pattern":      {`{"patternProperties":{"^b":{}},"additionalProperties":SECRET}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"unevaluated":           {`{"allOf":[{"properties":{"b":{}}}],"unevaluatedProperties":SECRET}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"perhaps unevaluated":   {`{"anyOf":[{"properties":{"a":{}},"required":["k"]},{}],"unevaluatedProperties":SECRET}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"entries":               {`{"properties":{"a":{"items":SECRET}}}`, `{"a":["v"]}`, `{"a":"[REDACTED]"}`},
		"first entries":         {`{"properties":{"a":{"prefixItems":[{},SECRET]}}}`, `{"a":["w","v"]}`, `{"a":"[REDACTED]"}`},
		"an entry":              {`{"properties":{"a":{"contains":SECRET}}}`, `{"a":["v"]}`, `{"a":"[REDACTED]"}`},
		"other entries":         {`{"properties":{"a":{"prefixItems":[{}],"unevaluatedItems":SECRET}}}`, `{"a":["w","v"]}`, `{"a":"[REDACTED]"}`},
		"within entries":        {`{"properties":{"a":{"items":{"items":{"properties":{"b":SECRET}}}}}}`, `{"a":[[{"b":"v","c":"w"}]]}`, `{"a":[[{"b":"[REDACTED]","c":"w"}]]}`},
		"a reference":           {`{"properties":{"a":{"$ref":"#/$defs/s"}},"$defs":{"s":SECRET}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"a dynamic one":         {`{"properties":{"a":{"$dynamicRef":"#/$defs/s"}},"$defs":{"s":SECRET}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"all":                   {`{"allOf":[{"properties":{"a":{}}},{"properties":{"a":SECRET}}]}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"any":                   {`{"properties":{"a":{"anyOf":[{},SECRET]}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"one":                   {`{"properties":{"a":{"oneOf":[{"type":"string"},{"x-secret":true,"type":"number"}]}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"if":                    {`{"if":{"properties":{"a":SECRET}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"an escaped one":        {`{"properties":{"a":{"$ref":"#/$defs/Foo%20Bar"}},"$defs":{"Foo Bar":SECRET,"Foo%20Bar":{}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"a slash in a name":     {`{"properties":{"a":{"$ref":"#/definitions/A~1B"}},"definitions":{"A/B":SECRET}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"a tilde in a name":     {`{"properties":{"a":{"$ref":"#/$defs/~01"}},"$defs":{"~1":SECRET,"/":{}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"both escapes":          {`{"properties":{"a":{"$ref":"#/$defs/%7E1x%25%c3%a9"}},"$defs":{"/x%é":SECRET}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"an escaped slash":      {`{"properties":{"a":{"$ref":"#/$defs%2Fs"}},"$defs":{"s":SECRET}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"a plus is a plus":      {`{"properties":{"a":{"$ref":"#/$defs/x+y"}},"$defs":{"x+y":SECRET,"x y":{}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"a name of nothing":     {`{"properties":{"a":{"$ref":"#/$defs/"}},"$defs":{"":SECRET}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"not":                   {`{"properties":{"a":{"not":{"x-secret":true,"type":"null"}}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"with another, before":  {`{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"b":{"properties":{"a":SECRET}},"c":["b"]}}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"a list of entries":     {`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"items":[{},SECRET]}}}`, `{"a":["w","v"]}`, `{"a":"[REDACTED]"}`},
		"entries behind a list": {`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"items":[{}],"additionalItems":SECRET}}}`, `{"a":["w","v"]}`, `{"a":"[REDACTED]"}`},
		"text with a schema":    {`{"properties":{"a":{"contentMediaType":"application/json","contentSchema":{"properties":{"pin":{"$ref":"#/$defs/s"}}}},"b":{"contentSchema":{}}},"$defs":{"s":SECRET}}`, `{"a":"{\"pin\":1}","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"names of members":      {`{"properties":{"a":{"propertyNames":SECRET},"b":{"propertyNames":{"maxLength":3}}}}`, `{"a":{"v":1},"b":{"w":1}}`, `{"a":"[REDACTED]","b":{"w":1}}`},
		"one of many":           {`{"properties":{"a":{"anyOf":[` + strings.Repeat("{},", 500) + `SECRET]},"b":{"anyOf":[` + strings.Repeat("{},", 500) + `{}]}}}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"very many, no secret":  {`{"properties":{"a":{"anyOf":[` + strings.Repeat("{},", 2*maxViews) + `{}]}}}`, `{"a":"w"}`, `{"a":"w"}`},
		"a reference to a list": {`{"properties":{"a":{"$ref":"#/$defs/s/anyOf/1"}},"$defs":{"s":{"anyOf":[{},SECRET]}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"one of very many":      {`{"properties":{"a":{"anyOf":[` + strings.Repeat("{},", 2*maxViews) + `SECRET]}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"itself, many times":    {`{"allOf":[` + strings.Repeat(`{"properties":{"a":{"$ref":"#"}}},`, 20) + `{"properties":{"b":SECRET}}]}`, `{"a":{"a":{"a":{"a":"w","b":"v"}}}}`, `{"a":{"a":{"a":{"a":"w","b":"[REDACTED]"}}}}`},
		"then":                  {`{"if":{"required":["a"]},"then":{"properties":{"a":SECRET}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"else":                  {`{"if":{"required":["b"]},"else":{"properties":{"a":SECRET}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"with another":          {`{"dependentSchemas":{"b":{"properties":{"a":SECRET}}}}`, `{"a":"v","b":"w"}`, `{"a":"[REDACTED]","b":"w"}`},
		"the whole":             {secret, `{"a":"v"}`, `"[REDACTED]"`},
		"write only":            {`{"properties":{"a":{"writeOnly":true}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"a key":                 {`{}`, `{"password":"v","deep":[{"api_key":"v"}],"shipping":"w"}`, `{"deep":[{"api_key":"[REDACTED]"}],"password":"[REDACTED]","shipping":"w"}`},
		"a key, and a schema":   {`{"properties":{"token":{"type":"string","writeOnly":false}}}`, `{"token":"v"}`, `{"token":"[REDACTED]"}`},
		"a key that is none":    {`{"properties":{"token":{"x-secret":false,"writeOnly":false}}}`, `{"token":"w"}`, `{"token":"w"}`},
		"two that contradict":   {`{"properties":{"token":{"x-secret":false,"allOf":[SECRET]}}}`, `{"token":"v"}`, `{"token":"[REDACTED]"}`},
		"two words that do":     {`{"properties":{"a":{"x-secret":true,"writeOnly":false}}}`, `{"a":"v"}`, `{"a":"[REDACTED]"}`},
		"what is not text":      {`{"properties":{"a":SECRET}}`, `{"a":{"n":[1,true,null]}}`, `{"a":"[REDACTED]"}`},
		"a key that is a value": {`{}`, `{"operator-1":"x operator-1 y","short":"opera"}`, `{"[REDACTED]":"x [REDACTED] y","short":"opera"}`},
	} {
		rule := strings.ReplaceAll(tc.schema, "SECRET", secret)
		r := open(t, `{"version":1,"secrets":{"k":{"env":"K"},"few":{"env":"FEW"}},"tools":[{"name":"t","arguments":`+rule+`,"result":`+rule+`,"serve":{"canned":{"result":`+tc.value+`}}}]}`,
			map[string]string{"K": "operator-1", "FEW": "opera"})
		s := r.Session(SessionConfig{})
		if got := s.Redact("t", json.RawMessage(tc.value)); string(got) != tc.want {
			t.Errorf("%s: records have %s, want %s", name, got, tc.want)
		}
		if got, err := s.Call(t.Context(), "t", json.RawMessage(tc.value)); err != nil || string(got) != tc.want {
			t.Errorf("%s: the script has %s, %v; want %s", name, got, err, tc.want)
		}
		s.Close()
	}
}

// TestNoSchemaMakesRedactionSlow: what is too much to follow is hidden, however many parts a
// value has; the work is bounded for all of them together.
func TestNoSchemaMakesRedactionSlow(t *testing.T) {
	s, err := compile([]byte(`{"anyOf":[`+strings.Repeat(`{"patternProperties":{"^(a|b)*c":{},"x":{}}},`, maxViews-3)+`{"properties":{"pin":{"x-secret":true}}}]}`), false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRedactor("", nil)
	if err != nil {
		t.Fatal(err)
	}
	v := map[string]any{"pin": "v"}
	for i := range 100_000 {
		v[fmt.Sprintf("k%d", i)] = "w"
	}
	h := r.hiding(s)
	out := h.value(v, h.top, 0).(map[string]any)
	if out["pin"] != Redacted || h.left < -maxViews*(1+2*patternSteps) {
		t.Errorf("%v, after %d steps more than there are", out["pin"], -h.left)
	}
	shown := 0
	for _, one := range out {
		if one == "w" {
			shown++
		}
	}
	if shown == 0 || shown > 1000 {
		t.Errorf("%d members are shown", shown)
	}
}

// TestKeysOfTheOperatorsOwn take the place of the usual ones.
func TestKeysOfTheOperatorsOwn(t *testing.T) {
	s := open(t, `{"version":1,"redact":{"keys":"^shoe"},"tools":[{"name":"t","serve":{"canned":{}}}]}`, nil).Session(SessionConfig{})
	defer s.Close()
	if got := s.Redact("t", json.RawMessage(`{"shoe_size":"v","password":"w"}`)); string(got) != `{"password":"w","shoe_size":"[REDACTED]"}` {
		t.Errorf("%s", got)
	}
}

// TestOneSecretHoldsAnother: no tail of the longer one is left. Six bytes are enough.
func TestOneSecretHoldsAnother(t *testing.T) {
	r := open(t, `{"version":1,"secrets":{"a":{"env":"A"},"b":{"env":"B"},"c":{"env":"C"}},"tools":[{"name":"t","serve":{"canned":{}}}]}`,
		map[string]string{"A": "hunter2", "B": "hunter2-and-more", "C": "6bytes"})
	s := r.Session(SessionConfig{})
	defer s.Close()
	if got := s.Clean("hunter2-and-more, hunter2, 6bytes"); got != "[REDACTED], [REDACTED], [REDACTED]" {
		t.Errorf("%s", got)
	}
}

func TestLargeArgumentsAreNotRecorded(t *testing.T) {
	s := open(t, `{"version":1,"tools":[{"name":"t","serve":{"canned":{}}}]}`, nil).Session(SessionConfig{})
	defer s.Close()
	for n, want := range map[int]bool{maxAuditArgs: true, maxAuditArgs + 1: false} {
		args := `{"a":"` + strings.Repeat("x", n-len(`{"a":""}`)) + `"}`
		if got := s.Redact("t", json.RawMessage(args)); (string(got) == args) != want || !want && string(got) != fmt.Sprintf(`{"_omitted_bytes":%d}`, n) {
			t.Errorf("%d bytes: %.60s", n, got)
		}
	}
}

// TestWhatASecretToolReturnedIsShownToNobody, whatever it was part of; and beyond what can
// be looked for, nothing is shown.
func TestWhatASecretToolReturnedIsShownToNobody(t *testing.T) {
	var codes []string
	for i := range maxTaints + 1 {
		codes = append(codes, fmt.Sprintf(`"code-%06d"`, i))
	}
	vault := func(name, result string) string {
		return `{"name":"` + name + `","attributes":["secret"],"serve":{"canned":{"result":` + result + `}}}`
	}
	r := open(t, `{"version":1,"tools":[{"name":"any","serve":{"canned":{"result":1}}},`+strings.Join([]string{
		vault("text", `"user alice-0123456789 pass 6bytes"`), vault("list", `[{"x":"in-a-list"},["in-a-list-too"]]`), vault("few", `"five5"`),
		vault("words", `"take open-sesame-now along"`),
		vault("many", `[`+strings.Join(codes, ",")+`]`), vault("most", `[`+strings.Join(codes[1:], ",")+`]`), vault("big", `["`+strings.Repeat("x", maxTaintBytes)+`","y23456"]`)}, ",")+`]}`, nil)
	for tool, tc := range map[string]struct{ text, want string }{
		"text":  {"it is user alice-0123456789 pass 6bytes", "it is [REDACTED]"},
		"list":  {"in-a-list-too and in-a-list", "[REDACTED] and [REDACTED]"},
		"few":   {"five5 is too short", "five5 is too short"},
		"words": {"open-sesame-now", "[REDACTED]"},
		"most":  {"code-000256 of 257", "[REDACTED] of 257"},
		"many":  {"no secret", "[REDACTED]"},
		"big":   {"no secret", "[REDACTED]"},
	} {
		s := r.Session(SessionConfig{Level: "PERMISSIVE"})
		if _, err := s.Call(t.Context(), tool, nil); err != nil {
			t.Fatal(tool, err)
		}
		if got := s.Clean(tc.text); got != tc.want {
			t.Errorf("%s: %q is shown as %q, want %q", tool, tc.text, got, tc.want)
		}
		args := string(s.Redact("any", json.RawMessage(`{"a":"no secret"}`)))
		if blind := tc.text == "no secret"; blind != strings.Contains(args, "_omitted") || blind == strings.Contains(args, "no secret") {
			t.Errorf("%s: then arguments are %s", tool, args)
		}
		s.Close()
	}
}

// TestAScriptKeepsTheHostBusyWithNoSecret: what a run asks for again and again is taken apart
// once, what is more than can be looked for is not looked at any more, and long arguments are
// not searched for a record that would not hold them.
func TestAScriptKeepsTheHostBusyWithNoSecret(t *testing.T) {
	r := open(t, `{"version":1,"tools":[{"name":"t","arguments":{"properties":{"pin":{"x-secret":true}}},"serve":{"canned":{}}}]}`, nil)
	s := r.Session(SessionConfig{Level: "PERMISSIVE"})
	defer s.Close()
	var words []any
	for i := range maxTaints - 2 {
		words = append(words, fmt.Sprintf("word-%06d", i))
	}
	s.taint(words)
	known := s.red.Load()
	if n := testing.AllocsPerRun(100, func() { s.taint(words) }); n > 0 || s.red.Load() != known || len(known.secrets) != len(words) {
		t.Errorf("the same again: %v allocations, %d secrets of %d", n, len(s.red.Load().secrets), len(words))
	}
	s.taint(strings.Repeat("more-of-them ", 100))
	if s.red.Load() == known || s.red.Load().blind {
		t.Error("a new one changes nothing, or everything")
	}
	for i := range 100 {
		s.taint(fmt.Sprintf("word-%06d", maxTaints+i))
	}
	blind := s.red.Load()
	if n := testing.AllocsPerRun(100, func() { s.taint(words) }); n > 0 || !blind.blind || len(blind.secrets) > 0 || s.red.Load() != blind {
		t.Errorf("too many: %v allocations, blind %v, %d secrets", n, blind.blind, len(blind.secrets))
	}

	s = r.Session(SessionConfig{Level: "PERMISSIVE"})
	defer s.Close()
	for n, want := range map[int]string{maxAuditLook: `{"pin":"[REDACTED]"}`, maxAuditLook + 1: fmt.Sprintf(`{"_omitted_bytes":%d}`, maxAuditLook+1)} {
		args := `{"pin":"` + strings.Repeat("x", n-len(`{"pin":""}`)) + `"}`
		if got := s.Redact("t", json.RawMessage(args)); string(got) != want {
			t.Errorf("%d bytes: %.60s, want %s", n, got, want)
		}
	}
}

// partial is a watcher that is told what calls came to.
type partial struct {
	watcher
	told []string
}

func (p *partial) ToolValue(_ uint64, _ string, v Value) {
	value, err := v.Shown()
	said := string(value)
	if err != nil {
		said += err.Message
	}
	p.told = append(p.told, said)
}

// TestAWatcherSeesNoSecretInAResult has a service repeat, in what it answers and in what it
// says of a failure, what a secret tool has returned and what is secret in the arguments.
// The script, which has both, gets it all.
func TestAWatcherSeesNoSecretInAResult(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		json.NewEncoder(w).Encode(map[string]string{"echo": r.URL.Query().Get("pin") + " " + r.URL.Query().Get("text")})
	}))
	defer srv.Close()
	const serve = `"tell_errors":true,"arguments":{"properties":{"pin":{"x-secret":true},"text":{}}},"serve":{"http":{"allow_addresses":["127.0.0.0/8"],"url":"SRV`
	r := open(t, strings.ReplaceAll(`{"version":1,"tools":[{"name":"vault","attributes":["secret"],"serve":{"canned":{"result":"returned-01"}}},
		{"name":"good",`+serve+`/{?pin,text}"}}},{"name":"fail",`+serve+`/fail{?pin,text}"}}}]}`, "SRV", srv.URL), nil)
	s := r.Session(SessionConfig{})
	defer s.Close()
	p := &partial{}
	b := &Broker{Session: s, Observer: p}
	had := ""
	for i, tc := range []struct{ tool, args, want string }{
		{"good", `{"pin":"argument-1","text":"t"}`, `{"echo":"[REDACTED] t"}`}, // before there is any other secret
		{"vault", `{}`, `"[REDACTED]"`},
		{"good", `{"text":"take returned-01"}`, `{"echo":" take [REDACTED]"}`},
		{"good", `{"pin":"argument-1","text":"take returned-01"}`, `{"echo":"[REDACTED] take [REDACTED]"}`},
		{"fail", `{"pin":"argument-1","text":"take returned-01"}`, `the service answered 500: {"echo":"[REDACTED] take [REDACTED]"}`},
	} {
		out, err := b.CallTool(t.Context(), sandbox.Call{ID: uint64(i), Name: tc.tool, Args: json.RawMessage(tc.args)})
		had = string(out)
		if err != nil {
			had = err.Message
		}
		if p.told[i] != tc.want {
			t.Errorf("%s %s: a watcher is told %s, want %s", tc.tool, tc.args, p.told[i], tc.want)
		}
	}
	if !strings.Contains(had, "argument-1 take returned-01") {
		t.Errorf("the script has %s", had)
	}
}

// TestSecretsOfTheArgumentsAreFound wherever they stand.
func TestSecretsOfTheArgumentsAreFound(t *testing.T) {
	s := open(t, `{"version":1,"tools":[{"name":"t","serve":{"canned":{}},"arguments":{"properties":{"deep":{"properties":{"pin":{"x-secret":true}}},
		"pins":{"items":{"x-secret":true}},"list":{"items":{"properties":{"pin":{"x-secret":true}}}}}}}]}`, nil).Session(SessionConfig{})
	defer s.Close()
	red := s.knowing("t", json.RawMessage(`{"deep":{"pin":"secret-1","note":"a-note"},"pins":["secret-2"],"list":[{"pin":{"x":["secret-3"]}}],"password":"secret-4"}`))
	if got := red.text("secret-1 secret-2 secret-3 secret-4 a-note"); got != "[REDACTED] [REDACTED] [REDACTED] [REDACTED] a-note" {
		t.Errorf("%s", got)
	}
}

// TestSecretsOfArgumentsWithoutASchema have a name that tells, and those of a schema that
// hides all of them have none.
func TestSecretsOfArgumentsWithoutASchema(t *testing.T) {
	s := open(t, `{"version":1,"tools":[{"name":"free","serve":{"canned":{}}},{"name":"all","arguments":{"x-secret":true},"serve":{"canned":{}}}]}`, nil).Session(SessionConfig{})
	defer s.Close()
	args := json.RawMessage(`{"password":"secret-4","note":"a-note"}`)
	for name, want := range map[string]string{"free": "[REDACTED] a-note", "all": "[REDACTED] [REDACTED]"} {
		if got := s.knowing(name, args).text("secret-4 a-note"); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestAReferenceThatIsNotFollowedIsRefused: what it leads to may be secret.
func TestAReferenceThatIsNotFollowedIsRefused(t *testing.T) {
	for _, text := range []string{
		`{"properties":{"a":{"$ref":"#pin"}},"$defs":{"p":{"$anchor":"pin","x-secret":true}}}`,
		`{"properties":{"a":{"$dynamicRef":"#pin"}},"$defs":{"p":{"$dynamicAnchor":"pin","x-secret":true}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/a%2"}},"$defs":{"a%2":{}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/a%zz"}},"$defs":{"a%zz":{}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/a%20b"}},"$defs":{"a%20b":{}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/%FF"}},"$defs":{"\ufffd":{}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/x~2"}},"$defs":{"x~2":{}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/x~"}},"$defs":{"x~":{}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/` + strings.Repeat("%61", maxPointer) + `"}},"$defs":{"` + strings.Repeat("a", maxPointer) + `":{}}}`,
		`{"properties":{"a":{"$recursiveRef":"#pin"}}}`,
		`{"properties":{"a":{"items":[{}]}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/s/anyOf/01"}},"$defs":{"s":{"anyOf":[{},{}]}}}`,
		`{"properties":{"a":{"$ref":"#/$defs/none"}}}`,
		`{"properties":{"a":{"$id":"https://a.example/","$ref":"#/$defs/s","$defs":{"s":{"x-secret":true}}}},"$defs":{"s":{}}}`,
	} {
		if _, err := compile(json.RawMessage(text), false); err == nil || !strings.Contains(err.Error(), "properties/a") {
			t.Errorf("%s: %v", text, err)
		}
	}
	// Where no rule of its own looks, what is not found counts as secret.
	s := &schema{doc: map[string]any{"$ref": "#pin"}}
	if _, secret := s.views(s.doc).marked(); !secret {
		t.Error("what is not found is shown")
	}
}

// TestSecretsOfTheArgumentsBeyondWhatCanBeLookedFor: many, or long ones, are not searched
// for; nothing of what came back is shown.
func TestSecretsOfTheArgumentsBeyondWhatCanBeLookedFor(t *testing.T) {
	r := open(t, `{"version":1,"tools":[{"name":"t","serve":{"canned":{"result":{"plain":["plain text"]}}},"arguments":{"properties":{"pins":{"items":{"x-secret":true}}}}}]}`, nil)
	s := r.Session(SessionConfig{Level: "PERMISSIVE"})
	defer s.Close()
	pins := func(n int) json.RawMessage {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"secret-%06d"`, i)
		}
		return json.RawMessage(`{"pins":[` + b.String()[1:] + `]}`)
	}
	p := &partial{}
	b := &Broker{Session: s, Observer: p}
	for name, tc := range map[string]struct {
		args json.RawMessage
		want string
	}{
		"few":        {pins(maxTaints), `{"plain":["plain text"]}`},
		"one more":   {pins(maxTaints + 1), `"[REDACTED]"`},
		"very many":  {pins(100_000), `"[REDACTED]"`},
		"a long one": {json.RawMessage(`{"pins":["` + strings.Repeat("x", maxTaintBytes+1) + `"]}`), `"[REDACTED]"`},
	} {
		red := s.knowing("t", tc.args)
		if len(red.secrets) > maxTaints || red.blind != (name != "few") {
			t.Errorf("%s: %d are looked for, blind: %v", name, len(red.secrets), red.blind)
		}
		p.told = nil
		if _, err := b.CallTool(t.Context(), sandbox.Call{Name: "t", Args: tc.args}); err != nil || len(p.told) != 1 || p.told[0] != tc.want {
			t.Errorf("%s: %v, a watcher is told %.200s", name, err, p.told)
		}
	}
	if red := s.red.Load(); red.blind {
		t.Error("what one call brought is kept for the next")
	}
}

// TestSpecialAddressesAreNotPublic has the first and the last of each range, and what stands
// beside it.
func TestSpecialAddressesAreNotPublic(t *testing.T) {
	refused := strings.Fields(`0.0.0.1 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 169.254.0.1 169.254.255.255 172.16.0.0
		172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255
		203.0.113.0 203.0.113.255 224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.255
		:: ::1 ::808:808 ::ffff:10.0.0.1 ::ffff:0:808:808 64:ff9b::808:808 64:ff9b:1::808:808 100::1 2001::1 2001:1ff:ffff::1 2001:db8::1 2002::1 2002:ffff::1 3fff::1 3fff:fff::1 4000::1 5f00::1
		fc00::1 fdff::1 fe80::1 fe80::1%lo febf::1 fec0::1 feff::1 ff02::1 2606:4700::1%lo`)
	for _, text := range refused {
		if public(netip.MustParseAddr(text)) {
			t.Errorf("%s is public", text)
		}
	}
	for _, text := range strings.Fields(`1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255
		192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
		2001:200::1 2001:db7::1 2001:db9::1 2003::1 2606:4700:4700::1111 3ffe::1 ::ffff:8.8.8.8`) {
		if !public(netip.MustParseAddr(text)) {
			t.Errorf("%s is not public", text)
		}
	}
}

// TestRedirectsOfATool are followed within one host, of reading requests, and three times.
func TestRedirectsOfATool(t *testing.T) {
	last := func(via ...string) []*http.Request { // method and URL of each
		var out []*http.Request
		for _, one := range via {
			method, at, _ := strings.Cut(one, " ")
			out = append(out, httptest.NewRequest(method, at, nil))
		}
		return out
	}
	const first = "GET https://a.example/1"
	for name, tc := range map[string]struct {
		to  string
		via []string
		ok  bool
	}{
		"within the host":          {"GET https://a.example/2", []string{first}, true},
		"a HEAD":                   {"HEAD https://a.example/2", []string{"HEAD https://a.example/1"}, true},
		"to another host":          {"GET https://b.example/1", []string{first}, false},
		"to another port":          {"GET https://a.example:444/1", []string{first}, false},
		"to no TLS":                {"GET http://a.example/1", []string{first}, false},
		"by way of itself":         {"GET https://b.example/1", []string{first, "GET https://a.example/2"}, false},
		"three times":              {"GET https://a.example/4", []string{first, first, first}, true},
		"four times":               {"GET https://a.example/5", []string{first, first, first, first}, false},
		"a POST that becomes read": {"GET https://a.example/2", []string{"POST https://a.example/1"}, false},
		"a POST that stays one":    {"POST https://a.example/2", []string{"POST https://a.example/1"}, false},
	} {
		if err := sameHost(last(tc.to)[0], last(tc.via...)); (err == nil) != tc.ok || err != nil && !errors.Is(err, errRedirect) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRatesAreOfOneToolAndOneUser and go on when tools are declared anew; who has used
// none of them is what is forgotten first.
func TestRatesAreOfOneToolAndOneUser(t *testing.T) {
	var r rates
	now := time.Unix(1_700_000_000, 0)
	of := func(name string, calls int, per time.Duration) *tool {
		return &tool{name: name, rules: Rules{Limits: Limits{Rate: Rate{calls, per}}}}
	}
	take := func(t *tool, who Caller) (n int) {
		for n < 1000 && r.allow(t, who, now) {
			n++
		}
		return n
	}
	mail, bob, other := of("mail", 2, time.Minute), Caller{"bob", "lab"}, Caller{"alice", "elsewhere"}
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"a user", take(mail, alice), 2},
		{"the same again", take(mail, alice), 0},
		{"another user", take(mail, bob), 2},
		{"of another tenant", take(mail, other), 2},
		{"another tool", take(of("post", 3, time.Minute), alice), 3},
		{"without a rate", take(of("free", 0, 0), alice), 1000},
	} {
		if c.got != c.want {
			t.Errorf("%s may call %d times, want %d", c.what, c.got, c.want)
		}
	}
	now = now.Add(30 * time.Second)
	if n := take(mail, alice); n != 1 {
		t.Errorf("after half the time: %d", n)
	}
	if n := take(of("mail", 4, time.Minute), alice); n != 0 {
		t.Errorf("a new rate gives what was used: %d", n)
	}
	if now = now.Add(30 * time.Second); take(of("mail", 4, time.Minute), alice) != 2 {
		t.Error("a new rate is not in force")
	}
	if now = now.Add(time.Hour); take(of("mail", 4, time.Minute), alice) != 4 {
		t.Error("a new burst is not in force")
	}
	for i := range maxBuckets + 10 { // of whom nobody is forgiven yet
		r.allow(of("flood", 1, time.Hour), Caller{User: fmt.Sprint("a", i)}, now)
	}
	if n := len(r.buckets); n > maxBuckets {
		t.Errorf("%d buckets that are in use", n)
	}
	for i := range maxBuckets + 10 {
		r.allow(of("flood", 2, time.Second), Caller{User: fmt.Sprint(i)}, now.Add(time.Duration(i)*time.Second))
	}
	if n := len(r.buckets); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
}

func TestRatesAreWritten(t *testing.T) {
	for text, want := range map[string]Rate{"10/s": {10, time.Second}, "1/m": {1, time.Minute}, "1000/h": {1000, time.Hour},
		"": {}, "0/s": {}, "-1/s": {}, "1/d": {}, "1/": {}, "x/s": {}, "1": {}, "1/s/s": {}, "1.5/s": {}} {
		var got Rate
		if err := got.UnmarshalText([]byte(text)); (err == nil) != (want != Rate{}) || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
