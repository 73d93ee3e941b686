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

//go:embed realm.js
var realmSource string

// compileRealm makes the program that builds a realm; its result is a function.
func compileRealm() (*goja.Program, error) {
	tree, err := goja.Parse("", realmSource, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, fmt.Errorf("realm: %w", err)
	}
	return goja.CompileAST(tree, true)
}

// realm is one fresh world for one run.
type realm struct {
	rt    *goja.Runtime
	m     *meter
	run   *run // set when the run starts
	regex *goja.Object
	fail  *goja.Object // Error, to make those of tools
	kinds map[string]*goja.Object

	nested   int              // calls of guarded built-ins inside each other
	patterns map[string]int64 // instructions of regular expressions, by source
	err      error
}

// newRealm builds a realm. Its meter has no bounds until a run sets them.
func newRealm(build *goja.Program) (*realm, error) {
	rt := goja.New()
	r := &realm{rt: rt, m: &meter{max: 1 << 62, memory: 1 << 40, rt: rt}, kinds: map[string]*goja.Object{}, patterns: map[string]int64{}}
	rt.SetMaxCallStackSize(maxCalls)
	rt.SetParserOptions(parser.WithDisableSourceMaps)
	rt.SetTimeSource(r.now)
	r.regex = rt.Get("RegExp").(*goja.Object)
	r.fail = rt.Get("Error").(*goja.Object)
	for _, k := range []string{"TypeError", "RangeError", "SyntaxError"} {
		r.kinds[k] = rt.Get(k).(*goja.Object)
	}
	r.guard()
	natives := r.natives()
	maker, err := rt.RunProgram(build)
	if err != nil {
		return nil, fmt.Errorf("realm: %w", err)
	}
	make, _ := goja.AssertFunction(maker)
	names := script.Permissive.Rules().Globals
	list := rt.NewArray()
	for i, n := range names {
		_ = list.Set(fmt.Sprint(i), n)
	}
	scope, err := make(goja.Undefined(), list, natives)
	if err != nil {
		return nil, fmt.Errorf("realm: %w", err)
	}
	rt.SetGlobalObject(scope.(*goja.Object))
	return r, r.err
}

// natives are the globals that Go supplies.
func (r *realm) natives() *goja.Object {
	n := r.rt.NewObject()
	set := func(name string, v goja.Value) { _ = n.Set(name, v) }
	set("callTool", r.native("callTool", 2, r.callTool))
	set("lanes", r.native("lanes", 0, func(goja.FunctionCall) goja.Value { return r.rt.ToValue(r.run.spec.Limits.Pending) }))
	set("console", r.console())
	j := r.rt.NewObject()
	_ = j.Set("parse", r.native("parse", 2, r.jsonParse))
	_ = j.Set("stringify", r.native("stringify", 3, r.jsonStringify))
	set("JSON", j)
	set("RegExp", r.regexpConstructor())
	return n
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
