package policy

import (
	"os"
	"strings"
	"testing"

	"enclave/wire"
)

const exampleSet = `{"$schema": "policyset.schema.json",
 "requirements": [{"id": "mfa", "kind": "user-authentication", "authority": "local"}],
 "tags": [{"name": "admins", "trust_requirements": ["mfa"]}],
 "policies": [{"name": "Web", "type": "direct", "enabled": true, "sender_tags": ["admins"], "receiver_tags": ["web"],
   "acls": [{"protocol": "tcp", "ports": "80,443"}], "trust_requirements": ["mfa"]}],
 "tests": [{"from": "tag:admins", "to": "tag:web", "protocol": "tcp", "port": 80, "allow": true}]}`

func TestParseSet(t *testing.T) {
	set, bad := ParseSet([]byte(exampleSet))
	if len(bad) > 0 || len(set.Policies) != 1 || len(set.Requirements) != 1 || len(set.Tags) != 1 || len(set.Tests) != 1 {
		t.Fatalf("%+v, %v", set, bad)
	}
}

func TestEveryMistakeOfASetIsNamed(t *testing.T) {
	_, bad := ParseSet([]byte(`{
 "requirements": [{"id": "mfa", "kind": "user-authentication", "authority": "local"}, {"id": "mfa", "kind": "posture"}],
 "tags": [{"name": "Admins", "trust_requirements": ["gone"]}],
 "policies": [
   {"name": "Web", "type": "direct", "enabled": true, "sender_tags": ["a"], "receiver_tags": ["b"], "acls": [{"protocol": "icmp", "ports": "1"}], "trust_requirements": ["gone"]},
   {"name": "Web", "type": "gateway", "enabled": true, "sender_tags": ["a"], "receiver_tags": ["b"], "acls": []},
   {"type": "direct", "enabled": true, "sender_tags": ["a", "a"], "receiver_tags": ["b"], "acls": [], "active_hours": {"tz": "Mars/Base", "days": ["mon"], "start": "10:00", "end": "10:00"}}],
 "tests": [{"from": "", "to": "b", "protocol": "tcp", "allow": true}]}`))
	var text []string
	for _, p := range bad {
		text = append(text, p.Error())
	}
	all := strings.Join(text, "\n")
	for _, want := range []string{"requirements[1].id: ", "requirements[1].kind: ", "tags[0].name: ", "policies[0].acls[0].ports: ", "policies[1].name: \"Web\" is given twice", "policies[1].receiver_tags: ",
		"policies[2].name: ", "policies[2].sender_tags[1]: ", "policies[2].active_hours.tz: ", "tests[0].from: ", "tests[0].port: "} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing says %q in:\n%s", want, all)
		}
	}
	for doc, want := range map[string]string{
		`{"policies":[],"policies":[]}`: "given twice",
		`{"policies":[],"polices":[]}`:  "polices",
		`{"policies":[{"nam":"x"}]}`:    "policies[0].nam",
		`{"tests":[{"form":"x"}]}`:      "tests[0]",
		`[]`:                            "object",
		`{"policies":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`: "nested deeper",
	} {
		if _, bad := ParseSet([]byte(doc)); len(bad) == 0 || !strings.Contains(bad[0].Error(), want) {
			t.Errorf("%.60s: %v, want %q", doc, bad, want)
		}
	}
}

func TestANameReadsAsItIsWritten(t *testing.T) {
	for name, ok := range map[string]bool{"Büro → 東京": true, "עברית": true, "tab\t": false, "c1\u009b": false, "line\u2028": false, "turn\u202e": false, "isolate\u2066": false} {
		p := wire.Policy{Name: name, Notes: name, Kind: wire.Direct, SenderTags: []wire.Tag{"a"}, ReceiverTags: []wire.Tag{"b"}, ACLs: []wire.ACL{{Proto: wire.ICMP}}}
		if bad := Validate(&p, ""); (len(bad) == 0) != ok {
			t.Errorf("%q: %v", name, bad)
		}
	}
}

func TestSchemaIsPublished(t *testing.T) {
	const file = "../../docs/format/policyset.schema.json"
	published, err := os.ReadFile(file)
	if err != nil || string(published) != setSchema {
		t.Errorf("%s differs from the schema the program serves (%v)", file, err)
	}
}

func FuzzParseSet(f *testing.F) {
	f.Add(exampleSet)
	f.Fuzz(func(t *testing.T, s string) {
		if set, bad := ParseSet([]byte(s)); len(bad) == 0 {
			var again problems
			for i := range set.Policies {
				again = append(again, Validate(&set.Policies[i], index("policies", i))...)
			}
			if again.set(&set); len(again) > 0 {
				t.Errorf("accepted, then refused: %v", again)
			}
		}
	})
}
