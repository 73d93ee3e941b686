package engine

import (
	"testing"

	"github.com/dop251/goja"

	"enclave/sandbox/script"
)

// TestAllThatIsReachableIsFrozen walks from every name of the scope and from every kind
// of literal along properties and prototypes, accessors included, and asks of each
// object that the realm made whether it is frozen.
func TestAllThatIsReachableIsFrozen(t *testing.T) {
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range script.Permissive.Rules().Globals { // also alone: it makes what it needs
		walkRealm(t, e, name)
	}
	walkRealm(t, e, script.Permissive.Rules().Globals...)
}

func walkRealm(t *testing.T, e *Engine, names ...string) {
	t.Helper()
	e.ready = nil
	if err := e.Prepare(); err != nil {
		t.Fatal(err)
	}
	r := e.ready
	plain := goja.New()
	isFrozen := r.method(r.builtin("Object"), "isFrozen")
	seen := map[*goja.Object]bool{}
	var visit func(path string, v goja.Value, own bool)
	visit = func(path string, v goja.Value, own bool) {
		o, ok := v.(*goja.Object)
		if !ok || seen[o] {
			return
		}
		seen[o] = true
		if !own {
			yes, err := isFrozen(goja.Undefined(), o)
			if err != nil || !yes.ToBoolean() {
				t.Errorf("%v: %s is not frozen", names, path)
			}
		}
		if p := o.Prototype(); p != nil {
			visit(path+".[[Prototype]]", p, false)
		}
		for _, k := range o.GetOwnPropertyNames() {
			if script.IsDangerousKey(k) && !(k == "prototype" && isFunction(o)) {
				t.Errorf("%v: %s has a %s", names, path, k)
			}
			if script.IsMetaMethod(k) {
				t.Errorf("%v: %s has %s", names, path, k)
			}
			_ = r.rt.Try(func() { visit(path+"."+k, o.Get(k), false) })
		}
		for _, s := range o.Symbols() {
			_ = r.rt.Try(func() { visit(path+"."+s.String(), o.GetSymbol(s), false) })
		}
	}
	for _, name := range names {
		v := r.rt.GlobalObject().Get(name)
		if v == nil {
			t.Errorf("there is no %s", name)
		}
		visit(name, v, false)
	}
	visit("the global object", r.rt.GlobalObject(), false)
	for _, name := range plain.GlobalObject().GetOwnPropertyNames() {
		if v := r.rt.GlobalObject().Get(name); v != nil {
			known := false
			for _, n := range script.Permissive.Rules().Globals {
				known = known || n == name
			}
			if !known {
				t.Errorf("a script could name %s", name)
			}
		}
	}
	made, err := r.rt.RunString(`[{}, [], "", 1, true, 1n, () => 1, async () => 1, (async () => 1)(), [].values(), ""[(() => 1).name],
		(() => { try { null.x } catch (e) { return e } })(), (() => { try { x } catch (e) { return e } })(), (() => { try { [].reduce(() => 1) } catch (e) { return e } })()]`)
	if err != nil {
		t.Fatal(err)
	}
	list := made.(*goja.Object)
	seen[list] = true
	for i := range int(list.Get("length").ToInteger()) {
		v := list.Get(r.rt.ToValue(i).String())
		if v == nil || goja.IsUndefined(v) {
			continue
		}
		o := v.ToObject(r.rt)
		seen[o] = true
		visit("the prototype of a literal", o.Prototype(), false)
	}
	visit("an expression", r.regexp().Get("prototype"), false)
}
