package engine

import (
	"strings"

	"github.com/dop251/goja"

	"enclave/sandbox"
)

// maxLine is what one line of the console may have in bytes; the rest is cut.
const maxLine = 16 << 10

// console is the object of that name. Its methods write lines until the run's output
// is spent; what comes then is dropped, and one last line says so.
func (r *realm) console() *goja.Object {
	o := r.rt.NewObject()
	for name, stream := range map[string]sandbox.Stream{
		"log": sandbox.StreamOut, "info": sandbox.StreamOut, "debug": sandbox.StreamOut,
		"warn": sandbox.StreamWarn, "error": sandbox.StreamErr,
	} {
		r.check(o.Set(name, r.native(name, 0, func(c goja.FunctionCall) goja.Value {
			r.print(stream, c.Arguments)
			return goja.Undefined()
		})))
	}
	return o
}

func (r *realm) print(stream sandbox.Stream, args []goja.Value) {
	r.m.charge(elements)
	u := r.run
	if u.muted {
		return
	}
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.shown(a, maxLine-b.Len()))
		if b.Len() >= maxLine {
			break
		}
	}
	text := b.String()
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "…"
	}
	l := u.spec.Limits
	if u.lines++; u.lines > l.OutputLines || u.output+int64(len(text)) > l.OutputBytes {
		u.muted = true
		stream, text = sandbox.StreamWarn, "(the output of this run is spent; the rest is dropped)"
	}
	u.output += int64(len(text))
	u.host.Output(sandbox.Line{Stream: stream, Text: text})
}

// shown is how the console writes a value: text as it is, all else as JSON.
func (r *realm) shown(v goja.Value, room int) string {
	switch x := v.(type) {
	case goja.String:
		if x.Length() > room {
			return x.Substring(0, max(room, 0)).String() + "…"
		}
		return x.String()
	case *goja.Object:
		switch x.ClassName() {
		case "Function":
			return "[Function]"
		case "Error":
			return text(x, "name") + ": " + text(x, "message")
		}
		e := r.encoder(bounds{bytes: maxLine, depth: 10, nodes: 1000})
		if err := e.value(x, ""); err != nil {
			if _, large := err.(tooLarge); large {
				return string(e.buf) + "…"
			}
			return "[Object]"
		}
		return string(e.buf)
	}
	return v.String()
}

// text is a property that is a string, or nothing.
func text(o *goja.Object, key string) string {
	if s, ok := o.Get(key).(goja.String); ok {
		return s.String()
	}
	return ""
}
