package engine

import (
	"testing"

	"github.com/dop251/goja"

	"enclave/sandbox"
)

const (
	loopSource = `let s = 0; for (let i = 0; i < 1e6; i++) { s += i } return s`
	makeSource = `const a = []; for (let i = 0; i < 1000; i++) a.push({id: i, name: "user " + i, email: "u" + i + "@example.org", active: i % 2 === 0, score: i * 1.5, tags: ["a", "b"]});`
	jsonSource = makeSource + ` const s = JSON.stringify(a); return JSON.parse(s).length`
)

func BenchmarkEngine(b *testing.B) {
	for name, src := range map[string]string{"trivial": "return 1+1", "loop": loopSource, "json": jsonSource} {
		b.Run(name, func(b *testing.B) {
			e, err := New()
			if err != nil {
				b.Fatal(err)
			}
			spec, _ := sandbox.Spec{Source: src, Limits: sandbox.Limits{Iterations: 1 << 40}}.Resolved()
			h := &fakeHost{}
			for b.Loop() {
				if res := e.Run(b.Context(), spec, h, nil); !res.OK {
					b.Fatal(res.Error)
				}
			}
		})
	}
}

// BenchmarkPlain is the interpreter alone, for comparison.
func BenchmarkPlain(b *testing.B) {
	for name, src := range map[string]string{"trivial": "return 1+1", "loop": loopSource, "json": jsonSource} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := goja.New().RunString("(async () => {" + src + "})()"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJSON(b *testing.B) {
	en, err := New()
	if err != nil {
		b.Fatal(err)
	}
	r, err := en.newRealm()
	if err != nil {
		b.Fatal(err)
	}
	made := "(() => {" + makeSource + " return a})()"
	v, err := r.rt.RunString(made)
	if err != nil {
		b.Fatal(err)
	}
	plain := goja.New()
	same, err := plain.RunString(made)
	if err != nil {
		b.Fatal(err)
	}
	limit := bounds{1 << 30, 100, 1 << 30}
	text, err := r.encode(v, limit)
	if err != nil {
		b.Fatal(err)
	}
	j := plain.Get("JSON").(*goja.Object)
	stringify, _ := goja.AssertFunction(j.Get("stringify"))
	parse, _ := goja.AssertFunction(j.Get("parse"))
	str := plain.ToValue(string(text))
	for name, f := range map[string]func() error{
		"stringify/own":   func() error { _, err := r.encode(v, limit); return err },
		"stringify/plain": func() error { _, err := stringify(j, same); return err },
		"parse/own":       func() error { _, err := decode(r.m, r.rt, str.String(), limit); return err },
		"parse/plain":     func() error { _, err := parse(j, str); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRealm is what a fresh world costs, before anything in it is used.
func BenchmarkRealm(b *testing.B) {
	e, err := New()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.ready = nil
		if err := e.Prepare(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNew is what a worker's engine costs at its start.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(); err != nil {
			b.Fatal(err)
		}
	}
}
