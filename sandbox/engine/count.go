package engine

import (
	"errors"
	"reflect"
	"strings"
	"unsafe"

	"github.com/dop251/goja"

	"enclave/sandbox/script"
)

// The engine has no hook between its instructions, and a counter written into the
// script costs half the speed of a loop and can be looked for. So the compiled program
// is changed instead: every jump backwards and the first instruction of every function
// is replaced by one that counts and then does what was there. A loop without a jump
// backwards, or a call that enters no function, does not exist.
//
// A program's code is a slice of an interface with one method. Interfaces with one
// method of the same signature have the same layout whatever they are called, so the
// slice is looked at through an interface of our own. newCounter checks every
// assumption by reflection and refuses to count, and with it to run, if the engine
// has changed its shape. Decision 0123.
type instruction interface {
	exec(vm unsafe.Pointer)
}

// counted stands where an instruction stood.
type counted struct {
	m    *meter
	next instruction
}

func (c *counted) exec(vm unsafe.Pointer) {
	c.m.n++
	if c.m.n > c.m.max {
		c.m.overrun()
	}
	c.next.exec(vm)
}

// countedJump stands where a jump backwards stood: it is one call less than counted.
type countedJump struct {
	m        *meter
	pc       uintptr // where the engine keeps its place in the code
	distance int
}

func (c *countedJump) exec(vm unsafe.Pointer) {
	c.m.n++
	if c.m.n > c.m.max {
		c.m.overrun()
	}
	*(*int)(unsafe.Add(vm, c.pc)) += c.distance
}

// joined stands where an instruction stood that makes one text of several, which neither
// takes long nor is a loop, but may make more in one step than a run may hold.
type joined struct {
	m     *meter
	at    *counter
	texts int // how many lie on the stack
	next  instruction
}

func (j *joined) exec(vm unsafe.Pointer) {
	stack, sp := *(*[]goja.Value)(unsafe.Add(vm, j.at.stack)), *(*int)(unsafe.Add(vm, j.at.sp))
	// Most sums are of numbers, and a number adds no more than its digits to a text, which
	// was looked at when it was made.
	if j.texts == 2 {
		if w := (*[2]unsafe.Pointer)(unsafe.Pointer(&stack[sp-1]))[0]; w == j.at.whole || w == j.at.broken {
			j.next.exec(vm)
			return
		}
	}
	var sum int64
	for i := sp - j.texts; i < sp; i++ {
		if w := (*[2]unsafe.Pointer)(unsafe.Pointer(&stack[i]))[0]; w == j.at.whole || w == j.at.broken {
			continue
		}
		if s, ok := stack[i].(goja.String); ok {
			sum += int64(s.Length())
		}
	}
	if sum > j.m.memory {
		panic(&halt{j.m.tooMuch()})
	}
	j.next.exec(vm)
}

// rest stands where an instruction stood that makes the rest of a pattern ([x, ...r] or
// {x, ...r}, in a declaration, an assignment, a parameter, a catch or a loop): what it is taken from
// is paid for before.
type rest struct {
	at    *counter
	below int // where on the stack that lies, from its top
	pay   func(goja.Value)
	next  instruction
}

func (r *rest) exec(vm unsafe.Pointer) {
	stack, sp := *(*[]goja.Value)(unsafe.Add(vm, r.at.stack)), *(*int)(unsafe.Add(vm, r.at.sp))
	r.pay(stack[sp-r.below])
	r.next.exec(vm)
}

// nothing is an instruction that does nothing.
type nothing struct{}

func (nothing) exec(unsafe.Pointer) {}

//go:noinline
func step(i instruction, vm unsafe.Pointer) { i.exec(vm) }

// counter knows where the code of a program is.
type counter struct {
	code     uintptr
	places   uintptr // of the slice of places in the text
	pc       uintptr
	stack    uintptr // of the engine's stack, and of how many values it holds
	sp       uintptr
	whole    unsafe.Pointer // what a value that is a number begins with
	broken   unsafe.Pointer
	program  reflect.Type
	nested   map[reflect.Type]bool // whether values of a type may hold a program; filled as they are met
	backward map[string]bool
}

