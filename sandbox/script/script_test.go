package script

import (
	"testing"

	"github.com/dop251/goja"
)

// run executes a program in a plain runtime with trivial helpers.
func run(t *testing.T, p *Program) goja.Value {
	t.Helper()
	vm := goja.New()
	main, err := vm.RunProgram(p.Main)
	if err != nil {
		t.Fatal(err)
	}
	call, ok := goja.AssertFunction(main)
	if !ok {
		t.Fatal("main is no function")
	}
	same := vm.ToValue(func(v goja.Value) goja.Value { return v })
	v, err := call(goja.Undefined(), vm.ToValue(func(k goja.Value) goja.Value { return k }), vm.Get("RegExp"), same, same, same, same, same)
	if err != nil {
		t.Fatal(err)
	}
	pr := v.Export().(*goja.Promise)
	if pr.State() != goja.PromiseStateFulfilled {
		t.Fatalf("state %v: %v", pr.State(), pr.Result())
	}
	return pr.Result()
}

func TestLastExpressionIsTheValue(t *testing.T) {
	p, findings := Admit("const x = 20;\nx + 22 // the answer", Options{Level: Strict})
	if p == nil {
		t.Fatal(findings)
	}
	if got := run(t, p).ToInteger(); got != 42 {
		t.Fatalf("got %d", got)
	}
}
