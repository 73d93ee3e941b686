package engine

import (
	"math/big"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"

	"enclave/sandbox"
	"enclave/sandbox/script"
)

// helpers are what a program's main function takes, in the order of script.Helper.
func (r *realm) helpers() []goja.Value {
	return []goja.Value{
		script.GuardKey:   r.native("", 1, r.guardKey),
		script.MakeRegexp: r.native("", 2, r.makeRegexp),
		script.Spread:     r.native("", 1, paid(r.spread)),
		script.Big:        r.native("", 2, r.big),
		script.Trace:      r.native("", 1, r.trace),
		script.Throw:      r.native("", 1, r.throwing),
		script.Copy:       r.native("", 1, paid(r.copied)),
	}
}

// paid is a helper that returns what it is given once that has been paid for.
func paid(pay func(goja.Value)) func(goja.FunctionCall) goja.Value {
	return func(c goja.FunctionCall) goja.Value {
		pay(c.Argument(0))
		return c.Argument(0)
	}
}

// spread takes payment for what is about to be walked through natively.
func (r *realm) spread(v goja.Value) {
	switch x := v.(type) {
	case goja.String:
		r.m.alloc(spreadBytes * int64(x.Length()))
		r.walk(v)
	case *goja.Object:
		switch x.ClassName() {
		case "Array":
			r.m.alloc(spreadBytes * r.length(x))
		case "Map", "Set":
			r.m.alloc(spreadBytes * integer(x.Get("size")))
		default:
			return
		}
		r.walk(v)
	}
}

// spreadBytes is what an element takes on its way through a spread: it stands on the
// interpreter's stack, and in what the stack outgrew.
const spreadBytes = 100

// rested takes payment for what a pattern's rest is about to be taken from: its elements go
// straight into another array, as with slice.
func (r *realm) rested(v goja.Value) {
	n := r.length(v)
	if o, ok := v.(*goja.Object); ok && (o.ClassName() == "Map" || o.ClassName() == "Set") {
		n = integer(o.Get("size"))
	}
	r.m.alloc(restBytes * n)
	r.m.charge(n)
}

// restBytes is what an element takes in the array of a rest, and in what that outgrew.
const restBytes = 32

// copied takes payment for an object whose properties are about to be copied.
func (r *realm) copied(v goja.Value) {
	n := r.members(v)
	r.m.alloc(128 * n)
	r.m.charge(times(n, 2))
}

// big is the helper for operands that may be a BigInt: interrupts are not seen inside
// its arithmetic, so that what takes long is refused.
func (r *realm) big(c goja.FunctionCall) goja.Value {
	v := c.Argument(1)
	if _, object := v.(*goja.Object); object {
		r.throw("TypeError", "use a number or a BigInt here, not an object")
	}
	n, ok := v.Export().(*big.Int)
	if !ok {
		return v
	}
	bits, most := script.BigUse(c.Argument(0).ToInteger()).Most()
	switch {
	case bits > 0 && n.BitLen() > bits:
		panic(&halt{sandbox.Errorf(sandbox.CodeMemory, "a BigInt grew beyond the %d bits that it may have here", bits)})
	case bits == 0 && (!n.IsInt64() || n.Int64() > most || n.Int64() < -most):
		panic(&halt{sandbox.Errorf(sandbox.CodeMemory, "a BigInt would grow too large: the operand is beyond %d", most)})
	}
	r.m.charge(int64(n.BitLen()) / 64)
	return v
}

// regexps lets matching pay before it begins: it is linear in the text and in the
// pattern, and no interrupt is seen on the way.
func (t tolls) regexps() {
	for _, name := range []string{"exec", "test"} {
		t.add("RegExp.prototype", name, func(r *realm, c *goja.FunctionCall) {
			if len(c.Arguments) == 0 {
				return
			}
			s := r.string(c.Arguments[0])
			c.Arguments[0] = s
			n := int64(s.Length())
			if o, ok := c.This.(*goja.Object); ok {
				if at := o.Get("lastIndex"); at != nil {
					if _, object := at.(*goja.Object); !object {
						n -= min(n, integer(at))
					}
				}
			}
			cost := r.matching(c.This, n)
			r.m.afford(cost)
			if cost > maxMatching {
				r.m.overrun()
			}
			r.m.charge(cost / 64) // most matches end long before the text does
		})
	}
}

