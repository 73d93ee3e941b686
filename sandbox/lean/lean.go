// Package lean keeps a worker's start free of what only other modes initialise.
//
// A worker is the whole program, and before any of its code runs, Go initialises every
// package in it: large ones for networks, databases and terminals, whose tables
// take a worker a quarter of its start and a third of its memory. This package imports
// next to nothing, so that it is one of the first to be initialised; where the process is
// a worker, it marks what a worker never calls as initialised already.
//
// It finds the list of what is still to be initialised by what it looks like, since the
// runtime gives no name to it, and touches nothing unless everything about the list is as
// expected: then all of the program is initialised as ever, and workers start slower.
// What a worker needs is a list of path prefixes; TestAWorkerLacksNothing holds it to
// what package pool imports. Decision 0139.
package lean

import (
	"os"
	"runtime"
	"strings"
	"unsafe"
)

// Prefix is what the name of a worker, its only argument, begins with.
const Prefix = "enclave-sandbox-"

// This init is the second of the program's two (the other is a worker's life, package
// pool), and like that one is here for what it prevents.
func init() {
	if len(os.Args) != 1 || !strings.HasPrefix(os.Args[0], Prefix) {
		return
	}
	for _, t := range remaining() {
		if f := runtime.FuncForPC(t.first); f != nil && !Needed(f.Name()) {
			t.state = done
		}
	}
}

// Needed reports whether a worker needs the package of a path, or of a function by its
// full name: all of the standard library, the sandbox, and the interpreter with what it
// imports.
func Needed(name string) bool {
	for _, p := range [...]string{"enclave/sandbox", "github.com/dop251/goja", "github.com/dlclark/regexp2", "github.com/go-sourcemap/sourcemap",
		"github.com/google/pprof", "golang.org/x/text/", "golang.org/x/sys/"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	first, _, path := strings.Cut(name, "/")
	return first != "enclave" && !(path && strings.Contains(first, "."))
}

// task is the beginning of the runtime's initTask: a package that has something to
// initialise.
type task struct {
	state, functions uint32
	first            uintptr // the first of its functions
}

// The states of a task.
const (
	waiting = 0
	running = 1
	done    = 2
)

// lastmoduledatap is the runtime's description of the program, which holds the list of
// tasks somewhere.
//
//go:linkname lastmoduledatap runtime.lastmoduledatap
var lastmoduledatap unsafe.Pointer

const (
	words = 100     // of the description that are looked at: it has more
	near  = 4 << 20 // how far from it lists and tasks can lie; it is all the program's data
	few   = 20      // tasks that any program has
	many  = 5000    // tasks that none has
)

// remaining is the tasks that come after this package's own, if they can be found.
func remaining() []*task {
	at := uintptr(lastmoduledatap)
	inside := func(p uintptr) bool { return p%unsafe.Sizeof(p) == 0 && p+near > at && p < at+near }
	for i := range uintptr(words) {
		slice := unsafe.Add(lastmoduledatap, i*unsafe.Sizeof(at))
		w := *(*[3]uintptr)(slice) // where, length, capacity
		if w[1] != w[2] || w[1] < few || w[1] > many || !inside(w[0]) || !inside(w[0]+w[1]*unsafe.Sizeof(at)) {
			continue
		}
		list := *(*[]*task)(slice)
		if own := runningOf(list, inside); own >= 0 {
			return list[own+1:]
		}
	}
	return nil
}

// runningOf is the place of the task that runs, or -1 if this is no list of tasks: all
// before it are done, and all after it wait.
func runningOf(list []*task, inside func(uintptr) bool) int {
	own := -1
	for i, t := range list {
		if !inside(uintptr(unsafe.Pointer(t))) || t.functions == 0 || t.functions > 10_000 {
			return -1
		}
		switch {
		case t.state == running && own < 0:
			own = i
		case t.state == done && own < 0, t.state == waiting && own >= 0:
		default:
			return -1
		}
	}
	return own
}
