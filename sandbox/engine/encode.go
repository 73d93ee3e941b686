package engine

import (
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/dop251/goja"
)

// bounds are the limits of one text.
type bounds struct {
	bytes int64
	depth int
	nodes int
}

// encoder writes a value of the engine as JSON, with bounds on bytes, depth and
// values. A value that is shared counts each time it is written: a small graph
// cannot become a large text unnoticed. It never uses the engine's own Export.
type encoder struct {
	m      *meter
	shape  *shape
	frozen [2]*goja.Object // the prototypes of objects and of arrays: they have no toJSON
	rt     *goja.Runtime
	left   bounds
	buf    []byte
	whole  bool            // crossing: functions and symbols are errors, Map and Set are written, BigInt is a string
	indent string          // of one level
	only   map[string]bool // keys to write; nil: all
	depth  int
}

// tooLarge is what fails: it becomes a TypeError, or the end of the run.
type tooLarge string

func (e tooLarge) Error() string { return string(e) }

// omitted says that a value has no JSON: undefined, a function, a symbol.
type omitted struct{}

func (omitted) Error() string { return "the value has no JSON form" }

var (
	typeInt   = reflect.TypeFor[int64]()
	typeFloat = reflect.TypeFor[float64]()
	typeBool  = reflect.TypeFor[bool]()
	typeText  = reflect.TypeFor[string]()
	typeMap   = reflect.TypeFor[[][2]any]()
	typeSet   = reflect.TypeFor[[]any]() // of arrays too, which have a class of their own
)

func (e *encoder) spend(bytes int) error {
	if e.left.nodes--; e.left.nodes < 0 {
		return tooLarge("it has too many values")
	}
	if e.left.nodes&0xff == 0 {
		e.m.charge(2 << 8)
	}
	return e.fits(bytes)
}

func (e *encoder) fits(bytes int) error {
	if int64(len(e.buf)+bytes) > e.left.bytes {
		return tooLarge(fmt.Sprintf("it is larger than %d bytes of JSON", e.left.bytes))
	}
	return nil
}

// value appends v. key is the name it has in its holder, for toJSON.
func (e *encoder) value(v goja.Value, key string) error {
	if o, ok := v.(*goja.Object); ok {
		return e.object(o, key)
	}
	if err := e.spend(1); err != nil {
		return err
	}
	if v == nil {
		return omitted{}
	}
	switch v.ExportType() {
	case typeText:
		if s, ok := v.(goja.String); ok {
			return e.text(s)
		}
		return omitted{} // a symbol
	case typeInt:
		e.buf = strconv.AppendInt(e.buf, v.ToInteger(), 10)
	case typeFloat:
		if f := v.ToFloat(); math.IsNaN(f) || math.IsInf(f, 0) {
			e.buf = append(e.buf, "null"...)
		} else if f == 0 {
			e.buf = append(e.buf, '0')
		} else if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
			e.buf = strconv.AppendFloat(e.buf, f, 'f', -1, 64)
		} else {
			e.buf = append(e.buf, v.String()...)
		}
	case typeBool:
		e.buf = strconv.AppendBool(e.buf, v.ToBoolean())
	default:
		if goja.IsUndefined(v) {
			return omitted{}
		}
		if goja.IsNull(v) {
			e.buf = append(e.buf, "null"...)
			return nil
		}
		if _, symbol := v.(*goja.Symbol); symbol {
			return omitted{}
		}
		// All that is left is BigInt.
		if !e.whole {
			return tooLarge("a BigInt has no JSON form")
		}
		s := v.String()
		if err := e.fits(len(s) + 2); err != nil {
			return err
		}
		e.buf = append(append(append(e.buf, '"'), s...), '"')
	}
	return nil
}

