package engine

import (
	"math"
	"strings"

	"github.com/dop251/goja"
)

// toll is taken before a built-in does its work.
type toll func(r *realm, c *goja.FunctionCall)

// tolls are those of all built-ins, by holder and name.
type tolls map[string]map[string]toll

// add puts a toll in front of those that are there.
func (t tolls) add(holder, name string, f toll) {
	if t[holder] == nil {
		t[holder] = map[string]toll{}
	}
	if was := t[holder][name]; was != nil {
		next := f
		f = func(r *realm, c *goja.FunctionCall) { next(r, c); was(r, c) }
	}
	t[holder][name] = f
}

// newTolls puts a toll before every built-in whose work is not in proportion to the
// instructions that call it. The toll is taken before the work is done. What passes
// it and is still too much ends at the deadline, or at the kernel's memory limit:
// these exist so that the usual ends are exact and clean, not to be the wall.
func newTolls() tolls {
	t := tolls{}
	t.arrays()
	t.strings()
	t.regexps()
	t.sets()
	t.finds()
	t.objects()
	t.globals()
	t.locales()
	return t
}

// arrays are those of what visits each element.
func (t tolls) arrays() {
	for _, name := range []string{"indexOf", "lastIndexOf", "includes", "reverse", "fill", "copyWithin", "unshift", "shift", "slice",
		"map", "filter", "forEach", "every", "some", "reduce", "reduceRight", "find", "findIndex", "findLast", "findLastIndex",
		"flatMap", "splice", "toReversed", "toSpliced", "with", "push", "pop", "keys", "values", "entries"} {
		t.add(arrayProto, name, func(r *realm, c *goja.FunctionCall) { r.m.charge(r.length(c.This)) })
	}
	for _, name := range []string{"map", "filter", "forEach", "every", "some", "reduce", "reduceRight", "find", "findIndex", "findLast", "findLastIndex",
		"flatMap", "sort", "toSorted"} {
		t.add(arrayProto, name, func(r *realm, c *goja.FunctionCall) { r.visiting(c, 0) })
	}
	for _, name := range []string{"sort", "toSorted"} {
		t.add(arrayProto, name, func(r *realm, c *goja.FunctionCall) {
			n := r.length(c.This)
			rounds := int64(1 + math.Ilogb(float64(n)+1))
			r.m.charge(times(n, rounds))
			if goja.IsUndefined(c.Argument(0)) { // each is compared as text
				r.m.charge(times(r.letters(c.This)/64, rounds))
			}
		})
	}
	for _, name := range []string{"indexOf", "lastIndexOf", "includes"} {
		t.add(arrayProto, name, func(r *realm, c *goja.FunctionCall) {
			if s, ok := c.Argument(0).(goja.String); ok && s.Length() > 64 {
				r.m.charge(times(r.length(c.This), int64(s.Length())) / 256)
			}
		})
	}
	t.add(arrayProto, "concat", func(r *realm, c *goja.FunctionCall) {
		n := r.length(c.This)
		for _, a := range c.Arguments {
			if o, ok := a.(*goja.Object); ok {
				n += r.length(o)
			}
		}
		r.m.alloc(16 * n)
	})
	t.add(arrayProto, "flat", func(r *realm, c *goja.FunctionCall) {
		depth := int64(1)
		if a := c.Argument(0); !goja.IsUndefined(a) {
			depth = integer(a)
			c.Arguments[0] = r.rt.ToValue(depth)
		}
		r.m.alloc(16 * r.flattened(c.This, min(depth, 1000)))
	})
	for _, name := range []string{"join", "toLocaleString"} {
		t.add(arrayProto, name, func(r *realm, c *goja.FunctionCall) { r.tollJoin(c) })
	}
	t.add("Array", "from", func(r *realm, c *goja.FunctionCall) {
		r.walk(c.Argument(0))
		r.visiting(c, 1)
	})
}

