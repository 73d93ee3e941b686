package tools

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const example = `{"$schema": "tools.schema.json", "version": 1,
 "secrets": {"api": {"env": "API_TOKEN"}},
 "tools": [
  {"name": "users:list", "description": "Lists users", "attributes": ["reads"],
   "arguments": {"type": "object", "properties": {"limit": {"type": "integer", "minimum": 1, "maximum": 100}}, "additionalProperties": false},
   "result": {"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": {"type": "object", "properties": {"pin": {"type": "string", "x-secret": true}}}}}},
   "serve": {"canned": {"result": {"items": [{"id": 1, "pin": "1234"}, {"id": 2, "pin": "9999"}]}}}},
  {"name": "mail:send", "attributes": ["writes", "sends"], "limits": {"deadline": "2s", "rate": "2/m", "calls": 3}, "users": ["alice"],
   "serve": {"canned": {"result": {"sent": true}}}},
  {"name": "vault:read", "attributes": ["reads", "secret"], "serve": {"canned": {"result": "launch code"}}},
  {"name": "user:get", "arguments": {"type": "object", "properties": {"id": {"type": "string"}, "full": {"type": "boolean"}}, "required": ["id"]},
   "serve": {"http": {"url": "https://api.example.com/users/{id}{?full}", "headers": {"Authorization": "Bearer ${api}"}}}},
  {"name": "db:count", "serve": {"overlay": {"tcp": "db.enclave:5000", "until": "line"}}}],
 "sequences": [{"after": "secret", "refuse": "sends"}]}`

func TestLoadTakesTheExample(t *testing.T) {
	f, err := Load([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Tools) != 5 || f.Tools[1].Limits.Rate.Calls != 2 {
		t.Errorf("read %+v", f.Tools)
	}
}

func TestLoadTellsAllMistakesAtOnce(t *testing.T) {
	_, err := Load([]byte(`{"version": 2, "extra": 1, "tools": [
		{"name": "../../admin", "serve": {"canned": {}}},
		{"name": "a", "limits": {"rate": "fast", "deadline": "5"}, "serve": {}}]}`))
	for _, want := range []string{"version", "extra", "tools[0].name", "tools[1].limits.rate", "tools[1].limits.deadline", "tools[1].serve"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word on %s in:\n%v", want, err)
		}
	}
	_, err = Load([]byte(`{"version": 1, "tools": [
		{"name": "a", "retries": 2, "serve": {"canned": {}}},
		{"name": "a", "arguments": {"type": "strange"}, "serve": {"canned": {}}},
		{"name": "b", "arguments": {"$ref": "https://example.com/schema"}, "serve": {"canned": {}}},
		{"name": "c", "serve": {"overlay": {"url": "http://10.0.0.1/x"}}},
		{"name": "d", "arguments": {"properties": {"id": true}}, "serve": {"http": {"url": "https://example.com/{name}", "headers": {"X": "${nope}"}}}},
		{"name": "e", "serve": {"http": {"url": "https://{host}/x"}}},
		{"name": "f", "serve": {"http": {"url": "https://user@example.com/x", "allow_addresses": ["nonsense"]}}},
		{"name": "g", "limits": {"deadline": "10h"}, "serve": {"overlay": {}}}],
		"mcp": [{"name": "m"}, {"name": "m", "command": ["x"], "url": "https://h/"}], "redact": {"keys": "("}}`))
	for _, want := range []string{"tools[0].retries", "tools[1].name", "tools[1].arguments", "tools[2].arguments: a schema may not refer", "tools[3].serve.overlay.url: want the name",
		"{name} is no argument", "${nope}", "tools[5].serve.http.url", "tools[6].serve.http.url", "tools[7].limits.deadline", "tools[7].serve.overlay",
		"mcp[0]: want command or url", "mcp[1].name", "redact.keys"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word on %s in:\n%v", want, err)
		}
	}
}

func TestLoadRefusesTwoReadings(t *testing.T) {
	for _, text := range []string{`{"version":1,"version":1}`, `{"version":1} x`, `[]`, ``, `{"version":1,"tools":[{"name":"a","serve":{"canned":{"result":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}}}]}`} {
		if _, err := Load([]byte(text)); err == nil {
			t.Errorf("took %.40s", text)
		}
	}
}

func TestPublishedSchemaIsTheOneThatIsUsed(t *testing.T) {
	b, err := os.ReadFile("../../docs/format/tools.schema.json")
	if err != nil || string(b) != string(fileSchema) {
		t.Errorf("docs/format/tools.schema.json differs from sandbox/tools/tools.schema.json (%v)", err)
	}
}

func TestSchemasThatWouldTakeForEverAreRefused(t *testing.T) {
	bomb := `{"$ref":"#/$defs/a0","$defs":{`
	for i := range 40 {
		bomb += `"a` + string(rune('0'+i/10)) + string(rune('0'+i%10)) + `":{"allOf":[{"$ref":"#/$defs/a` + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)) + `"},{"$ref":"#/$defs/a` + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)) + `"}]},`
	}
	bomb = strings.Replace(bomb, "a0\"", "a00\"", 1) + `"a40":{"type":"object"}}}`
	if _, err := compile([]byte(bomb), false); err == nil {
		t.Error("a schema of 2^40 visits was taken")
	}
	tree := []byte(`{"type":"object","properties":{"l":{"$ref":"#"},"r":{"$ref":"#"}}}`)
	if _, err := compile(tree, false); err != nil {
		t.Errorf("the operator's own recursive schema: %v", err)
	}
	if _, err := compile(tree, true); err == nil {
		t.Error("a foreign recursive schema was taken")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"version":1,"mcp":[{"name":"m","command":["./x"],"prefix":"m:"}],"openapi":[{"name":"o","document":"o.json","server":"https://h/v1"}]}`))
	f.Add([]byte(`{"version":1,"tools":[{"name":"a","arguments":{"$ref":"#/a~1b"},"serve":{"http":{"url":"http://h/{a}?x={b}{?c,d}"}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Load(data)
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v, error %v", file, err)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("https://h/a/{x}/b?q={y}{?z}", "v")
	f.Add("http://h{?a}", "../..")
	f.Add("http://h/{a}{b}", "\x00/?#")
	f.Fuzz(func(t *testing.T, text, value string) {
		u, err := parseTemplate(text)
		if err != nil {
			return
		}
		args := make(map[string]any)
		for _, name := range u.names() {
			args[name] = value
		}
		at, _, err := u.expand(args)
		if err == nil && !strings.HasPrefix(at, u.base.Scheme+"://"+u.base.Host) {
			t.Fatalf("%q with %q leads to %q", text, value, at)
		}
	})
}

func TestStrictKnowsTheWholeSchema(t *testing.T) {
	doc, err := decode(fileSchema)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		for word, one := range m {
			if !slices.Contains(strictWords, word) {
				t.Errorf("strict does not know %q", word)
			}
			switch parts, _ := one.(map[string]any); word {
			case "properties", "$defs":
				for _, part := range parts {
					walk(part)
				}
			case "items", "additionalProperties", "propertyNames":
				walk(one)
			}
		}
	}
	walk(doc)
	if _, err := compile(fileSchema, false); err != nil {
		t.Errorf("the published schema: %v", err)
	}
}
