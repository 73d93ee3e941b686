package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"enclave/control/policy"
	"enclave/wire"
)

func TestYAMLIsReadPlainly(t *testing.T) {
	for in, want := range map[string]string{
		"a: 1\nb: [x, \"y\"]\nc: {d: null, e: true}\n":                             `{"a":1,"b":["x","y"],"c":{"d":null,"e":true}}`,
		"# only\nstart: 08:00\nat: 2026-03-29T00:30:00Z\nday: 2026-03-29 # text\n": `{"start":"08:00","at":"2026-03-29T00:30:00Z","day":"2026-03-29"}`,
		"ports: 22,80\nn: no\n":           `{"ports":"22,80","n":"no"}`,
		"":                                "the document is empty",
		"a: &x 1\nb: *x\n":                "anchors are refused",
		"a: 1\na: 2\n":                    "given twice",
		"a: !!binary aGk=\n":              "is refused",
		"<<: {a: 1}\n":                    "want a plain key",
		"a: 0x10\n":                       "no plain number",
		"a: .inf\n":                       "no plain number",
		"---\na: 1\n---\nb: 2\n":          "want one document",
		"a: [\n":                          "line",
		strings.Repeat("[", 100) + "\n":   "",
		"? [a]\n: 1\n":                    "want a plain key",
		strings.Repeat("- ", 100) + "a\n": "nested deeper",
	} {
		got, err := yamlToJSON([]byte(in))
		text := string(got)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) || (err == nil && !json.Valid(got)) {
			t.Errorf("%.40q: %s, want %s", in, text, want)
		}
	}
}

func TestEditedPoliciesReadBack(t *testing.T) {
	doc := wire.Policy{ID: "p", Name: "yes: 1 # no", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"true", "1"}, ReceiverTags: []wire.Tag{"null"},
		ACLs:         []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}, {Proto: wire.ICMP}},
		ExpiresLocal: &wire.LocalTime{Time: "2026-12-24T18:00", Zone: "Europe/Berlin"},
		ActiveHours:  wire.Windows{{Zone: "UTC", Days: []string{"mon"}, Start: "08:00", End: "24:00"}}, Notes: "two\nlines: \"x\""}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yamlOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	back, err := yamlToJSON([]byte(text + editHelp))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	got, bad := policy.ParsePolicy(back, "")
	if len(bad) > 0 || !sameDocument(&doc, &got) {
		t.Errorf("%v, %+v from\n%s", bad, got, text)
	}
}

func FuzzYAML(f *testing.F) {
	f.Add("a: 1\nb: [x, \"y\"]\nc: {d: null, e: true}\n")
	f.Add("a: &x [*x]\n")
	f.Add("- |\n  text\n- >-\n  folded\n- 'q'\n")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := yamlToJSON([]byte(s))
		if err != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("no JSON: %s", got)
		}
		if wire.CheckJSON(got) != nil {
			return // text that is no UTF-8, say; its reader refuses it
		}
		text, err := yamlOf(got)
		if err != nil {
			return
		}
		again, err := yamlToJSON([]byte(text))
		if err == nil && string(again) != string(got) {
			t.Errorf("%s\nagain %s\nas %s", got, again, text)
		}
	})
}
