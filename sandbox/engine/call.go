package engine

import (
	"errors"
	"slices"

	"github.com/dop251/goja"

	"enclave/sandbox"
)

// pending is a call whose promise waits.
type pending struct {
	resolve, reject func(any) error
	from            []goja.StackFrame // where it was called
}

// callTool sends a call to the host and returns a promise of its result. What is wrong
// with the call itself rejects the promise; one call too many ends the run.
func (r *realm) callTool(c goja.FunctionCall) goja.Value {
	u := r.run
	if u.calls++; u.calls > u.spec.Limits.ToolCalls {
		panic(&halt{sandbox.Errorf(sandbox.CodeToolLimit, "the run called tools more than %d times", u.spec.Limits.ToolCalls)})
	}
	p, resolve, reject := r.rt.NewPromise()
	refuse := func(e *sandbox.Error) goja.Value {
		if err := reject(r.toolError(e, nil)); err != nil {
			panic(err)
		}
		return r.rt.ToValue(p)
	}
	name, ok := c.Argument(0).(goja.String)
	if !ok {
		return refuse(sandbox.Errorf(sandbox.CodeUnknownTool, "the first argument of callTool is the name of a tool"))
	}
	call := sandbox.Call{ID: uint64(u.calls), Name: name.String()}
	from := r.rt.CaptureCallStack(maxTold, nil)
	call.Line, call.Column = firstPlace(from)
	if !slices.ContainsFunc(u.spec.Tools, func(t sandbox.Tool) bool { return t.Name == call.Name }) {
		return refuse(sandbox.Errorf(sandbox.CodeUnknownTool, "there is no tool %.60q", call.Name))
	}
	args := c.Argument(1)
	if goja.IsUndefined(args) {
		args = r.rt.NewObject()
	}
	if o, ok := args.(*goja.Object); !ok || o.ClassName() != "Object" {
		return refuse(sandbox.Errorf(sandbox.CodeToolArgs, "the second argument of callTool is an object"))
	}
	l := u.spec.Limits
	b, err := r.encode(args, bounds{l.ArgumentBytes, l.Depth, l.Nodes})
	var large tooLarge
	switch {
	case errors.As(err, &large):
		return refuse(sandbox.Errorf(sandbox.CodeToolArgs, "the arguments of %s cannot be sent: %s", call.Name, string(large)))
	case err != nil:
		panic(err)
	}
	r.m.charge(int64(len(b)) / 64)
	call.Args = b
	u.waiting[call.ID] = pending{resolve, reject, from}
	if len(u.waiting) > l.Pending {
		u.queue = append(u.queue, call)
	} else {
		u.host.Call(call)
	}
	return r.rt.ToValue(p)
}

// toolError is what a failed call throws: an Error with a name and a code. from is where
// the call was made, if not here.
func (r *realm) toolError(e *sandbox.Error, from []goja.StackFrame) goja.Value {
	o, err := r.rt.New(r.fail, r.rt.ToValue(sandbox.Short(e.Message)))
	if err != nil {
		panic(err)
	}
	for k, v := range map[string]string{"name": "ToolError", "code": string(e.Code)} {
		if err := o.DefineDataProperty(k, r.rt.ToValue(v), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
			panic(err)
		}
	}
	if stack := r.e.shape.frames(o); stack != nil && from != nil {
		*stack = from
	}
	r.run.thrown[o] = e.Code
	return o
}

// settle hands the host's answer to the promise that waits for it; jobs run in here.
func (r *realm) settle(a Answer) error {
	u := r.run
	p, ok := u.waiting[a.ID]
	if !ok {
		return nil // the host answered twice, or what was never asked
	}
	delete(u.waiting, a.ID)
	if len(u.queue) > 0 {
		u.host.Call(u.queue[0])
		u.queue = u.queue[1:]
	}
	if a.Error != nil {
		return p.reject(r.toolError(a.Error, p.from))
	}
	l := u.spec.Limits
	v, err := decode(r.m, r.rt, string(a.Value), bounds{l.ResultBytes, l.Depth, l.Nodes})
	if err != nil {
		return p.reject(r.toolError(sandbox.Errorf(sandbox.CodeToolResult, "the tool's result cannot be taken: %s", err.Error()), p.from))
	}
	return p.resolve(v)
}
