package engine

import (
	"runtime"

	"github.com/dop251/goja"

	"enclave/sandbox"
	"enclave/sandbox/script"
)

// tollAll puts the tolls of a built-in that has no template in their place.
func (r *realm) tollAll(o *goja.Object, holder string) {
	for name, toll := range r.e.tolls[holder] {
		if was, ok := o.Get(name).(*goja.Object); ok {
			r.check(o.DefineDataProperty(name, r.guarded(name, was, toll), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE))
		}
	}
}

// guarded is the function was behind its toll, with the same name and length.
func (r *realm) guarded(name string, was *goja.Object, before toll) *goja.Object {
	call, _ := goja.AssertFunction(was)
	return r.native(name, int(was.Get("length").ToInteger()), func(c goja.FunctionCall) goja.Value {
		before(r, &c)
		// Called by a promise job, with nothing of the script below it, this is the
		// outermost call to the interpreter, which runs the next jobs inside: a built-in
		// handed to a promise as its then would nest without end.
		if r.nested++; r.nested > maxCalls {
			panic(&halt{sandbox.Errorf(sandbox.CodeDepth, "calls were nested deeper than %d", maxCalls)})
		}
		defer func() {
			r.nested--
			// Some built-ins of the interpreter trip over an array that a callback changed
			// under them. For the script that is an exception like others.
			if x := recover(); x != nil {
				if _, tripped := x.(runtime.Error); tripped {
					r.throw("TypeError", "what %s works on changed meanwhile", name)
				}
				panic(x)
			}
		}()
		return try(call(c.This, c.Arguments...))
	})
}

// length is how many elements a built-in would visit in v. What is no array must hold
// its length as a plain number, so that nothing can give another one the second time.
func (r *realm) length(v goja.Value) int64 {
	if s, ok := v.(goja.String); ok {
		return int64(s.Length())
	}
	o, ok := v.(*goja.Object)
	if !ok {
		return 0
	}
	n := o.Get("length")
	if n == nil || goja.IsUndefined(n) {
		return 0
	}
	if _, object := n.(*goja.Object); object {
		r.throw("TypeError", "length is no number")
	}
	return integer(n)
}

// integer is v as the built-ins read it, but within an int64 and never negative.
func integer(v goja.Value) int64 {
	f := v.ToFloat()
	switch {
	case !(f > 0):
		return 0
	case f >= 1<<53:
		return 1 << 53
	}
	return int64(f)
}

func times(a, b int64) int64 {
	if a > 0 && b > (1<<53)/a {
		return 1 << 53
	}
	return a * b
}

// string is v as a string. What the interpreter calls that leaves a number a number.
func (r *realm) string(v goja.Value) goja.String {
	v = v.ToString()
	if s, ok := v.(goja.String); ok {
		return s
	}
	return r.rt.ToValue(v.String()).(goja.String)
}

// set makes argument i a number that has been coerced already.
func (r *realm) set(c *goja.FunctionCall, i int, n int64) {
	for len(c.Arguments) <= i {
		c.Arguments = append(c.Arguments, goja.Undefined())
	}
	c.Arguments[i] = r.rt.ToValue(n)
}

// text makes this a string, once, and returns its length.
func (r *realm) text(c *goja.FunctionCall) int64 {
	s, ok := c.This.(goja.String)
	if !ok {
		if c.This == nil || goja.IsUndefined(c.This) || goja.IsNull(c.This) {
			return 0
		}
		s = r.string(c.This)
		c.This = s
	}
	return int64(s.Length())
}

// flattened counts what flat would visit; shared arrays count each time.
func (r *realm) flattened(v goja.Value, depth int64) int64 {
	n := r.length(v)
	r.m.charge(n + elements/2)
	o, ok := v.(*goja.Object)
	if !ok || depth < 1 || o.ClassName() != "Array" || n > 1<<24 {
		return n
	}
	var items []goja.Value
	if r.rt.ExportTo(o, &items) != nil {
		return n
	}
	total := n
	for _, x := range items {
		if a, ok := x.(*goja.Object); ok && a.ClassName() == "Array" {
			total += r.flattened(a, depth-1)
		}
	}
	return total
}

func (r *realm) tollJoin(c *goja.FunctionCall) {
	n := r.length(c.This)
	r.m.charge(elements / 2) // nested arrays join each other
	r.m.alloc(n)
	sep := int64(1)
	if s, ok := c.Argument(0).(goja.String); ok {
		sep = int64(s.Length())
	}
	r.m.alloc(times(n, sep) + r.letters(c.This))
}

