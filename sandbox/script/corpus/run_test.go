package corpus

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/dop251/goja"

	"enclave/sandbox/script"
)

// plain runs an admitted program in a bare runtime, with just enough around it for
// the valid scripts: what they are worth must not depend on the engine's guards.
const plain = `(function (users) {
  const tools = {
    echo: a => a,
    'users:list': a => ({ items: users.slice(0, a.limit ?? 3), total: 3 }),
    'users:get': a => users.find(u => u.id === a.id) ?? null,
    fail: () => { throw new Error('x') },
    slow: () => ({ ok: true }),
  }
  globalThis.callTool = async (name, args) => JSON.parse(JSON.stringify(tools[name](args ?? {})))
  globalThis.parallel = (items, fn = x => x) => Promise.all(items.map(fn))
  globalThis.console = { log() {}, warn() {}, error() {} }
})([{ id: 1, name: 'Ann', age: 30 }, { id: 2, name: 'Bob', age: 25 }, { id: 3, name: 'Cyd', age: 35 }])`

func TestValidScriptsHaveTheirValue(t *testing.T) {
	all, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Kind != Value {
			continue
		}
		p, findings := script.Admit(s.Source, script.Options{Level: s.Level, Tools: Tools()})
		if p == nil {
			t.Errorf("%s is refused: %+v", s.Path(), findings)
			continue
		}
		got, err := value(p)
		if err != nil {
			t.Errorf("%s: %v", s.Path(), err)
			continue
		}
		var a, b any
		if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(s.Value), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s, want %s", s.Path(), got, s.Value)
		}
	}
}

func value(p *script.Program) (string, error) {
	vm := goja.New()
	if _, err := vm.RunString(plain); err != nil {
		return "", err
	}
	main, err := vm.RunProgram(p.Main)
	if err != nil {
		return "", err
	}
	vm.Set("main", main)
	v, err := vm.RunString(`var out; main(k => typeof k === 'object' ? String(k) : k, (p, f) => new RegExp(p, f), x => x, (u, x) => x, x => x, x => x, x => x).then(
	  v => { out = JSON.stringify(v) ?? 'null' }, e => { out = 'error ' + e }); out`)
	if err != nil {
		return "", err
	}
	_ = v
	return vm.Get("out").String(), nil
}