// maxMatching is the most work that one match may be: nothing stops it on the way.
const maxMatching = 100_000_000 / stepsOfElement

// stepsOfElement is how many steps of matching count as work on one element.
const stepsOfElement = 512

// matching is the work of running re over a text of n.
func (r *realm) matching(re goja.Value, n int64) int64 {
	o, ok := re.(*goja.Object)
	if !ok || o.ClassName() != "RegExp" {
		return n / 8
	}
	return times(n, r.instructions(o.Get("source").String())) / stepsOfElement
}

// maxPatterns bounds how many patterns a realm remembers.
const maxPatterns = 256

// instructions is the length of the program that a pattern becomes.
func (r *realm) instructions(source string) int64 {
	if n, ok := r.patterns[source]; ok {
		return n
	}
	n := int64(len(source))
	if g, err := parser.TransformRegExp(source, false, false); err == nil {
		if tree, err := syntax.Parse(g, syntax.Perl); err == nil {
			if p, err := syntax.Compile(tree.Simplify()); err == nil {
				n = int64(len(p.Inst))
			}
		}
	}
	if len(r.patterns) < maxPatterns {
		r.patterns[strings.Clone(source)] = n
	}
	return n
}

// sets charges for what visits a whole set or map. The methods that combine two
// sets take anything with the right shape, and would walk an endless one natively:
// here they take sets and maps.
func (t tolls) sets() {
	size := func(v goja.Value) int64 {
		if o, ok := v.(*goja.Object); ok && (o.ClassName() == "Set" || o.ClassName() == "Map") {
			return integer(o.Get("size"))
		}
		return -1
	}
	for _, name := range []string{"union", "intersection", "difference", "symmetricDifference", "isSubsetOf", "isSupersetOf", "isDisjointFrom"} {
		t.add("Set.prototype", name, func(r *realm, c *goja.FunctionCall) {
			n := size(c.Argument(0))
			if n < 0 {
				r.throw("TypeError", "%s takes a Set", name)
			}
			r.m.charge(max(0, size(c.This)) + n)
		})
	}
	for _, holder := range []string{"Set.prototype", "Map.prototype"} {
		t.add(holder, "forEach", func(r *realm, c *goja.FunctionCall) {
			r.m.charge(1 + max(0, size(c.This)))
			r.visiting(c, 0)
		})
	}
}

// finds charges for searching text in text, which takes the product of the two
// lengths where both go beyond ASCII.
func (t tolls) finds() {
	for _, name := range []string{"indexOf", "lastIndexOf", "includes", "split", "replaceAll", "replace"} {
		t.add(stringProto, name, func(r *realm, c *goja.FunctionCall) {
			n := r.text(c)
			if s, ok := c.Argument(0).(goja.String); ok && n > 1<<12 && s.Length() > 1 {
				r.m.charge(times(n, int64(s.Length())) / 1024)
			}
		})
	}
}

// rawText charges for the parts of a String.raw and returns how long their texts are, with
// what is put between them.
func (r *realm) rawText(raw goja.Value, between []goja.Value) (sum int64) {
	n := r.length(raw)
	r.m.charge(n)
	parts, _ := raw.(*goja.Object)
	add := func(v goja.Value) {
		if s, ok := v.(goja.String); ok {
			sum += int64(s.Length())
		}
	}
	for i := range n {
		if parts != nil {
			add(parts.Get(strconv.FormatInt(i, 10)))
		}
		if i+1 < n && i < int64(len(between)) {
			add(between[i])
		}
	}
	return sum
}
