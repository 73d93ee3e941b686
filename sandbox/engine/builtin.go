package engine

import (
	"github.com/dop251/goja"
	"github.com/dop251/goja/unistring"

	"enclave/sandbox/script"
)

// This file says what a script finds in its realm. Most of it is made when the script
// first reaches for it (template.go); what a value can lead to without a name is made,
// and frozen, before the script begins.

// comes is a built-in as the interpreter makes it.
func (r *realm) comes(name string) goja.Value {
	return r.e.shape.held(r.e.shape.global.props[unistring.NewFromString(name)](r.rt))
}

func (r *realm) builtin(name string) *goja.Object { return r.comes(name).(*goja.Object) }

func prototypeOf(o *goja.Object) *goja.Object {
	p, _ := o.Get("prototype").(*goja.Object)
	return p
}

// furnish makes what needs no name: the prototypes of what literals, errors of the
// interpreter and async functions give.
func (r *realm) furnish() {
	object := r.builtin("Object")
	r.closed = r.method(object, "preventExtensions")
	r.freezer = r.method(object, "freeze")
	*r.e.shape.slot(r.rt.GlobalObject()) = r.e.names
	r.call(r.closed, r.rt.GlobalObject())

	r.object = prototypeOf(object)
	r.dress(objectProto, r.object)
	r.dress(functionProto, prototypeOf(r.builtin("Function")))
	r.list = prototypeOf(r.builtin("Array"))
	r.dress(arrayProto, r.list)
	r.dress(stringProto, prototypeOf(r.builtin("String")))
	r.dress(numberProto, prototypeOf(r.builtin("Number")))
	r.dress(bigintProto, prototypeOf(r.builtin("BigInt")))
	r.prototype(prototypeOf(r.builtin("Boolean")))
	r.prototype(prototypeOf(r.builtin("Symbol")))
	r.prototype(prototypeOf(r.builtin("Promise")))
	r.errors()

	array := r.rt.NewArray()
	r.iterator(array, goja.SymIterator)
	r.iterator(r.rt.ToValue("").ToObject(r.rt), goja.SymIterator)
	seeds, err := r.rt.RunProgram(r.e.seeds)
	if err != nil {
		r.check(err)
		return
	}
	generator := seeds.(*goja.Object).Get("1").(*goja.Object)
	r.prototype(seeds.(*goja.Object).Get("0").(*goja.Object).Prototype())
	r.prototype(prototypeOf(generator).Prototype())
	r.prototype(generator.Prototype())
}

// errors are thrown by the interpreter itself too. Their name and message may be set on
// an error of the script's own.
func (r *realm) errors() {
	r.fail = r.builtin("Error")
	proto := prototypeOf(r.fail)
	r.yielding(proto, "message")
	for _, name := range []string{"Error", "TypeError", "RangeError", "SyntaxError", "ReferenceError", "EvalError", "URIError", "AggregateError"} {
		ctor := r.builtin(name)
		r.kinds[name] = ctor
		p := prototypeOf(ctor)
		if p != proto {
			r.check(p.Delete("message")) // that of Error is the same
		}
		r.yielding(p, "name")
		r.prototype(p)
	}
	r.describe(r.kinds["TypeError"])
}

// global is the value of a name of the scope.
func (r *realm) global(name string) goja.Value {
	switch name {
	case script.CallTool:
		return r.frozen(r.native(name, 2, r.callTool))
	case script.Parallel:
		return r.frozen(r.parallel())
	case "console":
		return r.deep(r.console())
	case "JSON":
		j := r.rt.NewObject()
		r.check(j.Set("parse", r.native("parse", 2, r.jsonParse)))
		r.check(j.Set("stringify", r.native("stringify", 3, r.jsonStringify)))
		return r.deep(j)
	case "RegExp":
		return r.frozen(r.regexpConstructor())
	case "Object":
		return r.ctor(objectCtor, r.builtin(name))
	case "Number":
		return r.ctor(numberCtor, r.builtin(name))
	case "Math":
		return r.ctor(mathObject, r.builtin(name))
	case "Date":
		r.dress(dateProto, prototypeOf(r.builtin(name)))
		return r.ctor(dateCtor, r.builtin(name))
	case "Map", "Set":
		o := r.builtin(name)
		r.tollAll(prototypeOf(o), name+".prototype")
		r.prototype(prototypeOf(o))
		empty, err := r.rt.New(o)
		r.check(err)
		r.iterator(empty, goja.SymIterator)
		return r.deep(o)
	}
	o, ok := r.comes(name).(*goja.Object)
	if !ok {
		return r.comes(name) // undefined, NaN, Infinity
	}
	if toll := r.e.tolls["global"][name]; toll != nil {
		return r.frozen(r.guarded(name, o, toll))
	}
	if r.kinds[name] != nil {
		r.deep(r.fail) // the others inherit from it
	}
	r.tollAll(o, name)
	return r.deep(o)
}

func (r *realm) ctor(holder string, o *goja.Object) goja.Value {
	r.dress(holder, o)
	return o
}

