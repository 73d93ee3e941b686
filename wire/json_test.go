package wire_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"enclave/wire"
)

func TestUnmarshalIsStrict(t *testing.T) {
	type doc struct {
		A int            `json:"a"`
		B map[string]int `json:"b"`
	}
	for _, tc := range []struct{ in, want string }{
		{`{"a":1}`, ""},
		{`{"a":1,"b":{"x":1}}`, ""},
		{`{"a":1,"a":2}`, "a: given twice"},
		{`{"a":1,"A":2}`, "A: given twice"},
		{`{"b":{"x":1,"x":2}}`, "b.x: given twice"},
		{`{"c":1}`, "unknown field"},
		{`{"a":1} {}`, "after the end"},
		{`{"a":1`, "ends too early"},
		{``, "ends too early"},
		{strings.Repeat("[", 33) + strings.Repeat("]", 33), "nested deeper"},
		{`{"a":"x"}`, "cannot unmarshal"},
		{`{"a":1,}`, "invalid"},
	} {
		var d doc
		err := wire.Unmarshal([]byte(tc.in), &d)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.in, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want an error with %q", tc.in, err, tc.want)
		}
	}
}

// TestMessagesAreBounded: what a line becomes is bounded, and not what honest ones say: the
// subnets of a gateway to the Internet are texts by the million.
func TestMessagesAreBounded(t *testing.T) {
	array := func(what string, n int) string { return "[" + strings.Repeat(what+",", n-1) + what + "]" }
	peers := func(n int, chain string) string {
		return `{"map":{"peers":` + array(`{"svid":`+chain+`}`, n) + `}}`
	}
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":0`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, tc := range []struct{ in, want string }{
		{peers(wire.MaxPeers, "[]"), ""},
		{peers(wire.MaxPeers+1, "[]"), "map.peers: more than 100000 values"},
		{peers(12, array("[]", wire.MaxPeers)), "more than 1048576 values in all"},
		{peers(12, array(`""`, wire.MaxPeers)), ""},
		{peers(84, array(`""`, wire.MaxPeers)), "more than 8388608 values in all"},
		{`{"map":{"peers":[null]}}`, "map.peers[0]: no value"},
		{`{"map":` + members(wire.MaxMembers+1) + `}`, "map: more than 64 values"},
	} {
		_, err := wire.ParseMessage([]byte(tc.in))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%.40s: %v, want %q", tc.in, err, tc.want)
		}
	}
	if _, err := wire.ParseMessage(make([]byte, wire.MaxMapMessage+1)); err == nil {
		t.Error("a longer line is parsed")
	}
}

func TestWindowsReadOneOrMany(t *testing.T) {
	one := `{"tz":"UTC","days":["mon"],"start":"08:00","end":"09:00"}`
	for in, want := range map[string]int{"null": 0, one: 1, "[" + one + "," + one + "]": 2, "[]": 0} {
		var p wire.Policy
		if err := wire.Unmarshal([]byte(`{"type":"direct","active_hours":`+in+`}`), &p); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if len(p.ActiveHours) != want {
			t.Errorf("%s: %d windows, want %d", in, len(p.ActiveHours), want)
		}
	}
	var p wire.Policy
	if err := wire.Unmarshal([]byte(`{"type":"direct","active_hours":{"zone":"UTC"}}`), &p); err == nil {
		t.Error("an unknown field inside a window was accepted")
	}
}

// FuzzPolicyDocument: whatever is accepted reads back as itself.
func FuzzPolicyDocument(f *testing.F) {
	f.Add(`{"id":"p1","type":"direct","enabled":true,"sender_tags":["a"],"receiver_tags":["b"],"acls":[{"protocol":"tcp","ports":"22,80,8000-8100"}],"active_hours":{"tz":"Europe/London","days":["mon"],"start":"22:00","end":"02:00"}}`)
	f.Add(`{"type":"gateway","gateways":[{"system":"g1","subnets":["0.0.0.0/0"]}],"acls":[{"protocol":"any","ports":null}]}`)
	f.Fuzz(func(t *testing.T, in string) {
		var p, again wire.Policy
		if wire.Unmarshal([]byte(in), &p) != nil {
			return
		}
		out, err := json.Marshal(p)
		if err != nil {
			return // a protocol left out has no text; validation names it
		}
		if err := wire.Unmarshal(out, &again); err != nil {
			t.Fatalf("what was written does not read: %v\n%s", err, out)
		}
		out2, _ := json.Marshal(again)
		if string(out) != string(out2) {
			t.Fatalf("one document, two meanings:\n%s\n%s", out, out2)
		}
	})
}
