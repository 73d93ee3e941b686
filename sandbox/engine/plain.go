package engine

import (
	"reflect"
	"unsafe"

	"github.com/dop251/goja"
	"github.com/dop251/goja/unistring"
)

// Most of what is written as JSON is objects and arrays as literals make them. The
// writer reads those in place: asked for by name, each member costs a search in a copy
// of the list of names, and each element of an array a number made text and read again.

// plainObject is the beginning of the interpreter's baseObject.
type plainObject struct {
	class      string
	val        *goja.Object
	prototype  *goja.Object
	extensible bool
	values     map[unistring.String]goja.Value
	names      []unistring.String
	sorted     int // how many names are in their order: indices come first
}

// plainShape tells plain objects and arrays from others.
type plainShape struct {
	object, array  unsafe.Pointer // what an interface on one begins with
	elements       uintptr        // of the slice of an array's elements
	length, unlike uintptr        // its length, and how many elements are no plain values
}

func newPlainShape(s *shape, rt *goja.Runtime) (p plainShape, err error) {
	object := reflect.ValueOf(rt.NewObject()).Elem().Field(s.self).Elem().Type()
	array := reflect.ValueOf(rt.NewArray()).Elem().Field(s.self).Elem().Type()
	if object.Kind() != reflect.Pointer || array.Kind() != reflect.Pointer {
		return p, errShape
	}
	ours := reflect.TypeFor[plainObject]()
	for i, name := range []string{"class", "val", "prototype", "extensible", "values", "propNames", "lastSortedPropLen"} {
		f, ok := object.Elem().FieldByName(name)
		if o := ours.Field(i); !ok || len(f.Index) != 1 || f.Type != o.Type || f.Offset != o.Offset {
			return p, errShape
		}
	}
	if f := array.Elem().Field(0); f.Type != object.Elem() || f.Offset != 0 {
		return p, errShape
	}
	for name, at := range map[string]*uintptr{"values": &p.elements, "length": &p.length, "propValueCount": &p.unlike} {
		f, ok := array.Elem().FieldByName(name)
		want := map[string]reflect.Type{"values": reflect.TypeFor[[]goja.Value](), "length": reflect.TypeFor[uint32](), "propValueCount": reflect.TypeFor[int]()}[name]
		if !ok || len(f.Index) != 1 || f.Type != want {
			return p, errShape
		}
		*at = f.Offset
	}
	p.object, p.array = s.words(rt.NewObject())[0], s.words(rt.NewArray())[0]
	return p, nil
}

// words are the type and the place of what an object is.
func (s *shape) words(o *goja.Object) *[2]unsafe.Pointer {
	return (*[2]unsafe.Pointer)(unsafe.Add(unsafe.Pointer(o), s.at))
}

// plainObject is o if it is an object as a literal makes it, with its names in order.
func (s *shape) plainObject(o *goja.Object) *plainObject {
	w := s.words(o)
	if w[0] != s.plain.object {
		return nil
	}
	p := (*plainObject)(w[1])
	if p.class != "Object" {
		return nil
	}
	for i := p.sorted; i < len(p.names); i++ {
		if n := p.names[i]; n == "" || n[0] <= '9' {
			return nil // it may be an index, which comes before all others
		}
	}
	return p
}

// plainArray is how o as an array begins, and where its elements are, if all of them
// are plain values.
func (s *shape) plainArray(o *goja.Object) (*plainObject, *[]goja.Value) {
	w := s.words(o)
	if w[0] != s.plain.array {
		return nil, nil
	}
	list := (*[]goja.Value)(unsafe.Add(w[1], s.plain.elements))
	if *(*int)(unsafe.Add(w[1], s.plain.unlike)) != 0 || int(*(*uint32)(unsafe.Add(w[1], s.plain.length))) != len(*list) {
		return nil, nil
	}
	return (*plainObject)(w[1]), list
}

// member is the value of an enumerable property. again says that it must be asked for.
func (s *shape) member(p *plainObject, name unistring.String) (v goja.Value, again bool) {
	v = p.values[name]
	if v == nil || (*[2]unsafe.Pointer)(unsafe.Pointer(&v))[0] != s.tab {
		return v, false
	}
	q := (*property)((*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1])
	if !q.enumerable {
		return nil, false
	}
	return q.value, q.accessor
}

// goString is a name as a Go string.
func goString(name unistring.String) string {
	if name.AsUtf16() == nil {
		return string(name)
	}
	return name.String()
}
