package seal

import (
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite here is C translated to Go: its memory is outside Go's heap, and its
// function pointers are pointers to Go closures. The helpers below are the only
// places that look behind that curtain.

// at returns the object at an address outside Go's heap, which the collector
// neither owns nor moves. Inlined, the compiler (go1.26.8) takes the number and the
// pointer for one value and can fail on what follows.
//
//go:noinline
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// bytesAt returns n bytes at such an address.
func bytesAt(p uintptr, n int) []byte { return unsafe.Slice(at[byte](p), n) }

// function returns the Go function behind a function pointer.
//
//go:noinline
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

// pointer returns the function pointer of f. f must be kept alive for as long as
// SQLite may call it.
//
//go:noinline
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// alloc returns n zeroed bytes outside Go's heap, or 0.
func alloc(tls *libc.TLS, n int) uintptr {
	p := sqlite3.Xsqlite3_malloc64(tls, uint64(n))
	if p != 0 {
		clear(bytesAt(p, n))
	}
	return p
}

func free(tls *libc.TLS, p uintptr) { sqlite3.Xsqlite3_free(tls, p) }
