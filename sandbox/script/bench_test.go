package script

import (
	"fmt"
	"github.com/dop251/goja"
	"strings"
	"testing"
)

func BenchmarkAdmitTrivial(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if p, f := Admit("return 1 + 1", Options{Level: Strict}); p == nil {
			b.Fatal(f)
		}
	}
}

func BenchmarkAdmitTools(b *testing.B) {
	src := "const { items } = await callTool('users:list', { limit: 3 })\nreturn items.filter(u => u.age > 30).map(u => u.name)"
	b.ReportAllocs()
	for b.Loop() {
		if p, f := Admit(src, Options{Level: Strict}); p == nil {
			b.Fatal(f)
		}
	}
}

// fiveHundred is a script of 500 lines like those that models write.
func fiveHundred() string {
	var s strings.Builder
	for i := range 50 {
		fmt.Fprintf(&s, `// part %d
const users%d = await callTool('users:list', { limit: %d, filter: 'active' })
const names%d = users%d.items
  .filter(u => u.age >= %d && u.name !== 'x')
  .map(({ name, age }) => `+"`${name} (${age})`"+`)
const count%d = {}
for (let i = 0; i < names%d.length; i++) {
  const key = names%d[i].slice(0, 1).toLowerCase()
  count%d[key] = (count%d[key] || 0) + i * 2
}
`, i, i, i+1, i, i, i, i, i, i, i, i)
	}
	return s.String()
}

func BenchmarkAdmit500Lines(b *testing.B) {
	src := fiveHundred()
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if p, f := Admit(src, Options{Level: Strict}); p == nil {
			b.Fatal(f)
		}
	}
}

func BenchmarkTextChecks500Lines(b *testing.B) {
	src := fiveHundred()
	lim := Strict.Rules().Text
	ignore := func(int, int, string, string, string) {}
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if !checkText(indexLines(src), lim, ignore, ignore) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkPlainParse500Lines is what goja alone takes to parse and compile.
func BenchmarkPlainParse500Lines(b *testing.B) {
	src := fiveHundred()
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if err := plainCompile(src); err != nil {
			b.Fatal(err)
		}
	}
}

func plainCompile(src string) error {
	tree, err := parsed(src)
	if err != nil {
		return err
	}
	_, err = goja.CompileAST(tree, true)
	return err
}
