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
	"runtime"
	"unsafe"
)

// Prefix is what the name of a worker, its only argument, begins with.
const Prefix = "enclave-sandbox-"

// This init is the second of the program's two (the other is a worker's life, package
// pool), and like that one is here for what it prevents. It asks the runtime for the
// arguments, because package os would have to be initialised first, and with it others.
func init() {
	args := arguments()
	if len(args) != 1 || !begins(args[0], Prefix) {
		return
	}
	tasks := remaining()
	marks, told := marksOf(environment(), len(tasks))
	if !told {
		marks = judge(tasks)
		word = append(append(word, wordName...), marks...)
	}
	for i, m := range marks {
		if m == skip {
			tasks[i].state = done
		} else if m >= first {
			tasks[i].state = done
			later[m-first] = append(later[m-first], tasks[i])
		}
	}
}

// Part is something of the interpreter's that few scripts use. What it is made of is
// initialised when somebody says so.
type Part byte

// The parts.
const (
	Language Part = iota // upper and lower case beyond ASCII, the order of texts
	parts
)

// later is what a worker has put off, in order.
var later [parts][]*task // set by init, and emptied by Initialise

// Initialise makes a part ready, unless it is. A worker calls it from one goroutine;
// elsewhere there is nothing to do.
func Initialise(p Part) {
	tasks := later[p]
	if tasks == nil {
		return
	}
	later[p] = nil
	for _, t := range tasks {
		functions := unsafe.Slice(&t.first, t.functions)
		for i := range functions {
			at := unsafe.Pointer(&functions[i]) // as the runtime calls them: a func value points to where the code is
			(*(*func())(unsafe.Pointer(&at)))()
		}
	}
}

// partOf is the part to which a function of a package's initialisation belongs.
func partOf(name string) (Part, bool) {
	for _, p := range [...]string{"golang.org/x/text/cases.", "golang.org/x/text/collate.", "golang.org/x/text/internal/language.",
		"golang.org/x/text/internal/language/compact.", "golang.org/x/text/language."} {
		if begins(name, p) {
			return Language, true
		}
	}
	return 0, false
}

// judge says of each task up to where a worker's life begins, which does not end before the
// process does, whether a worker can do without it.
func judge(tasks []*task) (marks []byte) {
	for _, t := range tasks {
		name := ""
		if f := runtime.FuncForPC(t.first); f != nil {
			name = f.Name()
		}
		if begins(name, life) {
			break
		}
		m := byte(keep)
		if name != "" && !Needed(name) {
			m = skip
		} else if p, ok := partOf(name); ok {
			m = first + byte(p)
		}
		marks = append(marks, m)
	}
	return marks
}

// To find the names of some two hundred functions is a good part of a worker's start. A
// nursery is the same program and has found them: it tells its workers in their environment.
var word []byte // set by init only

// Word is what to add to the environment of a worker of this same program, if anything.
func Word() string { return string(word) }

const (
	wordName = "ENCLAVE_SKIP="
	keep     = '0'
	skip     = '1'
	first    = '2' // and what follows: put off, as a part of the interpreter
)

// marksOf reads what a nursery told, of at most so many tasks.
func marksOf(environment []string, tasks int) (marks []byte, ok bool) {
	for _, e := range environment {
		if !begins(e, wordName) {
			continue
		}
		marks = []byte(e[len(wordName):])
		for _, m := range marks {
			if m < keep || m >= first+byte(parts) {
				return nil, false
			}
		}
		return marks, len(marks) <= tasks
	}
	return nil, false
}

// life is where a worker's begins.
const life = "enclave/sandbox/pool.init"

//go:linkname environment syscall.runtime_envs
func environment() []string

//go:linkname arguments os.runtime_args
func arguments() []string

// needed are the paths outside of the standard library that a worker is made of.
var needed = [...]string{"enclave/sandbox", "github.com/dop251/goja", "github.com/dlclark/regexp2", "github.com/go-sourcemap/sourcemap",
	"golang.org/x/text/", "golang.org/x/sys/unix"}

// beside are those of the standard library that only other modes use. The interpreter
// imports some of them (compress, hash/crc32) for its profiler, which is never started in a
// worker.
var beside = [...]string{"archive/", "compress/", "crypto", "database/", "encoding/asn1", "encoding/xml", "flag", "hash/crc32", "html", "image",
	"io/ioutil", "mime", "net.", "net/http", "net/mail", "os/signal", "text/", "time/tzdata", "vendor/"}

// Needed reports whether a worker needs the package of a path, or of a function by its
// full name: the sandbox, the interpreter with what it imports, and of the standard
// library what these use.
func Needed(name string) bool {
	for _, p := range &needed {
		if begins(name, p) {
			return true
		}
	}
	for _, p := range &beside {
		if begins(name, p) {
			return false
		}
	}
	return !begins(name, "enclave") && standard(name)
}

// standard reports whether a name is one of the standard library: the first part of its
// path is not the name of a machine.
func standard(name string) bool {
	dot := false
	for i := range len(name) {
		switch name[i] {
		case '.':
			dot = true
		case '/':
			return !dot
		}
	}
	return true
}

func begins(s, with string) bool { return len(s) >= len(with) && s[:len(with)] == with }

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
