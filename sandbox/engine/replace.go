package engine

import (
	"strings"

	"github.com/dop251/goja"
)

// replaces charges for replace and replaceAll. What they come to depends on how often
// the text matches, on what a function gives, and on what stands for what in a
// replacement ($&, $1): where that could be much, each match pays as it is replaced.
func (t tolls) replaces() {
	for _, name := range []string{"replace", "replaceAll"} {
		t.add(stringProto, name, func(r *realm, c *goja.FunctionCall) {
			n := r.text(c)
			r.m.charge(n / 8)
			if len(c.Arguments) < 2 || c.This == nil || goja.IsUndefined(c.This) || goja.IsNull(c.This) {
				return // one match at most becomes a word, or an exception
			}
			of, isExpression := c.Arguments[0].(*goja.Object)
			isExpression = isExpression && of.ClassName() == "RegExp"
			hits, matched := n+1, n
			if !isExpression {
				from := r.string(c.Arguments[0])
				c.Arguments[0] = from
				hits, matched = 1, int64(from.Length())
				if name == "replaceAll" {
					hits = int64(strings.Count(c.This.String(), from.String()))
				}
			}
			if f, ok := goja.AssertFunction(c.Arguments[1]); ok {
				c.Arguments[1] = r.paying(func(k goja.FunctionCall) goja.String {
					return r.string(try(f(goja.Undefined(), k.Arguments...)))
				})
				return
			}
			to := r.string(c.Arguments[1])
			c.Arguments[1] = to
			longest := int64(to.Length()) + grows(to, n, matched)
			switch most := times(hits, longest); {
			case !isExpression:
				r.m.alloc(n + most)
			case most > r.m.memory/8:
				c.Arguments[1] = r.paying(func(k goja.FunctionCall) goja.String { return r.expanded(to, k.Arguments) })
			}
		})
	}
}

// paying is a replacement that pays for what it gives, and ends the run when all that it
// gave is more than the run may hold.
func (r *realm) paying(give func(goja.FunctionCall) goja.String) goja.Value {
	var all int64
	return r.native("", 0, func(c goja.FunctionCall) goja.Value {
		s := give(c)
		r.m.charge(1 + int64(s.Length())/64)
		if all += int64(s.Length()); all > r.m.memory {
			panic(&halt{r.m.tooMuch()})
		}
		return s
	})
}

// grows is what a replacement can add to its own length where a text of n has a match of
// matched: the patterns for all before and after it, and for it and its parts.
func grows(to goja.String, n, matched int64) int64 {
	s := to.String()
	rests := int64(strings.Count(s, "$`") + strings.Count(s, "$'"))
	parts := int64(strings.Count(s, "$")) - rests
	return times(rests, n) + times(parts, matched)
}

// expanded is GetSubstitution (ECMA-262, 22.1.3.19.1), paid for piece by piece. args are
// those that a function would get: the match, its parts, its place, the text, and its
// named parts if there are any.
func (r *realm) expanded(to goja.String, args []goja.Value) goja.String {
	var groups *goja.Object
	if o, ok := args[len(args)-1].(*goja.Object); ok {
		groups, args = o, args[:len(args)-1]
	}
	text, parts := args[len(args)-1].(goja.String), args[:len(args)-2]
	at := int(args[len(args)-2].ToInteger())
	end := min(at+parts[0].(goja.String).Length(), text.Length())
	var b goja.StringBuilder
	var made int64
	add := func(s goja.String) {
		if made += int64(s.Length()); made > r.m.memory {
			panic(&halt{r.m.tooMuch()})
		}
		r.m.charge(1 + int64(s.Length())/64)
		b.WriteString(s)
	}
	part := func(v goja.Value) {
		if v != nil && !goja.IsUndefined(v) {
			add(r.string(v))
		}
	}
	length, plain := to.Length(), 0
	for i := 0; i < length; {
		if to.CharAt(i) != '$' || i+1 == length {
			i++
			continue
		}
		if i > plain {
			add(to.Substring(plain, i))
		}
		next := i + 2
		switch ch := to.CharAt(i + 1); {
		case ch == '$':
			add(to.Substring(i, i+1))
		case ch == '&':
			part(parts[0])
		case ch == '`':
			add(text.Substring(0, at))
		case ch == '\'':
			add(text.Substring(end, text.Length()))
		case ch >= '0' && ch <= '9':
			n := int(ch - '0')
			if i+2 < length {
				if d := to.CharAt(i + 2); d >= '0' && d <= '9' && n*10+int(d-'0') < len(parts) && n*10+int(d-'0') > 0 {
					n, next = n*10+int(d-'0'), i+3
				}
			}
			if n == 0 || n >= len(parts) {
				add(to.Substring(i, next))
				break
			}
			part(parts[n])
		case ch == '<' && groups != nil:
			j := i + 2
			for j < length && to.CharAt(j) != '>' {
				j++
			}
			if j == length {
				add(to.Substring(i, next))
				break
			}
			part(groups.Get(to.Substring(i+2, j).String()))
			next = j + 1
		default:
			add(to.Substring(i, next))
		}
		i, plain = next, next
	}
	if plain < length {
		add(to.Substring(plain, length))
	}
	return b.String()
}
