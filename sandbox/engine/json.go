package engine

import (
	"errors"
	"strings"

	"github.com/dop251/goja"

	"enclave/sandbox"
)

// own are the bounds of the script's JSON.parse and JSON.stringify: what it makes for
// itself may be as large as its memory, and no deeper than the stack allows.
func (r *realm) own() bounds {
	return bounds{bytes: r.m.memory / 2, depth: sandbox.MaxDepth, nodes: 1 << 20}
}

func (r *realm) jsonParse(c goja.FunctionCall) goja.Value {
	if _, reviver := goja.AssertFunction(c.Argument(1)); reviver {
		r.throw("TypeError", "JSON.parse takes no function here")
	}
	v, err := decode(r.m, r.rt, c.Argument(0).String(), r.own())
	var syntax syntaxError
	if errors.As(err, &syntax) {
		r.throw("SyntaxError", "%s", string(syntax))
	}
	return try(v, err)
}

func (r *realm) jsonStringify(c goja.FunctionCall) goja.Value {
	e := r.encoder(r.own())
	if o, ok := c.Argument(1).(*goja.Object); ok {
		if _, replacer := goja.AssertFunction(o); replacer {
			r.throw("TypeError", "JSON.stringify takes no function here")
		}
		e.only = map[string]bool{}
		var keys []goja.Value
		if o.ClassName() == "Array" && r.length(o) <= 10_000 && r.rt.ExportTo(o, &keys) == nil {
			for _, k := range keys {
				e.only[k.String()] = true
			}
		}
	}
	if a := c.Argument(2); !goja.IsUndefined(a) {
		if s, ok := a.(goja.String); ok {
			e.indent = s.String()[:min(10, len(s.String()))]
		} else {
			e.indent = strings.Repeat(" ", int(min(10, integer(a))))
		}
	}
	err := e.value(c.Argument(0), "")
	var large tooLarge
	switch {
	case errors.As(err, &large):
		r.throw("TypeError", "JSON.stringify: %s", string(large))
	case errors.Is(err, omitted{}):
		return goja.Undefined()
	case err != nil:
		panic(err)
	}
	r.m.charge(int64(len(e.buf)) / 64)
	return r.rt.ToValue(string(e.buf))
}