func newCounter() (*counter, error) {
	program := reflect.TypeFor[goja.Program]()
	f, ok := program.FieldByName("code")
	if !ok || f.Type.Kind() != reflect.Slice || f.Type.Elem().Kind() != reflect.Interface || f.Type.Elem().NumMethod() != 1 {
		return nil, errors.New("the engine's program has another shape")
	}
	places, ok := program.FieldByName("srcMap")
	if !ok || places.Type.Kind() != reflect.Slice || !isPlace(places.Type.Elem()) {
		return nil, errors.New("the engine's places in the text have another shape")
	}
	m := f.Type.Elem().Method(0).Type
	if m.NumIn() != 1 || m.In(0).Kind() != reflect.Pointer || m.NumOut() != 0 {
		return nil, errors.New("the engine's instructions have another shape")
	}
	pc, ok := m.In(0).Elem().FieldByName("pc")
	if !ok || pc.Type.Kind() != reflect.Int || len(pc.Index) != 1 {
		return nil, errors.New("the engine's place in the code has another shape")
	}
	stack, ok1 := m.In(0).Elem().FieldByName("stack")
	sp, ok2 := m.In(0).Elem().FieldByName("sp")
	if !ok1 || !ok2 || stack.Type.Kind() != reflect.Slice || stack.Type.Elem() != reflect.TypeFor[goja.Value]() || sp.Type.Kind() != reflect.Int || len(stack.Index)+len(sp.Index) != 2 {
		return nil, errors.New("the engine's stack has another shape")
	}
	// A call through our interface from code that is certainly reachable: without one
	// the linker drops the methods that only the engine's loop calls.
	m0 := &meter{max: 1}
	step(&counted{m: m0, next: nothing{}}, nil)
	place := 5
	step(&countedJump{m: &meter{max: 1}, distance: -3}, unsafe.Pointer(&place))
	step(&joined{m: m0, at: &counter{}, next: nothing{}}, unsafe.Pointer(&struct{ stack []goja.Value }{}))
	held := struct {
		stack []goja.Value
		sp    int
	}{make([]goja.Value, 1), 1}
	step(&rest{at: &counter{sp: unsafe.Offsetof(held.sp)}, below: 1, pay: func(goja.Value) {}, next: nothing{}}, unsafe.Pointer(&held))
	whole, broken := (*goja.Runtime)(nil).ToValue(1), (*goja.Runtime)(nil).ToValue(0.5)
	if m0.n != 1 || place != 2 {
		return nil, errors.New("the counter does not count")
	}
	// The jumps of the engine: each holds its distance.
	backward := map[string]bool{"jump": true, "jeq": true, "jeqP": true, "jne": true, "jneP": true}
	return &counter{stack: stack.Offset, sp: sp.Offset, whole: (*[2]unsafe.Pointer)(unsafe.Pointer(&whole))[0], broken: (*[2]unsafe.Pointer)(unsafe.Pointer(&broken))[0],
		code: f.Offset, places: places.Offset, pc: pc.Offset, program: program, nested: map[reflect.Type]bool{}, backward: backward}, nil
}

// place is the interpreter's srcMapItem: where in the text an instruction comes from.
type place struct {
	_      int // the instruction
	offset int
}

func isPlace(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.Size() != unsafe.Sizeof(place{}) {
		return false
	}
	f, ok := t.FieldByName("srcPos")
	return ok && f.Type.Kind() == reflect.Int && f.Offset == unsafe.Offsetof(place{}.offset)
}

// instrument makes p count with the meter of r, and speak of the places in its author's
// text. p must run for nobody else: it is compiled anew for every run.
func (c *counter) instrument(p *script.Program, r *realm) {
	c.walk(p.Main, p, r, map[*goja.Program]bool{})
}

func (c *counter) walk(p *goja.Program, of *script.Program, r *realm, seen map[*goja.Program]bool) {
	if p == nil || seen[p] {
		return
	}
	seen[p] = true
	places := *(*[]place)(unsafe.Add(unsafe.Pointer(p), c.places))
	for i := range places {
		places[i].offset = of.Place(places[i].offset)
	}
	m := r.m
	code := *(*[]instruction)(unsafe.Add(unsafe.Pointer(p), c.code))
	for i, ins := range code {
		v := reflect.ValueOf(ins)
		if c.mayHold(v.Type()) {
			c.find(v, of, r, seen, 0)
		}
		name := v.Type().Name()
		back := c.backward[name] && v.Kind() == reflect.Int32 && v.Int() < 0
		switch {
		case back && i > 0 && name == "jump":
			code[i] = &countedJump{m: m, pc: c.pc, distance: int(v.Int())}
		case name == "_add":
			code[i] = &joined{m: m, at: c, texts: 2, next: ins}
		case name == "concatStrings" && v.Kind() == reflect.Int:
			code[i] = &joined{m: m, at: c, texts: int(v.Int()), next: ins}
		case name == "_newArrayFromIter":
			code[i] = &rest{at: c, below: 1, pay: r.rested, next: ins}
		case name == "_copyRest": // of what lies below a note of the keys that are taken
			code[i] = &rest{at: c, below: 2, pay: r.copied, next: ins}
		case back || i == 0:
			code[i] = &counted{m: m, next: ins}
		}
	}
}

// maxNesting bounds how deep an instruction is looked into for programs.
const maxNesting = 6

// find looks for programs inside an instruction: those of the functions and classes
// that it makes.
func (c *counter) find(v reflect.Value, of *script.Program, r *realm, seen map[*goja.Program]bool, depth int) {
	if depth > maxNesting || !c.mayHold(v.Type()) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if v.Type().Elem() == c.program {
			c.walk((*goja.Program)(v.UnsafePointer()), of, r, seen)
			return
		}
		c.find(v.Elem(), of, r, seen, depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			c.find(v.Field(i), of, r, seen, depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			c.find(v.Index(i), of, r, seen, depth+1)
		}
	case reflect.Interface:
		if !v.IsNil() {
			c.find(v.Elem(), of, r, seen, depth+1)
		}
	}
}

// mayHold reports whether a value of type t may lead to a program, and remembers it.
func (c *counter) mayHold(t reflect.Type) bool {
	if yes, known := c.nested[t]; known {
		return yes
	}
	c.nested[t] = false // a type that leads only to itself leads nowhere
	yes := false
	switch t.Kind() {
	case reflect.Pointer:
		yes = t.Elem() == c.program || (c.ofEngine(t.Elem()) && c.mayHold(t.Elem()))
	case reflect.Struct:
		for i := range t.NumField() {
			yes = c.mayHold(t.Field(i).Type) || yes
		}
	case reflect.Slice, reflect.Array:
		yes = c.mayHold(t.Elem())
	}
	c.nested[t] = yes
	return yes
}

// ofEngine reports whether t is a type of the engine itself.
func (c *counter) ofEngine(t reflect.Type) bool {
	return t.PkgPath() == c.program.PkgPath() && !strings.HasSuffix(t.Name(), "Object")
}
