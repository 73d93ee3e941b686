package engine

import (
	"errors"
	"reflect"
	"unsafe"

	"github.com/dop251/goja"
	"github.com/dop251/goja/unistring"
)

// The interpreter makes the properties of its larger built-ins when they are first
// asked for, from a template of factories that all runtimes share. A realm has
// templates of its own in their place (template.go): what comes out of those is frozen
// from the start, and the rest of a built-in costs nothing. Freezing a built-in as a
// script would makes all of its properties first, which was most of the cost of a realm.
//
// The structs below have the layout of the interpreter's own. newShape checks every
// field by reflection, and the engine refuses to run with an interpreter of another
// shape, as it does for the counter (count.go). Decision 0137.

// factory makes the value of a property in a runtime.
type factory func(*goja.Runtime) goja.Value

// template is the interpreter's objectTemplate.
type template struct {
	propNames    []unistring.String
	props        map[unistring.String]factory
	symProps     map[*goja.Symbol]factory
	symPropNames []*goja.Symbol
	protoFactory func(*goja.Runtime) *goja.Object
}

// property is the interpreter's valueProperty.
type property struct {
	value        goja.Value
	writable     bool
	configurable bool
	enumerable   bool
	accessor     bool
	getterFunc   *goja.Object
	setterFunc   *goja.Object
}

// shape finds these inside the interpreter's objects.
type shape struct {
	self      int     // the field of an object that says what it is
	at        uintptr // and where it is
	plain     plainShape
	tab       unsafe.Pointer // what a value that is a property begins with
	template  reflect.Type
	property  reflect.Type
	offsets   map[reflect.Type]uintptr // of the template in a kind of object; none: noTemplate
	native    map[unsafe.Pointer]bool  // what interfaces on built-in functions begin with
	failure   unsafe.Pointer           // what an interface on an error begins with
	stack     uintptr                  // of the frames of an error
	told      uintptr                  // of whether it has its text for the script
	maker     unsafe.Pointer           // what an interface on a constructor begins with
	construct uintptr                  // of what it constructs by
	global    *template                // that of the global object, as it comes
}

const noTemplate = ^uintptr(0)

var errShape = errors.New("the engine's objects have another shape")

func newShape() (*shape, error) {
	s := &shape{offsets: map[reflect.Type]uintptr{}}
	object := reflect.TypeFor[goja.Object]()
	f, ok := object.FieldByName("self")
	if !ok || f.Type.Kind() != reflect.Interface || len(f.Index) != 1 {
		return nil, errShape
	}
	s.self, s.at = f.Index[0], f.Offset
	rt := goja.New()
	impl := reflect.ValueOf(rt.GlobalObject()).Elem().Field(s.self).Elem()
	if impl.Kind() != reflect.Pointer || impl.Elem().Kind() != reflect.Struct {
		return nil, errShape
	}
	if f, ok = impl.Type().Elem().FieldByName("tmpl"); !ok || f.Type.Kind() != reflect.Pointer {
		return nil, errShape
	}
	s.template = f.Type.Elem()
	if !sameLayout(s.template, reflect.TypeFor[template]()) {
		return nil, errShape
	}
	at := s.slot(rt.GlobalObject())
	if at == nil || *at == nil {
		return nil, errShape
	}
	s.global = *at
	undefined, ok := s.global.props["undefined"]
	if !ok {
		return nil, errShape
	}
	v := reflect.TypeOf(undefined(rt))
	if v.Kind() != reflect.Pointer || !sameLayout(v.Elem(), reflect.TypeFor[property]()) {
		return nil, errShape
	}
	s.property = v
	p := undefined(rt)
	s.tab = (*[2]unsafe.Pointer)(unsafe.Pointer(&p))[0]
	var err error
	if s.plain, err = newPlainShape(s, rt); err != nil {
		return nil, err
	}
	s.native = map[unsafe.Pointer]bool{}
	parse := rt.GlobalObject().Get("parseInt").(*goja.Object)
	bind, ok := goja.AssertFunction(parse.Get("bind"))
	if !ok {
		return nil, errShape
	}
	bound, err := bind(parse)
	if err != nil {
		return nil, err
	}
	for _, v := range []goja.Value{parse, bound, rt.GlobalObject().Get("Number"), rt.GlobalObject().Get("Date"), rt.GlobalObject().Get("String"), rt.ToValue(func(goja.FunctionCall) goja.Value { return nil })} {
		o, ok := v.(*goja.Object)
		if !ok {
			return nil, errShape
		}
		s.native[s.words(o)[0]] = true
	}
	if err := s.newMakerShape(rt); err != nil {
		return nil, err
	}
	return s, s.newTraceShape(rt)
}

// sameLayout reports whether the fields of a struct of the engine are those of ours, by
// name, place and kind. Interfaces must be the same; functions and pointers are words.
func sameLayout(theirs, ours reflect.Type) bool {
	if theirs.Kind() != reflect.Struct || theirs.NumField() != ours.NumField() || theirs.Size() != ours.Size() {
		return false
	}
	for i := range ours.NumField() {
		a, b := theirs.Field(i), ours.Field(i)
		if a.Name != b.Name || a.Offset != b.Offset || !sameKind(a.Type, b.Type) {
			return false
		}
	}
	return true
}

func sameKind(a, b reflect.Type) bool {
	if a == b {
		return true
	}
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case reflect.Map:
		return a.Key() == b.Key() && sameKind(a.Elem(), b.Elem())
	case reflect.Func:
		if a.NumIn() != b.NumIn() || a.NumOut() != b.NumOut() {
			return false
		}
		for i := range a.NumIn() {
			if a.In(i) != b.In(i) {
				return false
			}
		}
		for i := range a.NumOut() {
			if a.Out(i) != b.Out(i) {
				return false
			}
		}
		return true
	}
	return false
}

// slot is where o keeps its template; nil if it has none.
func (s *shape) slot(o *goja.Object) **template {
	impl := reflect.ValueOf(o).Elem().Field(s.self).Elem()
	t := impl.Type()
	offset, known := s.offsets[t]
	if !known {
		offset = noTemplate
		if t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
			if f, ok := t.Elem().FieldByName("tmpl"); ok && f.Type == reflect.PointerTo(s.template) {
				offset = 0
				for at := t.Elem(); len(f.Index) > 0; f.Index = f.Index[1:] {
					offset += at.Field(f.Index[0]).Offset
					at = at.Field(f.Index[0]).Type
				}
			}
		}
		s.offsets[t] = offset
	}
	if offset == noTemplate {
		return nil
	}
	return (**template)(unsafe.Add(impl.UnsafePointer(), offset))
}

// held is what the property v of an object holds, or v itself if it is no property but
// a value. It is nil for a pair of accessors.
func (s *shape) held(v goja.Value) goja.Value {
	if reflect.TypeOf(v) != s.property {
		return v
	}
	p := (*property)((*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1])
	if p.accessor {
		return nil
	}
	return p.value
}

// frozen is a property that holds v and cannot be changed or listed.
func (s *shape) frozen(rt *goja.Runtime, v goja.Value) goja.Value {
	return s.fixed(rt, property{value: v})
}

// pair is a property of two accessors that cannot be changed or listed.
func (s *shape) pair(rt *goja.Runtime, get, set *goja.Object) goja.Value {
	return s.fixed(rt, property{accessor: true, getterFunc: get, setterFunc: set})
}

func (s *shape) fixed(rt *goja.Runtime, is property) goja.Value {
	p := s.global.props["undefined"](rt) // a new one each time
	*(*property)((*[2]unsafe.Pointer)(unsafe.Pointer(&p))[1]) = is
	return p
}
