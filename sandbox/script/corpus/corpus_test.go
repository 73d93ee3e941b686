package corpus

import (
	"testing"

	"enclave/sandbox/script"
)

func TestEachScriptIsAdmittedOrRefusedAsItSays(t *testing.T) {
	all, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[Kind]int{}
	for _, s := range all {
		kinds[s.Kind]++
		p, findings := script.Admit(s.Source, script.Options{Level: s.Level, Tools: Tools()})
		found := false
		for _, f := range findings {
			if f.Severity == script.Refused && f.Code == s.Code {
				found = true
			}
		}
		switch {
		case s.Kind == Refused && p != nil:
			t.Errorf("%s is admitted", s.Path())
		case s.Kind == Refused && !found:
			t.Errorf("%s: want %s, got %+v", s.Path(), s.Code, findings)
		case s.Kind != Refused && p == nil:
			t.Errorf("%s is refused: %+v", s.Path(), findings)
		}
	}
	t.Logf("%d refused, %d contained, %d with a value", kinds[Refused], kinds[Contained], kinds[Value])
	if kinds[Refused]+kinds[Contained] < 200 || kinds[Value] < 60 {
		t.Errorf("%d hostile and %d valid scripts; want 200 and 60", kinds[Refused]+kinds[Contained], kinds[Value])
	}
}