func (e *encoder) object(o *goja.Object, key string) error {
	if err := e.spend(2); err != nil {
		return err
	}
	if p := e.shape.plainObject(o); p != nil && p.prototype == e.frozen[0] && p.values["toJSON"] == nil {
		return e.plain(o, p)
	}
	if p, list := e.shape.plainArray(o); list != nil && p.prototype == e.frozen[1] && p.values["toJSON"] == nil {
		return e.list(list)
	}
	if f, ok := goja.AssertFunction(o.Get("toJSON")); ok {
		v, err := f(o, e.rt.ToValue(key))
		if err != nil {
			return err
		}
		if again, same := v.(*goja.Object); !same {
			return e.value(v, key)
		} else {
			o = again
		}
	}
	if err := e.deeper(); err != nil {
		return err
	}
	defer func() { e.depth-- }()
	switch o.ClassName() {
	case "Array":
		return e.array(o)
	case "Function":
		return omitted{}
	case "String", "Number", "Boolean":
		return e.value(primitive(o), key)
	case "Error":
		if e.whole {
			return e.failure(o)
		}
	case "RegExp":
		if e.whole {
			return e.text(o.ToString().(goja.String))
		}
	case "Promise":
		if e.whole {
			return tooLarge("it holds a promise: await it first")
		}
	}
	if t := o.ExportType(); e.whole && (t == typeMap || t == typeSet) {
		return e.collection(o, t == typeMap)
	}
	e.buf = append(e.buf, '{')
	n := 0
	for _, k := range o.Keys() {
		if e.only != nil && !e.only[k] {
			continue
		}
		if err := e.member(k, o.Get(k), &n); err != nil {
			return err
		}
	}
	return e.close('}', n)
}

// plain appends an object as a literal makes it.
func (e *encoder) plain(o *goja.Object, p *plainObject) error {
	if err := e.deeper(); err != nil {
		return err
	}
	e.buf = append(e.buf, '{')
	n := 0
	for _, name := range p.names {
		k := goString(name)
		if e.only != nil && !e.only[k] {
			continue
		}
		v, again := e.shape.member(p, name)
		if again {
			v = o.Get(k)
		}
		if err := e.member(k, v, &n); err != nil {
			return err
		}
	}
	err := e.close('}', n)
	e.depth--
	return err
}

// list appends an array of plain values. Writing one of them can run a toJSON, which
// can do anything to the array: it is looked at anew for each.
func (e *encoder) list(list *[]goja.Value) error {
	if err := e.deeper(); err != nil {
		return err
	}
	length := len(*list)
	if length > e.left.nodes {
		return tooLarge("it has too many values")
	}
	e.buf = append(e.buf, '[')
	for i := range length {
		var v goja.Value
		if i < len(*list) {
			v = (*list)[i]
		}
		if err := e.element(v, i); err != nil {
			return err
		}
	}
	err := e.close(']', length)
	e.depth--
	return err
}

func (e *encoder) deeper() error {
	if e.depth++; e.depth > e.left.depth {
		return tooLarge(fmt.Sprintf("it is nested deeper than %d, or holds itself", e.left.depth))
	}
	return nil
}

// member appends one member of an object, or nothing if v has no JSON form.
func (e *encoder) member(k string, v goja.Value, n *int) error {
	if v == nil || goja.IsUndefined(v) {
		return nil
	}
	mark := len(e.buf)
	e.separate(*n)
	if err := e.key(k); err != nil {
		return err
	}
	e.buf = append(e.buf, ':')
	if e.indent != "" {
		e.buf = append(e.buf, ' ')
	}
	switch err := e.value(v, k); err.(type) {
	case nil:
		*n++
	case omitted:
		if e.whole {
			return tooLarge("it holds a function or a symbol")
		}
		e.buf = e.buf[:mark]
	default:
		return err
	}
	return nil
}

func (e *encoder) array(o *goja.Object) error {
	length := o.Get("length").ToInteger()
	if length > int64(e.left.nodes) {
		return tooLarge("it has too many values")
	}
	e.buf = append(e.buf, '[')
	for i := range int(length) {
		if err := e.element(o.Get(strconv.Itoa(i)), i); err != nil {
			return err
		}
	}
	return e.close(']', int(length))
}

