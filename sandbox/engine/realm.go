package engine

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"

	"enclave/sandbox/script"
)

// maxCalls bounds nested calls of the script, which the engine itself does not.
const maxCalls = 512

//go:embed parallel.js
var parallelSource string

// seedSource gives one function of each kind that has a prototype of its own.
const seedSource = "[async () => {}, function* () {}]"

func compile(name, source string) (*goja.Program, error) {
	tree, err := goja.Parse(native, source, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return goja.CompileAST(tree, true)
}

// realm is one fresh world for one run.
type realm struct {
	e     *Engine
	rt    *goja.Runtime
	m     *meter
	run   *run                    // set when the run starts
	fail  *goja.Object            // Error, to make those of tools
	kinds map[string]*goja.Object // errors by name

	regex           *goja.Object // nil until it is needed: regexp
	object, list    *goja.Object // the prototypes of all, and of arrays
	closed, freezer goja.Callable

	nested   int              // calls of guarded built-ins inside each other
	patterns map[string]int64 // instructions of regular expressions, by source
	err      error
}

// newRealm builds a realm. Its meter has no bounds until a run sets them.
func (e *Engine) newRealm() (*realm, error) {
	rt := goja.New()
	r := &realm{e: e, rt: rt, m: &meter{max: 1 << 62, memory: 1 << 40, rt: rt}, kinds: map[string]*goja.Object{}, patterns: map[string]int64{}}
	e.now = r
	rt.SetMaxCallStackSize(maxCalls)
	rt.SetParserOptions(parser.WithDisableSourceMaps)
	rt.SetTimeSource(r.now)
	if ex := rt.Try(r.furnish); ex != nil {
		return nil, fmt.Errorf("realm: %w", ex)
	}
	return r, r.err
}

// native makes a function whose name is the one given, not that of the Go function.
func (r *realm) native(name string, length int, f func(goja.FunctionCall) goja.Value) *goja.Object {
	o := r.rt.ToValue(f).(*goja.Object)
	r.check(o.DefineDataProperty("name", r.rt.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE))
	r.check(o.DefineDataProperty("length", r.rt.ToValue(length), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE))
	return o
}

// check remembers what went wrong while the realm was built.
func (r *realm) check(err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("realm: %w", err)
	}
}

// now is the script's clock: UTC in milliseconds. At STRICT it stands still, so that
// a script cannot measure what it runs on.
func (r *realm) now() time.Time {
	if r.run == nil {
		return time.UnixMilli(0).UTC()
	}
	if r.run.spec.Level == script.Strict {
		return r.run.began.Truncate(time.Millisecond).UTC()
	}
	return time.Now().Truncate(time.Millisecond).UTC()
}

// throw raises an exception of the script's own kinds.
func (r *realm) throw(kind, format string, args ...any) {
	o, err := r.rt.New(r.kinds[kind], r.rt.ToValue(fmt.Sprintf(format, args...)))
	if err != nil {
		panic(err)
	}
	panic(o)
}

// try calls f and passes on whatever it throws.
func try(v goja.Value, err error) goja.Value {
	if err != nil {
		panic(err)
	}
	return v
}
