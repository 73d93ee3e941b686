package script

import (
	"math"
	"slices"
	"strings"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/unistring"

	"enclave/sandbox/score"
)

func newString(s string) unistring.String { return unistring.NewFromString(s) }

// MaxToolName is how long a tool's name may be, in bytes.
const MaxToolName = 256

// ValidToolName reports whether a tool can have that name: a letter, then letters,
// digits and any of : . _ -
func ValidToolName(s string) bool {
	if s == "" || len(s) > MaxToolName || !(s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z') {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isWord(c) && c != ':' && c != '.' && c != '-' || c == '$' {
			return false
		}
	}
	return true
}

func (w *walk) call(e *ast.CallExpression) {
	if id, ok := e.Callee.(*ast.Identifier); ok && id.Name == CallTool && w.scope.lookup(CallTool) == nil {
		w.callTool(e, id)
		return
	}
	if w.isAll(e) {
		e.Callee = &ast.Identifier{Name: Parallel, Idx: e.Callee.Idx0()}
	} else {
		e.Callee = w.expression(e.Callee)
	}
	iterates, over := w.iterates(e)
	for i, x := range e.ArgumentList {
		if iterates && isFunction(x) {
			w.repeat(over, func() { e.ArgumentList[i] = w.expression(x) })
			continue
		}
		e.ArgumentList[i] = w.expression(x)
	}
	w.spelled(e, e.Callee.Idx0())
	w.builtin(e)
}

// isAll reports whether a call is Promise.all(list), which everybody writes and parallel(list)
// does. Nothing else of Promise is there, so it is that call or the name of nothing.
func (w *walk) isAll(e *ast.CallExpression) bool {
	dot, ok := e.Callee.(*ast.DotExpression)
	if !ok || dot.Identifier.Name != "all" || len(e.ArgumentList) != 1 || w.scope.lookup(Parallel) != nil || !w.global(Parallel) {
		return false
	}
	if _, spread := e.ArgumentList[0].(*ast.SpreadElement); spread {
		return false
	}
	id, ok := dot.Left.(*ast.Identifier)
	return ok && id.Name == "Promise" && w.scope.lookup("Promise") == nil && !w.global("Promise")
}

// iterates reports whether the call runs a function once for each of many things,
// and whether those come from a tool.
func (w *walk) iterates(e *ast.CallExpression) (yes, overTool bool) {
	if w.isGlobalNamed(e.Callee, Parallel) && len(e.ArgumentList) > 0 {
		return true, w.fromTool(e.ArgumentList[0])
	}
	dot, ok := member(e.Callee)
	if !ok {
		return false, false
	}
	switch dot.Identifier.Name {
	case "map", "forEach", "filter", "reduce", "reduceRight", "flatMap", "some", "every",
		"find", "findIndex", "findLast", "findLastIndex":
		return true, w.fromTool(dot.Left)
	case "from":
		if w.isGlobalNamed(dot.Left, "Array") && len(e.ArgumentList) > 0 {
			return true, w.fromTool(e.ArgumentList[0])
		}
	}
	return false, false
}

// member unwraps a callee that is a named member.
func member(e ast.Expression) (*ast.DotExpression, bool) {
	if o, ok := e.(*ast.Optional); ok {
		e = o.Expression
	}
	dot, ok := e.(*ast.DotExpression)
	return dot, ok
}