// element appends one element of an array; what has no JSON form is null.
func (e *encoder) element(v goja.Value, i int) error {
	e.separate(i)
	switch err := e.value(v, ""); err.(type) {
	case nil:
	case omitted:
		if e.whole && v != nil && !goja.IsUndefined(v) {
			return tooLarge("it holds a function or a symbol")
		}
		e.buf = append(e.buf, "null"...)
	default:
		return err
	}
	return nil
}

// collection writes a Set as an array and a Map as an object, or as an array of pairs
// if not all its keys are strings.
func (e *encoder) collection(o *goja.Object, isMap bool) error {
	var items []goja.Value
	iter, ok := goja.AssertFunction(o.Get("forEach"))
	if !ok {
		return omitted{}
	}
	plain := true
	_, err := iter(o, e.rt.ToValue(func(c goja.FunctionCall) goja.Value {
		if isMap {
			_, s := c.Argument(1).(goja.String)
			plain = plain && s
			items = append(items, c.Argument(1))
		}
		items = append(items, c.Argument(0))
		return goja.Undefined()
	}))
	if err != nil {
		return err
	}
	if !isMap {
		vs := make([]any, len(items))
		for i, v := range items {
			vs[i] = v
		}
		return e.array(e.rt.NewArray(vs...))
	}
	open, end := byte('{'), byte('}')
	if !plain {
		open, end = '[', ']'
	}
	e.buf = append(e.buf, open)
	n := 0
	for i := 0; i+1 < len(items); i += 2 {
		if plain {
			if err := e.member(items[i].String(), items[i+1], &n); err != nil {
				return err
			}
			continue
		}
		e.separate(n)
		if err := e.array(e.rt.NewArray(items[i], items[i+1])); err != nil {
			return err
		}
		n++
	}
	return e.close(end, n)
}

func (e *encoder) failure(o *goja.Object) error {
	e.buf = append(e.buf, '{')
	n := 0
	for _, k := range []string{"name", "message", "code"} {
		v, ok := o.Get(k).(goja.String)
		if !ok {
			continue
		}
		if err := e.member(k, v, &n); err != nil {
			return err
		}
	}
	return e.close('}', n)
}

func (e *encoder) separate(n int) {
	if n > 0 {
		e.buf = append(e.buf, ',')
	}
	e.line(e.depth)
}

func (e *encoder) close(c byte, n int) error {
	if n > 0 {
		e.line(e.depth - 1)
	}
	e.buf = append(e.buf, c)
	return e.fits(0)
}

func (e *encoder) line(depth int) {
	if e.indent == "" {
		return
	}
	e.buf = append(e.buf, '\n')
	for range depth {
		e.buf = append(e.buf, e.indent...)
	}
}

func (e *encoder) key(s string) error {
	if err := e.fits(len(s) + 3); err != nil {
		return err
	}
	e.buf = appendQuoted(e.buf, s)
	return nil
}

// primitive is what a wrapper object such as new Number(1) holds.
func primitive(o *goja.Object) goja.Value {
	switch o.ClassName() {
	case "Number":
		return o.ToNumber()
	case "Boolean":
		if o.String() == "true" {
			return trueValue
		}
		return falseValue
	}
	return o.ToString()
}

var (
	plainRuntime = (*goja.Runtime)(nil)
	trueValue    = plainRuntime.ToValue(true)
	falseValue   = plainRuntime.ToValue(false)
)

// encode writes v within b. A script's exception, and halts, pass.
func (r *realm) encode(v goja.Value, b bounds) ([]byte, error) {
	e := r.encoder(b)
	e.whole = true
	if err := e.value(v, ""); err != nil {
		return nil, err
	}
	return e.buf, nil
}

func (r *realm) encoder(b bounds) *encoder {
	return &encoder{m: r.m, rt: r.rt, shape: r.e.shape, frozen: [2]*goja.Object{r.object, r.list}, left: b}
}
