package script

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"enclave/sandbox/score"
)

// TestAdmissionStaysCheap gives admission what would take it longest if any of its
// steps were worse than linear. The times are for whoever reads the log.
func TestAdmissionStaysCheap(t *testing.T) {
	each := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	tools := make([]string, 1000)
	for i := range tools {
		tools[i] = fmt.Sprintf("some:tool_number_%d", i)
	}
	for name, src := range map[string]string{
		"unknown names":     each(60_000, "unknownName%d\n"),
		"unknown tools":     each(20_000, "callTool('some:toll_number_%d');\n"),
		"distinct tools":    each(10_000, "for(;1<0;)callTool('bulk:all%d');\n"),
		"sensitive keys":    each(20_000, "({password%d:1});\n"),
		"long lines":        strings.Repeat(strings.Repeat("({b:1});", 4000)+"\n", 5),
		"constant text":     "const a='a';" + each(30_000, "'x'+a+%d\n"),
		"endless loops":     strings.Repeat("while(1)\n", 300) + "{break}",
		"assignments":       "let a=0,b=0;" + strings.Repeat("a=b\nb=a\n", 20_000) + "a='x';({})[a]",
		"keys":              "let a=0;const o={};" + strings.Repeat("o[a]\n", 30_000),
		"regular":           strings.Repeat("/(a{0,30}){0,30}/\n", 50),
		"refused keys":      "const o={};" + strings.Repeat("o.constructor\n", 40_000),
		"invisible":         "'" + strings.Repeat("\u200b", 10_000) + "'",
		"nested conditions": strings.Repeat("(1?'a':", 90) + "'b'" + strings.Repeat(")", 90),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			p, findings := Admit(src, Options{Level: Permissive, Tools: tools[:len(tools):len(tools)]})
			if len(findings) > 2*maxFindings {
				t.Errorf("%d findings", len(findings))
			}
			if p != nil {
				score.Score(p.Features, nil, score.Policy{})
			}
			t.Logf("%d bytes, admitted %v: %v", len(src), p != nil, time.Since(began).Round(time.Millisecond))
		})
	}
}

func TestFillingTheFeaturesHidesNothing(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "({harmless%d:1});\n", i)
	}
	p, findings := Admit(b.String()+"return ({}).password", Options{Level: Permissive})
	if p == nil {
		t.Fatal(findings)
	}
	if v := score.Score(p.Features, nil, score.Policy{}); len(v.Signals) != 1 || v.Signals[0].Name != "SENSITIVE_FIELD" || v.Signals[0].Line != 2001 {
		t.Errorf("%+v", v)
	}
}
