package tools

import (
	"encoding/json"
	"strings"
	"testing"
)

// loot is a long text, and take says whether it was handed on: its argument has to have it.
const refTools = `{"version":1,"tools":[
	{"name":"long","serve":{"canned":{"result":{"text":"LOOT"}}}},
	{"name":"take","arguments":{"type":"object","properties":{"text":{"type":"string","pattern":"(loot.){2}"},"list":{"type":"array","contains":{"type":"string","pattern":"(loot.){2}"}},
		"deep":{"type":"object","properties":{"a":{"type":"array","items":{"type":"object","properties":{"b":{"type":"string","pattern":"(loot.){2}"}}}}}}}},"serve":{"canned":{"result":true}}},
	{"name":"any","serve":{"canned":{"result":true}}}]}`

func refRegistry(t *testing.T, size int) *Registry {
	return open(t, strings.Replace(refTools, "LOOT", strings.Repeat("loot-", size/5+1), 1), nil)
}

func reference(t *testing.T, s *Session) string {
	t.Helper()
	var res struct{ Text string }
	out, err := s.Call(t.Context(), "long", nil)
	if err != nil || json.Unmarshal(out, &res) != nil || !refPattern.MatchString(res.Text) || len(res.Text) != refLen {
		t.Fatalf("%.200s, %v", out, err)
	}
	return res.Text
}

// TestAReferenceIsOfOneRun lets a run have the reference of another: of another tenant,
// of another user, of the same user, of a run that has ended, guessed. None is worth
// anything, wherever it stands, and whether the thief holds references itself or not.
func TestAReferenceIsOfOneRun(t *testing.T) {
	r := refRegistry(t, 1<<20)
	level := "STANDARD" // where references may stand in other text, and deep
	owner := r.Session(SessionConfig{Run: "r1", Caller: alice, Level: level})
	defer owner.Close()
	mine := reference(t, owner)
	ended := r.Session(SessionConfig{Run: "r0", Caller: alice, Level: level})
	past := reference(t, ended)
	if err := ended.Close(); err != nil {
		t.Fatal(err)
	}
	places := func(id string) map[string]string {
		return map[string]string{
			"alone":     `{"text":"` + id + `"}`,
			"in a list": `{"list":["` + id + `"]}`,
			"deep":      `{"deep":{"a":[{"b":"` + id + `"}]}}`,
			"in a text": `{"text":"x ` + id + ` y"}`,
			"twice":     `{"text":"` + id + id + `"}`,
			"escaped":   `{"text":"\u005f` + id[1:] + `"}`,
		}
	}
	for where, args := range places(mine) {
		if _, err := owner.Call(t.Context(), "take", json.RawMessage(args)); err != nil {
			t.Errorf("its own run, %s: %v", where, err)
		}
	}
	for who, c := range map[string]Caller{"another tenant": {User: "alice", Tenant: "elsewhere"}, "another user": {User: "bob", Tenant: "lab"}, "the same user": alice} {
		for _, holds := range []bool{false, true} {
			thief := r.Session(SessionConfig{Run: "r2", Caller: c, Level: level})
			if holds {
				reference(t, thief)
			}
			for name, id := range map[string]string{"a running one's": mine, "an ended one's": past, "a guess": "__REF_00000000-0000-4000-8000-000000000000__"} {
				for where, args := range places(id) {
					if _, err := thief.Call(t.Context(), "take", json.RawMessage(args)); err == nil {
						t.Errorf("%s has %s, %s (holds its own: %v)", who, name, where, holds)
					} else if strings.Contains(err.Error(), "loot-") {
						t.Errorf("the refusal tells: %v", err)
					}
				}
				// Alone it is refused, and not sent as if it were the text that its author
				// meant.
				if _, err := thief.Call(t.Context(), "any", json.RawMessage(`{"x":["`+id+`"]}`)); codeOf(err) != RefFailed {
					t.Errorf("%s sends %s on: %v (holds its own: %v)", who, name, err, holds)
				}
			}
			thief.Close()
		}
	}
	if _, err := ended.Call(t.Context(), "take", json.RawMessage(`{"text":"`+past+`"}`)); codeOf(err) != Aborted {
		t.Errorf("after its end: %v", err)
	}
}

// TestTextThatLooksLikeAReferenceIsText: who writes what a script passes on cannot make
// its calls fail, at any level.
func TestTextThatLooksLikeAReferenceIsText(t *testing.T) {
	r := refRegistry(t, 1<<20)
	for _, level := range []string{"STRICT", "STANDARD"} {
		s := r.Session(SessionConfig{Run: "r", Caller: alice, Level: level})
		for _, holds := range []bool{false, true} {
			if holds {
				reference(t, s)
			}
			for _, text := range []string{"mail of __REF_00000000-0000-4000-8000-000000000000__ and more", "__REF_", "__REF_00000000-0000-4000-8000-000000000000_"} {
				if _, err := s.Call(t.Context(), "any", json.RawMessage(`{"deep":[[[[[[["`+text+`"]]]]]]]}`)); err != nil {
					t.Errorf("%s, %q: %v", level, text, err)
				}
			}
		}
		s.Close()
	}
}

// TestReferencesOfAllRunsAreBounded: each run is within its quota, all together are not.
func TestReferencesOfAllRunsAreBounded(t *testing.T) {
	const one = 200 * mib
	r := refRegistry(t, 100)
	text := strings.Repeat("x", one)
	run := func(tenant string) *Session {
		return r.Session(SessionConfig{Run: "r", Caller: Caller{User: "u", Tenant: tenant}, Level: "PERMISSIVE"})
	}
	fill := func(s *Session, n int) (kept int) {
		for range n {
			if _, err := s.refs.keep(text); err != nil {
				if codeOf(err) != RefLimit {
					t.Fatal(err)
				}
				break
			}
			kept++
		}
		return kept
	}
	a1, a2, b1, c1, c2 := run("a"), run("a"), run("b"), run("c"), run("c")
	if got := fill(a1, 3); got != 3 {
		t.Errorf("a's first run keeps %d", got)
	}
	if got := fill(a2, 9); got != 2 {
		t.Errorf("a's second run keeps %d: a tenant has %d bytes", got, maxTenantShelf)
	}
	if got := fill(b1, 9); got != 5 {
		t.Errorf("b keeps %d: another tenant's are not its own", got)
	}
	if got := fill(c1, 9); got != 0 {
		t.Errorf("c keeps %d: all have %d bytes", got, maxShelf)
	}
	next := refRegistry(t, 100)
	next.Inherit(r) // other tools, the same memory
	late := next.Session(SessionConfig{Run: "r", Caller: Caller{User: "u", Tenant: "c"}, Level: "PERMISSIVE"})
	if got := fill(late, 9); got != 0 {
		t.Errorf("after a reload c keeps %d", got)
	}
	a1.Close()
	a1.Close()
	if got := fill(c2, 9); got != 3 {
		t.Errorf("when a run has ended c keeps %d", got)
	}
	for _, s := range []*Session{a2, b1, c1, c2, late} {
		s.Close()
	}
	if r.shelf.total != 0 || len(r.shelf.of) != 0 {
		t.Errorf("left on the shelf: %d, %v", r.shelf.total, r.shelf.of)
	}
}