// strings are those of what reads a text, or makes one.
func (t tolls) strings() {
	t.add(stringProto, "repeat", func(r *realm, c *goja.FunctionCall) {
		f := c.Argument(0).ToFloat()
		if f <= -1 || math.IsInf(f, 1) {
			r.throw("RangeError", "repeat takes a count from 0 on, and no endless one")
		}
		n := integer(r.rt.ToValue(f))
		r.set(c, 0, n)
		r.m.alloc(times(r.text(c), n))
	})
	for _, name := range []string{"padStart", "padEnd"} {
		t.add(stringProto, name, func(r *realm, c *goja.FunctionCall) {
			n := integer(c.Argument(0))
			r.set(c, 0, n)
			r.m.alloc(2 * n)
		})
	}
	t.add(stringProto, "localeCompare", func(r *realm, c *goja.FunctionCall) {
		n := r.text(c)
		if s, ok := c.Argument(0).(goja.String); ok {
			n += int64(s.Length())
		}
		r.m.charge(times(n, 4))
	})
	for _, name := range []string{"normalize", "toLocaleLowerCase", "toLocaleUpperCase", "toUpperCase", "toLowerCase", "trim", "trimStart", "trimEnd", "isWellFormed", "toWellFormed"} {
		t.add(stringProto, name, func(r *realm, c *goja.FunctionCall) { r.m.charge(r.text(c)) })
	}
	t.add(stringProto, "split", func(r *realm, c *goja.FunctionCall) {
		n := r.text(c)
		r.m.charge(n / 8)
		o, object := c.Argument(0).(*goja.Object)
		if object && o.ClassName() == "RegExp" || goja.IsUndefined(c.Argument(0)) {
			return
		}
		s := r.string(c.Arguments[0])
		c.Arguments[0] = s
		pieces := n
		if s.Length() > 0 && c.This != nil {
			pieces = 1 + int64(strings.Count(c.This.String(), s.String()))
		}
		r.m.alloc(32 * pieces)
	})
	t.replaces()
	// These make an expression of a string on the way: it must be one of ours.
	for _, name := range []string{"match", "matchAll", "search"} {
		t.add(stringProto, name, func(r *realm, c *goja.FunctionCall) {
			r.m.charge(r.text(c) / 8)
			a := c.Argument(0)
			if o, ok := a.(*goja.Object); ok && o.ClassName() == "RegExp" {
				return
			}
			if goja.IsUndefined(a) {
				return
			}
			flags := ""
			if name == "matchAll" {
				flags = "g"
			}
			c.Arguments[0] = r.expression(a.String(), flags)
		})
	}
	t.add(stringProto, "concat", func(r *realm, c *goja.FunctionCall) {
		n := r.text(c)
		for _, a := range c.Arguments {
			if s, ok := a.(goja.String); ok {
				n += int64(s.Length())
			}
		}
		r.m.alloc(2 * n)
	})
	t.add("String", "raw", func(r *realm, c *goja.FunctionCall) {
		if o, ok := c.Argument(0).(*goja.Object); ok {
			r.m.alloc(2 * r.rawText(o.Get("raw"), c.Arguments[1:]))
		}
	})
}

// objects are those of what visits each property, and of what makes calls.
func (t tolls) objects() {
	t.add(objectCtor, "fromEntries", func(r *realm, c *goja.FunctionCall) { r.walk(c.Argument(0)) })
	for _, name := range []string{"keys", "values", "entries", "getOwnPropertyNames", "freeze", "seal", "isFrozen", "isSealed"} {
		t.add(objectCtor, name, func(r *realm, c *goja.FunctionCall) { r.m.charge(r.members(c.Argument(0))) })
	}
	t.add(objectCtor, "assign", func(r *realm, c *goja.FunctionCall) {
		for _, a := range c.Arguments[min(1, len(c.Arguments)):] {
			r.m.charge(times(r.members(a), 4))
		}
	})
	t.add(objectCtor, "groupBy", func(r *realm, c *goja.FunctionCall) { r.walk(c.Argument(0)) })
	t.add(functionProto, "apply", func(r *realm, c *goja.FunctionCall) { r.m.alloc(16 * r.length(c.Argument(1))) })
	t.add(functionProto, "bind", func(r *realm, c *goja.FunctionCall) { r.m.charge(elements) })
}

// globals are those of what reads a text and belongs to nobody.
func (t tolls) globals() {
	for _, name := range []string{"parseInt", "parseFloat"} {
		for _, holder := range []string{"global", numberCtor} {
			t.add(holder, name, func(r *realm, c *goja.FunctionCall) {
				if s, ok := c.Argument(0).(goja.String); ok && s.Length() > 100 {
					r.m.charge(times(int64(s.Length()), int64(s.Length())) / 4096)
				}
			})
		}
	}
	for _, name := range []string{"encodeURI", "encodeURIComponent", "decodeURI", "decodeURIComponent"} {
		t.add("global", name, func(r *realm, c *goja.FunctionCall) {
			if s, ok := c.Argument(0).(goja.String); ok {
				r.m.alloc(9 * int64(s.Length()))
			}
		})
	}
}

// locales are those of what would write for a place on earth. There is no Intl: a language is
// not taken for a radix, and what would be written wrongly without what it asks for is refused.
func (t tolls) locales() {
	for _, holder := range []string{numberProto, bigintProto} {
		t.add(holder, "toLocaleString", func(r *realm, c *goja.FunctionCall) {
			if !goja.IsUndefined(c.Argument(1)) {
				r.throw("TypeError", "toLocaleString takes no options here, there is no Intl; round with toFixed(2), and add signs and units yourself")
			}
			c.Arguments = nil
		})
	}
	for _, name := range []string{"toLocaleString", "toLocaleDateString", "toLocaleTimeString"} {
		t.add(dateProto, name, func(r *realm, c *goja.FunctionCall) {
			o, ok := c.Argument(1).(*goja.Object)
			if !ok {
				return
			}
			if zone := o.Get("timeZone"); zone != nil && !goja.IsUndefined(zone) && !zone.StrictEquals(r.rt.ToValue("UTC")) {
				r.throw("RangeError", "there is no time zone but UTC here; shift the date by the hours that it is off, and say which zone that is")
			}
		})
	}
}