// regexp is the interpreter's RegExp, whose prototype is ready for scripts. They get
// another constructor (regexpConstructor).
func (r *realm) regexp() *goja.Object {
	if r.regex == nil {
		r.regex = r.builtin("RegExp")
		proto := prototypeOf(r.regex)
		r.check(proto.Delete("compile")) // it would let a pattern in that nothing has checked
		r.tollAll(proto, "RegExp.prototype")
		x, err := r.rt.New(r.regex, r.rt.ToValue("x"), r.rt.ToValue("g"))
		r.check(err)
		r.iterator(x, goja.SymMatchAll)
		r.prototype(proto)
	}
	return r.regex
}

// parallel is the one global that is written in the script's own language.
func (r *realm) parallel() *goja.Object {
	if r.e.parallel == nil {
		program, err := compile("parallel", parallelSource)
		if err != nil {
			panic(err)
		}
		r.e.parallel = program
	}
	make, err := r.rt.RunProgram(r.e.parallel)
	if err != nil {
		panic(err)
	}
	f, _ := goja.AssertFunction(make)
	promise := r.builtin("Promise")
	all := r.function(promise, "all")
	got, err := f(goja.Undefined(), r.kinds["TypeError"], r.kinds["RangeError"],
		r.native("", 0, func(c goja.FunctionCall) goja.Value {
			o, ok := c.Argument(0).(*goja.Object)
			return r.rt.ToValue(ok && o.ClassName() == "Array")
		}),
		r.native("", 0, func(goja.FunctionCall) goja.Value { return r.rt.ToValue(r.run.spec.Limits.Pending) }),
		r.native("", 1, func(c goja.FunctionCall) goja.Value { return try(all(promise, c.Argument(0))) }))
	// Behind a function of ours its text is none that a script can read.
	return r.guarded(script.Parallel, try(got, err).(*goja.Object), func(*realm, *goja.FunctionCall) {})
}

// method is what the template of o makes under a name, and o does not have then.
func (r *realm) method(o *goja.Object, name string) goja.Callable {
	slot := r.e.shape.slot(o)
	if slot == nil || (*slot).props[unistring.NewFromString(name)] == nil {
		return r.function(r.rt.NewObject(), name)
	}
	f, _ := goja.AssertFunction(r.e.shape.held((*slot).props[unistring.NewFromString(name)](r.rt)))
	return f
}

// function is the one that o has under a name.
func (r *realm) function(o *goja.Object, name string) goja.Callable {
	f, ok := goja.AssertFunction(o.Get(name))
	if !ok {
		r.check(errShape)
		return func(goja.Value, ...goja.Value) (goja.Value, error) { return goja.Undefined(), errShape }
	}
	return f
}

func (r *realm) call(f goja.Callable, o *goja.Object) {
	_, err := f(goja.Undefined(), o)
	r.check(err)
}

func (r *realm) freeze(o *goja.Object) { r.call(r.freezer, o) }

func (r *realm) frozen(o *goja.Object) goja.Value {
	r.freeze(o)
	return o
}

// deep freezes an object and the functions that are its properties.
func (r *realm) deep(o *goja.Object) goja.Value {
	inner := func(v goja.Value) {
		if f, ok := v.(*goja.Object); ok && isFunction(f) {
			r.freeze(f)
		}
	}
	for _, name := range o.GetOwnPropertyNames() {
		// What an accessor says of a prototype, if it says anything, is no function.
		_ = r.rt.Try(func() { inner(o.Get(name)) })
	}
	for _, s := range o.Symbols() {
		_ = r.rt.Try(func() { inner(o.GetSymbol(s)) })
	}
	return r.frozen(o)
}

// prototype takes away what leads behind a prototype, and freezes it.
func (r *realm) prototype(p *goja.Object) {
	r.check(p.Delete("constructor"))
	r.deep(p)
}

// iterator freezes what the iterators of a kind of value have in common.
func (r *realm) iterator(of *goja.Object, by *goja.Symbol) {
	f, ok := goja.AssertFunction(of.GetSymbol(by))
	if !ok {
		r.check(errShape)
		return
	}
	it, err := f(of, r.rt.ToValue(""))
	if err != nil {
		r.check(err)
		return
	}
	p := it.(*goja.Object).Prototype()
	r.prototype(p)
	r.prototype(p.Prototype())
}

// yielding makes a property one that an object of the script may have of its own: a
// frozen prototype would forbid a script to set it on anything.
func (r *realm) yielding(holder *goja.Object, key string) {
	get, set := r.accessors(holder, key, holder.Get(key))
	r.check(holder.DefineAccessorProperty(key, get, set, goja.FLAG_FALSE, goja.FLAG_FALSE))
}

func (r *realm) accessors(holder *goja.Object, key string, value goja.Value) (get, set *goja.Object) {
	get = r.rt.ToValue(func(goja.FunctionCall) goja.Value { return value }).(*goja.Object)
	set = r.rt.ToValue(func(c goja.FunctionCall) goja.Value {
		o, ok := c.This.(*goja.Object)
		if !ok || o == holder {
			r.throw("TypeError", "cannot change a built-in")
		}
		if err := o.DefineDataProperty(key, c.Argument(0), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
			panic(err)
		}
		return goja.Undefined()
	}).(*goja.Object)
	return get, set
}