// letters is how much text the strings in an array have.
func (r *realm) letters(v goja.Value) (total int64) {
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() != "Array" || r.length(o) > 1<<24 {
		return 0
	}
	var items []goja.Value
	if r.rt.ExportTo(o, &items) != nil {
		return 0
	}
	for _, x := range items {
		if s, ok := x.(goja.String); ok {
			total += int64(s.Length())
		}
	}
	return total
}

// members is how many properties an object has of its own, at least where it has many.
func (r *realm) members(v goja.Value) int64 {
	if s, ok := v.(goja.String); ok {
		return int64(s.Length())
	}
	o, ok := v.(*goja.Object)
	if !ok {
		return 0
	}
	switch w := r.e.shape.words(o); {
	case w[0] == r.e.shape.plain.object:
		return int64(len((*plainObject)(w[1]).names))
	case w[0] == r.e.shape.plain.array:
		return r.length(o) + int64(len((*plainObject)(w[1]).names))
	case o.ClassName() == "String":
		return r.length(o)
	}
	n := int64(len(o.Keys()))
	r.m.charge(n)
	return n
}

// walk charges for going through all that v gives, one by one.
func (r *realm) walk(v goja.Value) {
	n := r.length(v)
	if o, ok := v.(*goja.Object); ok && (o.ClassName() == "Map" || o.ClassName() == "Set") {
		n = integer(o.Get("size"))
	}
	r.m.alloc(16 * n)
	r.m.charge(times(n, 4))
}

// visiting makes a callback that is a built-in itself pay at each call, and stop: it
// has no instructions of its own at which the end of a run is seen.
func (r *realm) visiting(c *goja.FunctionCall, at int) {
	if len(c.Arguments) <= at {
		return
	}
	o, ok := c.Arguments[at].(*goja.Object)
	if !ok || !r.e.shape.native[r.e.shape.words(o)[0]] {
		return
	}
	f, ok := goja.AssertFunction(o)
	if !ok {
		return
	}
	c.Arguments[at] = r.native("", 1, func(k goja.FunctionCall) goja.Value {
		n := int64(elements / 10)
		for _, a := range k.Arguments {
			if s, ok := a.(goja.String); ok {
				n += int64(s.Length()) / 8
			}
		}
		r.m.charge(n)
		return try(f(k.This, k.Arguments...))
	})
}

// guardKey is the helper for computed keys: the key is made a string exactly once.
func (r *realm) guardKey(c goja.FunctionCall) goja.Value {
	k := c.Argument(0)
	switch x := k.(type) {
	case goja.String:
	case *goja.Symbol:
		r.throw("TypeError", "a symbol is no key here")
	case *goja.Object:
		k = x.ToString()
	default:
		if t := k.ExportType(); t == typeInt || t == typeFloat {
			return k
		}
		k = k.ToString()
	}
	if s := k.String(); script.IsDangerousKey(s) {
		r.m.forbid.CompareAndSwap(nil, sandbox.Errorf(sandbox.CodeSecurity, "the script reached for %q through a computed key", s))
		r.throw("TypeError", "the key %q is not available", s)
	}
	return k
}

// makeRegexp is the helper for expression literals, whose pattern was checked.
func (r *realm) makeRegexp(c goja.FunctionCall) goja.Value {
	return try(objectOf(r.rt.New(r.regexp(), c.Argument(0), c.Argument(1))))
}

func objectOf(o *goja.Object, err error) (goja.Value, error) { return o, err }

// expression makes a regular expression of a text that nothing has checked.
func (r *realm) expression(pattern, flags string) goja.Value {
	if err := script.CheckRegexp(pattern, flags); err != nil {
		r.throw("SyntaxError", "%v", err)
	}
	return try(objectOf(r.rt.New(r.regexp(), r.rt.ToValue(pattern), r.rt.ToValue(flags))))
}

// regexpConstructor is the RegExp of the realm: it takes what runs in linear time.
func (r *realm) regexpConstructor() *goja.Object {
	f := r.rt.ToValue(func(c goja.ConstructorCall) *goja.Object {
		pattern, flags := "", ""
		if o, ok := c.Argument(0).(*goja.Object); ok && o.ClassName() == "RegExp" {
			pattern, flags = o.Get("source").String(), o.Get("flags").String()
		} else if !goja.IsUndefined(c.Argument(0)) {
			pattern = c.Argument(0).String()
		}
		if a := c.Argument(1); !goja.IsUndefined(a) {
			flags = a.String()
		}
		return r.expression(pattern, flags).(*goja.Object)
	}).(*goja.Object)
	r.check(f.DefineDataProperty("name", r.rt.ToValue("RegExp"), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE))
	r.check(f.DefineDataProperty("prototype", r.regexp().Get("prototype"), goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE))
	return f
}
