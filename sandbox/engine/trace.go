package engine

import (
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/dop251/goja"

	"enclave/sandbox/script"
)

// An error remembers the frames that there were when it was made, and the interpreter
// writes them as text when the script first asks for its stack: in a form of its own, and
// with the frames of what is no text of the script's. So the helper for that question
// takes those out, and writes the text, before the interpreter does.

// maxTold is how many frames a stack tells of. The interpreter has up to maxCalls.
const maxTold = 20

func (s *shape) newTraceShape(rt *goja.Runtime) error {
	o := rt.NewTypeError("x")
	impl := reflect.ValueOf(o).Elem().Field(s.self).Elem().Type()
	if impl.Kind() != reflect.Pointer || impl.Elem().Kind() != reflect.Struct {
		return errShape
	}
	stack, ok := impl.Elem().FieldByName("stack")
	if !ok || stack.Type != reflect.TypeFor[[]goja.StackFrame]() || len(stack.Index) != 1 {
		return errShape
	}
	told, ok := impl.Elem().FieldByName("stackPropAdded")
	if !ok || told.Type.Kind() != reflect.Bool || len(told.Index) != 1 {
		return errShape
	}
	s.failure, s.stack, s.told = s.words(o)[0], stack.Offset, told.Offset
	return nil
}

// frames are where o was made, the innermost first; nil if o is no error.
func (s *shape) frames(o *goja.Object) *[]goja.StackFrame {
	w := s.words(o)
	if w[0] != s.failure {
		return nil
	}
	return (*[]goja.StackFrame)(unsafe.Add(w[1], s.stack))
}

// trace is the helper for what is about to be asked for its stack.
func (r *realm) trace(c goja.FunctionCall) goja.Value {
	v := c.Argument(0)
	o, ok := v.(*goja.Object)
	if !ok {
		return v
	}
	stack := r.e.shape.frames(o)
	if stack == nil || *(*bool)(unsafe.Add(r.e.shape.words(o)[1], r.e.shape.told)) {
		return v
	}
	r.m.charge(int64(len(*stack)))
	*stack = ofScript(*stack)
	var b strings.Builder
	name, message := text(o, "name"), text(o, "message")
	b.WriteString(name)
	if name != "" && message != "" {
		b.WriteString(": ")
	}
	b.WriteString(message)
	for _, f := range *stack {
		b.WriteString("\n    at ")
		where := "native"
		if f.SrcName() == script.Name {
			p := f.Position()
			where = fmt.Sprintf("%s:%d:%d", script.Name, p.Line, p.Column)
		}
		if name := f.FuncName(); name == "<anonymous>" {
			b.WriteString(where)
		} else {
			fmt.Fprintf(&b, "%s (%s)", name, where)
		}
	}
	r.m.alloc(int64(b.Len()))
	// What the script has frozen keeps what it has.
	_ = r.rt.Try(func() {
		_ = o.DefineDataProperty("stack", r.rt.ToValue(b.String()), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	})
	return v
}

// ofScript are the frames that a script may know of: its own, and the built-ins that it
// called by name.
func ofScript(stack []goja.StackFrame) []goja.StackFrame {
	var out []goja.StackFrame
	for _, f := range stack {
		if name := f.SrcName(); name != script.Name && (name != native || f.Position().Line > 0 || f.FuncName() == native) {
			continue
		}
		if out = append(out, f); len(out) == maxTold {
			break
		}
	}
	return out
}

// native is what the interpreter calls the text of a built-in, and one without a name; it
// is the name of the texts of ours too.
const native = "<native>"

// firstPlace is the innermost place in the script's own text.
func firstPlace(stack []goja.StackFrame) (line, column int) {
	for _, f := range stack {
		if f.SrcName() == script.Name {
			p := f.Position()
			return p.Line, p.Column
		}
	}
	return 0, 0
}

// throwing is the helper for what is about to be thrown: what is no error does not
// remember where.
func (r *realm) throwing(c goja.FunctionCall) goja.Value {
	v := c.Argument(0)
	if o, ok := v.(*goja.Object); !ok || r.e.shape.frames(o) == nil {
		r.run.threw, r.run.threwAt = v, r.rt.CaptureCallStack(4, nil)
	}
	return v
}