// callTool checks a call of a tool and notes its features.
func (w *walk) callTool(e *ast.CallExpression, id *ast.Identifier) {
	const rule = "static-call-target"
	line, _ := w.lines.at(offsetOf(id.Idx))
	c := score.Call{Line: line, Loop: w.loops, OverTool: w.overTool > 0}
	defer func() { w.features.Calls = append(w.features.Calls, c) }()
	if len(e.ArgumentList) == 0 {
		w.refuse(id.Idx, len(id.Name), rule, "MISSING_CALL_TARGET", "callTool needs the name of a tool; write: await callTool('name', {...})")
		return
	}
	for i, x := range e.ArgumentList {
		e.ArgumentList[i] = w.expression(x)
	}
	name, ok := literalText(e.ArgumentList[0])
	at := e.ArgumentList[0].Idx0()
	switch {
	case !ok:
		w.refuse(at, 1, rule, "DYNAMIC_CALL_TARGET", "the name of a tool must stand in the text, so that every tool of a script can be seen; write it as a string, with one call for each tool")
	case !ValidToolName(name):
		w.refuse(at, 1, rule, "UNKNOWN_TOOL_NAME", "%.60q cannot be the name of a tool: a name is a letter followed by letters, digits, colons, dots, hyphens and underscores, at most %d", name, MaxToolName)
	default:
		if w.opts.Tools != nil && !slices.Contains(w.opts.Tools, name) {
			w.refuse(at, len(name)+2, rule, "UNKNOWN_TOOL_NAME", "there is no tool %q for this run%s", name, w.nearest(name, w.opts.Tools))
		}
		c.Tool = name
		if w.tools == nil {
			w.tools = make(map[string]bool)
		}
		w.tools[name] = true
	}
	if len(e.ArgumentList) > 2 {
		w.refuse(e.ArgumentList[2].Idx0(), 1, rule, "TOOL_ARGUMENTS", "callTool takes a name and one object; put all arguments into the object")
	}
	c.NoArgs = len(e.ArgumentList) == 1
	if len(e.ArgumentList) < 2 {
		return
	}
	switch arg := e.ArgumentList[1].(type) {
	case *ast.ObjectLiteral:
		c.NoArgs = len(arg.Value) == 0
		w.argument(&c, arg, 0)
	case *ast.ArrayLiteral, *ast.StringLiteral, *ast.NumberLiteral, *ast.BooleanLiteral, *ast.TemplateLiteral,
		*ast.ArrowFunctionLiteral, *ast.FunctionLiteral, *ast.SpreadElement:
		w.refuse(arg.Idx0(), 1, rule, "TOOL_ARGUMENTS", "the arguments of a tool are one plain object; write: await callTool('%.60s', {...})", name)
	}
}

// maxFeature bounds each list of features of one call.
const maxFeature = 64

// argument collects the keys and literals of a call's argument.
func (w *walk) argument(c *score.Call, e ast.Expression, depth int) {
	if depth > 8 {
		return
	}
	switch e := e.(type) {
	case *ast.ObjectLiteral:
		for _, p := range e.Value {
			switch p := p.(type) {
			case *ast.PropertyShort:
				appendSome(&c.Keys, p.Name.Name.String())
			case *ast.PropertyKeyed:
				name, _, ok := plainKey(p.Key)
				if ok && !p.Computed {
					appendSome(&c.Keys, name)
				}
				if n, isNumber := number(p.Value); isNumber && limitKey(name) {
					w.limit(n, p.Value.Idx0())
				}
				w.argument(c, p.Value, depth+1)
			}
		}
	case *ast.ArrayLiteral:
		for _, x := range e.Value {
			w.argument(c, x, depth+1)
		}
	default:
		if text, ok := literalText(e); ok {
			if len(text) <= maxFold {
				appendSome(&c.Strings, text)
			}
		} else if n, ok := number(e); ok {
			appendSome(&c.Numbers, n)
		}
	}
}

func appendSome[T any](list *[]T, v T) {
	if len(*list) < maxFeature {
		*list = append(*list, v)
	}
}

// limitKey reports the argument names that say how much is asked for.
func limitKey(name string) bool {
	switch name {
	case "limit", "pagesize", "pageSize", "page_size", "count", "max", "top", "size", "take":
		return true
	}
	return false
}

// limitNumber notes a number that is large enough to be a limit wherever it stands.
func (w *walk) limitNumber(n float64, at file.Idx) {
	if n > 1000 {
		w.limit(n, at)
	}
}

func (w *walk) limit(n float64, at file.Idx) {
	if n > w.features.MaxLimit && !math.IsInf(n, 0) {
		w.features.MaxLimit = n
		w.features.MaxLimitLine, _ = w.lines.at(offsetOf(at))
	}
}

// literalText is the value of a string or of a template without expressions.
func literalText(e ast.Expression) (string, bool) {
	switch e := e.(type) {
	case *ast.StringLiteral:
		return e.Value.String(), true
	case *ast.TemplateLiteral:
		if e.Tag == nil && len(e.Expressions) == 0 && len(e.Elements) == 1 {
			return e.Elements[0].Parsed.String(), true
		}
	}
	return "", false
}

