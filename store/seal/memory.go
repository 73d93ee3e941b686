package seal

import (
	"reflect"
	"unsafe"
)

// pinCipher keeps the expanded keys of a cipher of the standard library out of the swap.
func pinCipher(c any) {
	v := reflect.ValueOf(c)
	if v.Kind() == reflect.Pointer {
		pin(unsafe.Slice((*byte)(v.UnsafePointer()), v.Elem().Type().Size()))
	}
}

// wipeObject overwrites the numbers in an object of the standard library's ciphers and
// hashes, which have no method for it: expanded keys, states and buffers. The object is
// of no use afterwards. It follows pointers and interfaces, so it is for objects that
// share nothing.
func wipeObject(object any) { wipeValue(reflect.ValueOf(object), 0) }

func wipeValue(v reflect.Value, depth int) {
	if depth > 6 || !v.IsValid() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			wipeValue(v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wipeValue(v.Field(i), depth+1)
		}
	case reflect.Array:
		if v.CanAddr() && plainNumbers(v.Type().Elem()) {
			clear(unsafe.Slice((*byte)(v.Addr().UnsafePointer()), v.Type().Size()))
			return
		}
		for i := range v.Len() {
			wipeValue(v.Index(i), depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			clear(unsafe.Slice((*byte)(v.UnsafePointer()), v.Cap()))
		}
	}
}

// plainNumbers reports whether a type is made of numbers alone.
func plainNumbers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Array:
		return plainNumbers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !plainNumbers(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}
