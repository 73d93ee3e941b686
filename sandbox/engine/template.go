package engine

import (
	"slices"

	"github.com/dop251/goja"
	"github.com/dop251/goja/unistring"

	"enclave/sandbox/lean"
	"enclave/sandbox/script"
)

// The built-ins that have templates, by the names under which tolls know them.
const (
	objectCtor    = "Object"
	objectProto   = "Object.prototype"
	functionProto = "Function.prototype"
	arrayProto    = "Array.prototype"
	stringProto   = "String.prototype"
	numberCtor    = "Number"
	numberProto   = "Number.prototype"
	bigintProto   = "BigInt.prototype"
	dateCtor      = "Date"
	dateProto     = "Date.prototype"
	mathObject    = "Math"
)

// dropped are the properties that no script may have: what rewrites objects, what makes
// code of text, and what reaches behind a value. constructor goes from every prototype.
var dropped = map[string][]string{
	objectCtor: {"defineProperty", "defineProperties", "setPrototypeOf", "getPrototypeOf", "getOwnPropertyDescriptor",
		"getOwnPropertyDescriptors", "create", "getOwnPropertySymbols", "preventExtensions"},
	objectProto:   {"constructor", "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"},
	functionProto: {"constructor", "caller", "arguments"},
	arrayProto:    {"constructor"},
	stringProto: {"constructor", "anchor", "big", "blink", "bold", "fixed", "fontcolor", "fontsize", "italics", "link", "small",
		"strike", "sub", "sup"},
	numberProto: {"constructor"},
	bigintProto: {"constructor"},
	dateProto:   {"constructor"},
}

// ofLanguage are the methods of strings that know of languages: they are all that needs
// that part of the interpreter.
var ofLanguage = []string{"toLowerCase", "toUpperCase", "toLocaleLowerCase", "toLocaleUpperCase", "localeCompare"}

// dress gives a built-in its frozen template and lets nothing be added to it. It must
// come before anything has been asked of the built-in.
func (r *realm) dress(holder string, o *goja.Object) {
	slot := r.e.shape.slot(o)
	if slot == nil {
		r.check(errShape)
		return
	}
	t, ok := r.e.templates[holder]
	if !ok {
		t = r.e.dressed(*slot, holder)
		r.e.templates[holder] = t
	}
	*slot = t
	r.call(r.closed, o)
}

// dressed makes the frozen template of a built-in from the one that it comes with. It
// is made once, and works for the realm that there is at the time.
func (e *Engine) dressed(was *template, holder string) *template {
	t := &template{props: make(map[unistring.String]factory, len(was.props)), protoFactory: was.protoFactory}
	drop := map[unistring.String]bool{}
	for _, name := range dropped[holder] {
		drop[unistring.NewFromString(name)] = true
	}
	for _, name := range was.propNames {
		if drop[name] {
			continue
		}
		make, toll := was.props[name], e.tolls[holder][name.String()]
		if holder == stringProto && slices.Contains(ofLanguage, name.String()) {
			plain := make
			make = func(rt *goja.Runtime) goja.Value {
				lean.Initialise(lean.Language)
				return plain(rt)
			}
		}
		t.propNames = append(t.propNames, name)
		t.props[name] = func(rt *goja.Runtime) goja.Value { return e.now.firm(make(rt), name.String(), toll) }
		if holder == objectProto && (name == "toString" || name == "valueOf") {
			firm := t.props[name]
			t.props[name] = func(rt *goja.Runtime) goja.Value {
				get, set := e.now.accessors(e.now.object, name.String(), e.shape.held(firm(rt)))
				return e.shape.pair(rt, get, set)
			}
		}
	}
	if was.symProps != nil {
		t.symProps = map[*goja.Symbol]factory{}
	}
	for _, name := range was.symPropNames {
		make := was.symProps[name]
		t.symPropNames = append(t.symPropNames, name)
		t.symProps[name] = func(rt *goja.Runtime) goja.Value { return e.now.firm(make(rt), "", nil) }
	}
	return t
}

// firm is the frozen form of a property as it comes, behind its toll. A pair of
// accessors stays as it is: nothing in a realm can get at the functions.
func (r *realm) firm(v goja.Value, name string, toll toll) goja.Value {
	held := r.e.shape.held(v)
	if held == nil {
		return v
	}
	if o, ok := held.(*goja.Object); ok {
		if toll != nil {
			o = r.guarded(name, o, toll)
			held = o
		}
		if isFunction(o) {
			r.freeze(o)
		}
	}
	return r.e.shape.frozen(r.rt, held)
}

func isFunction(o *goja.Object) bool {
	_, ok := goja.AssertFunction(o)
	return ok
}

// scope makes the template of the global object: the names that scripts may use, each
// made when a script first uses it, and nothing else.
func (e *Engine) scope() *template {
	t := &template{props: map[unistring.String]factory{}, protoFactory: func(*goja.Runtime) *goja.Object { return nil }}
	for _, name := range script.Permissive.Rules().Globals {
		key := unistring.NewFromString(name)
		t.propNames = append(t.propNames, key)
		t.props[key] = func(rt *goja.Runtime) goja.Value { return e.shape.frozen(rt, e.now.global(name)) }
	}
	return t
}
