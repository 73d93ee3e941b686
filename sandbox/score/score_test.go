package score

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func signals(v Verdict) (out []string) {
	for _, s := range v.Signals {
		out = append(out, fmt.Sprintf("%s %d", s.Name, s.Points))
	}
	return out
}

func TestSignalsAndPoints(t *testing.T) {
	list := Call{Tool: "users:list", Line: 1, Keys: []string{"limit"}}
	send := Call{Tool: "mail:send", Line: 2, Keys: []string{"to"}}
	for _, tc := range []struct {
		name   string
		f      Features
		tools  []Tool
		score  int
		action Action
		want   []string
	}{
		{"nothing", Features{}, nil, 0, Allow, nil},
		{"shipping is no pin", Features{Names: []Name{{"shipping", 1}, {"authorName", 1}, {"spinner", 1}}}, nil, 0, Allow, nil},
		{"a password", Features{Names: []Name{{"userPassword", 3}}}, nil, 55, Warn, []string{"SENSITIVE_FIELD 55"}},
		{"words in any spelling", Features{Names: []Name{{"API_KEY", 1}}}, nil, 55, Warn, []string{"SENSITIVE_FIELD 55"}},
		{"at most sixty", Features{Names: []Name{{"password", 1}, {"ssn", 1}, {"iban", 1}}}, nil, 60, Warn, []string{"SENSITIVE_FIELD 60"}},
		{"internal", Features{Names: []Name{{"_raw", 1}}}, nil, 45, Warn, []string{"SENSITIVE_FIELD 45"}},
		{"limits", Features{MaxLimit: 10_001}, nil, 25, Allow, []string{"EXCESSIVE_LIMIT 25"}},
		{"larger", Features{MaxLimit: 100_001}, nil, 35, Allow, []string{"EXCESSIVE_LIMIT 35"}},
		{"largest", Features{MaxLimit: 1_000_001}, nil, 50, Warn, []string{"EXCESSIVE_LIMIT 50"}},
		{"ten thousand is fine", Features{MaxLimit: 10_000}, nil, 0, Allow, nil},
		{"a star", Features{Calls: []Call{{Tool: "files:stat", Strings: []string{"*"}}}}, nil, 20, Allow, []string{"WILDCARD_QUERY 20"}},
		{"no arguments", Features{Calls: []Call{{Tool: "users:list", NoArgs: true}}}, nil, 20, Allow, []string{"WILDCARD_QUERY 20"}},
		{"in a loop", Features{Calls: []Call{{Tool: "x:y", Loop: 1}}}, nil, 25, Allow, []string{"LOOP_TOOL_CALL 25"}},
		{"deep, over a result", Features{Calls: []Call{{Tool: "x:y", Loop: 2, OverTool: true}}}, nil, 50, Warn, []string{"LOOP_TOOL_CALL 50"}},
		{"read then send", Features{Calls: []Call{list, send}}, nil, 50, Warn, []string{"EXFIL_PATTERN 50"}},
		{"send then read", Features{Calls: []Call{send, list}}, nil, 0, Allow, nil},
		{"declared harmless", Features{Calls: []Call{list, send}}, []Tool{{Name: "mail:send", Writes: true}}, 0, Allow, nil},
		{"declared to do nothing", Features{Calls: []Call{{Tool: "users:list", NoArgs: true}, send}}, []Tool{{Name: "users:list", Declared: true}}, 0, Allow, nil},
		{"declared, whatever the names", Features{Calls: []Call{{Tool: "a:b"}, {Tool: "c:d"}}}, []Tool{{Name: "a:b", Reads: true}, {Name: "c:d", Sends: true}}, 50, Warn, []string{"EXFIL_PATTERN 50"}},
		{"secret then send", Features{Calls: []Call{{Tool: "a:b"}, {Tool: "c:d"}}}, []Tool{{Name: "a:b", Secret: true}, {Name: "c:d", Sends: true}}, 100, Block, []string{"SENSITIVE_FIELD 55", "EXFIL_PATTERN 50"}},
		{"extreme", Features{Calls: []Call{{Tool: "x:y", Numbers: []float64{1_000_001}}}}, nil, 30, Allow, []string{"EXTREME_VALUE 30"}},
		{"dynamic", Features{Calls: []Call{{}, {}, {}}}, nil, 40, Warn, []string{"DYNAMIC_TOOL 40"}},
		{"bulk", Features{Calls: []Call{{Tool: "bulk:x"}, {Tool: "mass_mail"}, {Tool: "doAll"}}}, nil, 30, Allow, []string{"BULK_OPERATION 30"}},
		{"install is not all", Features{Calls: []Call{{Tool: "apps:install"}}}, nil, 0, Allow, nil},
		{"the sum stops at a hundred", Features{MaxLimit: 1e9, Names: []Name{{"password", 1}}, Calls: []Call{list, send}}, nil, 100, Block,
			[]string{"SENSITIVE_FIELD 55", "EXCESSIVE_LIMIT 50", "EXFIL_PATTERN 50"}},
	} {
		v := Score(tc.f, tc.tools, Policy{})
		if v.Score != tc.score || v.Action != tc.action || !slices.Equal(signals(v), tc.want) {
			t.Errorf("%s: %d %s %v, want %d %s %v", tc.name, v.Score, v.Action, signals(v), tc.score, tc.action, tc.want)
		}
		for _, s := range v.Signals {
			if s.Detail == "" {
				t.Errorf("%s: %s has no explanation", tc.name, s.Name)
			}
		}
	}
}

type opinion struct {
	v   Verdict
	err error
}

func (o opinion) Opinion(Features) (Verdict, error) { return o.v, o.err }

func TestSecondOpinion(t *testing.T) {
	first := Verdict{Score: 45, Action: Warn, Signals: []Signal{{Name: "X", Points: 45}}}
	for _, tc := range []struct {
		name   string
		first  Verdict
		o      opinion
		p      Policy
		score  int
		action Action
	}{
		{"the higher counts", first, opinion{v: Verdict{Score: 80}}, Policy{}, 80, Block},
		{"a lower one changes nothing", first, opinion{v: Verdict{Score: 3}}, Policy{}, 45, Warn},
		{"none, open", first, opinion{err: errors.New("down")}, Policy{}, 45, Warn},
		{"none, closed", first, opinion{err: errors.New("down")}, Policy{FailClosed: true}, 100, Block},
		{"nonsense, closed", first, opinion{v: Verdict{Score: 300}}, Policy{FailClosed: true}, 100, Block},
		{"not asked below 30", Verdict{Score: 20, Action: Allow}, opinion{err: errors.New("down")}, Policy{FailClosed: true}, 20, Allow},
	} {
		v := Ask(Features{}, tc.first, tc.o, tc.p)
		if v.Score != tc.score || v.Action != tc.action {
			t.Errorf("%s: %d %s, want %d %s", tc.name, v.Score, v.Action, tc.score, tc.action)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"", "userAPIKey", "a_b-c:d.e", "ÄÖü9x", "XMLHttpRequest2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for _, w := range split(s) {
			if w == "" {
				t.Fatalf("%q has an empty word", s)
			}
			n += len(w)
		}
		_, _ = sensitive(s)
		if n > 3*len(s) {
			t.Fatalf("%q grew to %d", s, n)
		}
	})
}