func number(e ast.Expression) (float64, bool) {
	n, ok := e.(*ast.NumberLiteral)
	if !ok {
		return 0, false
	}
	switch v := n.Value.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// maxNames bounds the names that the features keep, and mostNames those with the
// sensitive ones that come later: filling the list hides nothing.
const (
	maxNames  = 256
	mostNames = 1024
)

// named notes a name that scoring may find sensitive.
func (w *walk) named(name string, at file.Idx) {
	if name == "" || len(name) > maxFold || common(name) || w.names[name] {
		return
	}
	if n := len(w.features.Names); n >= mostNames || n >= maxNames && !score.Sensitive(name) {
		return
	}
	if w.names == nil {
		w.names = make(map[string]bool)
	}
	w.names[name] = true
	line, _ := w.lines.at(offsetOf(at))
	w.features.Names = append(w.features.Names, score.Name{Text: name, Line: line})
}

// common names are everywhere and sensitive nowhere.
func common(name string) bool {
	switch name {
	case "length", "map", "filter", "push", "join", "items", "id", "name", "forEach", "reduce", "slice", "sort",
		"log", "stringify", "parse", "keys", "entries", "values", "includes", "floor", "round", "max", "min":
		return true
	}
	return false
}

// literal notes the text of a string literal.
func (w *walk) literal(s string, at file.Idx) {
	w.features.LongestText = max(w.features.LongestText, len(s))
	if len(s) <= 32 && !strings.ContainsAny(s, " \t\n") {
		w.named(s, at)
	}
}

// unawaited returns the call of callTool or parallel that e is, or is the name of.
func (w *walk) unawaited(e ast.Expression) (name string, ok bool) {
	switch x := e.(type) {
	case *ast.CallExpression:
		if id, ok := x.Callee.(*ast.Identifier); ok && (id.Name == CallTool || id.Name == Parallel && w.isGlobal(id)) {
			return id.Name.String() + "(…)", true
		}
	case *ast.Identifier:
		if b := w.scope.lookup(x.Name.String()); b != nil && b.promise {
			return b.name, true
		}
	}
	return "", false
}

// awaited warns of a part that is read of an answer which is not there yet: it would be
// undefined, and the script would go on with that. Of a promise there is only what waits.
func (w *walk) awaited(of ast.Expression, part string) {
	name, ok := w.unawaited(of)
	switch {
	case !ok || part == "then" || part == "catch" || part == "finally":
	case part == "":
		w.warn(of.Idx0(), 1, "missing-await", "MISSING_AWAIT", "%s has not answered yet, so what is taken out of it is undefined; write: await %s", name, name)
	default:
		w.warn(of.Idx0(), 1, "missing-await", "MISSING_AWAIT", "%s has not answered yet, so its .%.40s is undefined; write: (await %s).%.40s", name, part, name, part)
	}
}

// fromTool reports whether e is a tool's result, or a part of one.
func (w *walk) fromTool(e ast.Expression) bool {
	for range 64 {
		switch x := e.(type) {
		case *ast.AwaitExpression:
			e = x.Argument
		case *ast.DotExpression:
			e = x.Left
		case *ast.BracketExpression:
			e = x.Left
		case *ast.OptionalChain:
			e = x.Expression
		case *ast.Optional:
			e = x.Expression
		case *ast.BinaryExpression:
			if w.fromTool(x.Right) {
				return true
			}
			e = x.Left
		case *ast.CallExpression:
			if id, ok := x.Callee.(*ast.Identifier); ok {
				if reserved(id.Name.String()) { // a helper gives back its last argument
					e = x.ArgumentList[len(x.ArgumentList)-1]
					continue
				}
				return id.Name == CallTool || w.isGlobal(id) && id.Name == Parallel && len(x.ArgumentList) > 0 && w.fromTool(x.ArgumentList[0])
			}
			e = x.Callee
		case *ast.Identifier:
			b := w.scope.lookup(x.Name.String())
			return b != nil && b.tool
		default:
			return false
		}
	}
	return false
}
