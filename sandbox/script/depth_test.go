package script

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestDeepTextsStayShallow gives the parser the deepest texts that the limits of the
// widest level let through, of every kind that nests.
func TestDeepTextsStayShallow(t *testing.T) {
	wrap := func(n int, open, middle, end string) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	lim := Permissive.Rules().Text
	for name, src := range map[string]string{
		"brackets":    "return " + wrap(lim.Nesting-1, "[", "1", "]"),
		"functions":   "return " + wrap(lim.Nesting/2-1, "(()=>{return ", "1", "})"),
		"objects":     "return " + wrap(lim.Nesting-1, "{a:", "1", "}"),
		"templates":   "return " + wrap(lim.Nesting-1, "`${", "1", "}`"),
		"arrows":      "return " + strings.Repeat("a=>\n", lim.Chain/2-2) + "1",
		"unary":       "return " + strings.Repeat("! ", lim.Chain-2) + "1",
		"sum":         "return 1" + strings.Repeat("+1", lim.Chain-2),
		"power":       "return 1" + strings.Repeat("**1", lim.Chain/2-2),
		"ternary":     "return " + strings.Repeat("1?1:\n", lim.Chain/2-2) + "1",
		"else":        strings.Repeat("if(1)1;else\n", 8_000) + "1",
		"members":     "const a = {}\nreturn a" + strings.Repeat("\n.b", lim.Chain-3),
		"comma":       "return (" + strings.Repeat("1,\n", 60_000) + "1)",
		"elements":    "return [" + strings.Repeat("[],\n", 40_000) + "1]",
		"statements":  strings.Repeat("1\n", 90_000),
		"identifiers": "let a" + strings.Repeat("\na", 90_000),
		"names":       "let a0" + many(20_000),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			began := time.Now()
			p, findings := Admit(src, Options{Level: Permissive})
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if p == nil {
				t.Fatalf("refused: %+v", findings[:min(len(findings), 3)])
			}
			t.Logf("%7d bytes: %v, %d KiB allocated", len(src), took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>10)
		})
	}
}

func TestTheWalkHasALimitOfItsOwn(t *testing.T) {
	code, findings := one(strings.Repeat("if(1)1;else\n", 20_000)+"1", Permissive)
	if code != "EXPRESSION_TOO_DEEP" || findings[0].Line < 1000 {
		t.Errorf("%s %+v", code, findings)
	}
}

// many is a list of n more declared names.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(",\na")
		for j := i + 1; j > 0; j /= 26 {
			b.WriteByte('a' + byte(j%26))
		}
	}
	return b.String()
}
