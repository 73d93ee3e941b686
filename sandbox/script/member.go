package script

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/token"
)

// property checks a member read or written by its name.
func (w *walk) property(e *ast.DotExpression) {
	name := e.Identifier.Name.String()
	w.checkSpelling(e.Identifier.Idx, name)
	w.keyName(name, e.Identifier.Idx)
	w.named(name, e.Identifier.Idx)
	if IsMetaMethod(name) && w.isGlobalNamed(e.Left, "Object") {
		w.metaMethod(name, e.Identifier.Idx)
	}
}

func (w *walk) metaMethod(name string, at file.Idx) {
	w.refuse(at, len(name), "no-global-access", "NO_META_PROGRAMMING", "Object.%s changes or reads what objects are made of; use plain objects and spread", name)
}

// keyName checks the name of a property, wherever it stands.
func (w *walk) keyName(name string, at file.Idx) {
	switch {
	case IsDangerousKey(name):
		rule, code := "disallowed-identifier", "DISALLOWED_IDENTIFIER"
		if name == "constructor" {
			rule, code = "no-global-access", "NO_CONSTRUCTOR_ACCESS"
		}
		w.refuse(at, len(name), rule, code, "%q leads to the machinery behind a value and cannot be used; choose another key", name)
	case reserved(name):
		w.refuse(at, len(name), "reserved-prefix", "RESERVED_PREFIX", "names that begin with __ag_ or __safe_ belong to the sandbox; choose another key")
	}
}

// bracket checks and guards a computed member.
func (w *walk) bracket(e *ast.BracketExpression) {
	e.Member = w.expression(e.Member)
	if name, ok := w.fold(e.Member); ok {
		if IsMetaMethod(name) && w.isGlobalNamed(e.Left, "Object") {
			w.metaMethod(name, e.Member.Idx0())
		}
		if name == stackKey {
			e.Left = traced(e.Left)
		}
	}
	w.key(&e.Member)
}

// key checks a computed key and puts the guard around it where it may be anything.
func (w *walk) key(member *ast.Expression) {
	e := *member
	if name, ok := w.fold(e); ok {
		w.keyName(name, e.Idx0())
		w.named(name, e.Idx0())
	}
	switch e.(type) {
	case *ast.StringLiteral, *ast.NumberLiteral:
		return
	}
	var deps []*binding
	if w.plain(e, &deps) {
		if len(deps) > 0 {
			w.sites = append(w.sites, site{member, deps})
		}
		return
	}
	guard(member)
}

// guard makes a key the argument of the helper.
func guard(member *ast.Expression) {
	*member = helper(guardName, *member)
}

// guardRest guards the keys whose names turned out to hold more than numbers.
func (w *walk) guardRest() {
	for _, s := range w.sites {
		for _, d := range s.deps {
			if d.loose {
				guard(s.member)
				break
			}
		}
	}
}

// maxFold bounds the text that folding builds: no name that matters is longer.
const maxFold = 64

// fold returns the text of an expression whose parts are all written out, as a key
// would spell it. It sees the common ways to hide a name; what it does not see, the
// guard does.
func (w *walk) fold(e ast.Expression) (string, bool) {
	text, ok := w.spell(e, 0)
	return text, ok && len(text) <= maxFold
}

func (w *walk) spell(e ast.Expression, depth int) (string, bool) {
	if depth > 12 {
		return "", false
	}
	depth++
	switch e := e.(type) {
	case *ast.StringLiteral:
		if len(e.Value) > maxFold {
			return "", false
		}
		return e.Value.String(), true
	case *ast.NumberLiteral:
		return numberText(e)
	case *ast.TemplateLiteral:
		return w.spellTemplate(e, depth)
	case *ast.Identifier:
		if b := w.scope.lookup(e.Name.String()); b != nil && b.text != nil {
			return *b.text, true
		}
	case *ast.SequenceExpression:
		return w.spell(e.Sequence[len(e.Sequence)-1], depth)
	case *ast.ConditionalExpression:
		// Either branch will do: what matters is whether a dangerous name can come out.
		a, ok := w.spell(e.Consequent, depth)
		b, ok2 := w.spell(e.Alternate, depth)
		if ok && (IsDangerousKey(a) || !ok2) {
			return a, true
		}
		return b, ok2
	case *ast.BinaryExpression:
		if e.Operator == token.PLUS {
			a, ok := w.spell(e.Left, depth)
			if b, ok2 := w.spell(e.Right, depth); ok && ok2 && len(a)+len(b) <= maxFold {
				return a + b, true
			}
		}
	case *ast.ArrayLiteral:
		return w.spellList(e.Value, ",", depth)
	case *ast.CallExpression:
		return w.spellCall(e, depth)
	}
	return "", false
}

func (w *walk) spellTemplate(e *ast.TemplateLiteral, depth int) (string, bool) {
	if e.Tag != nil {
		return "", false
	}
	var b strings.Builder
	for i, x := range e.Elements {
		b.WriteString(x.Parsed.String())
		if i < len(e.Expressions) {
			t, ok := w.spell(e.Expressions[i], depth)
			if !ok {
				return "", false
			}
			b.WriteString(t)
		}
		if b.Len() > maxFold {
			return "", false
		}
	}
	return b.String(), true
}

func (w *walk) spellList(list []ast.Expression, sep string, depth int) (string, bool) {
	if len(list) > maxFold {
		return "", false
	}
	parts := make([]string, len(list))
	for i, x := range list {
		if x == nil {
			continue
		}
		t, ok := w.spell(x, depth)
		if !ok {
			return "", false
		}
		parts[i] = t
	}
	t := strings.Join(parts, sep)
	return t, len(t) <= maxFold
}

// spellCall folds the methods that scripts hide names behind.
func (w *walk) spellCall(e *ast.CallExpression, depth int) (string, bool) {
	dot, ok := e.Callee.(*ast.DotExpression)
	if !ok {
		return "", false
	}
	method := dot.Identifier.Name.String()
	if method == "fromCharCode" || method == "fromCodePoint" {
		return charCodes(e.ArgumentList)
	}
	if method == "join" {
		sep, ok := ",", true
		if len(e.ArgumentList) == 1 {
			sep, ok = w.spell(e.ArgumentList[0], depth)
		}
		list, reversed := letters(dot.Left, w, depth)
		if !ok || list == nil {
			return "", false
		}
		if reversed {
			turned := make([]ast.Expression, len(list))
			for i, x := range list {
				turned[len(list)-1-i] = x
			}
			list = turned
		}
		return w.spellList(list, sep, depth)
	}
	on, ok := w.spell(dot.Left, depth)
	if !ok {
		return "", false
	}
	switch method {
	case "concat":
		rest, ok := w.spellList(e.ArgumentList, "", depth)
		return on + rest, ok && len(on)+len(rest) <= maxFold
	case "toLowerCase":
		return strings.ToLower(on), true
	case "toUpperCase":
		return strings.ToUpper(on), true
	case "trim":
		return strings.TrimSpace(on), true
	case "toString", "valueOf":
		return on, len(e.ArgumentList) == 0
	}
	return "", false
}

// letters returns the elements of an array literal, or of a string that is split into
// its letters, and whether reverse was called on them.
func letters(e ast.Expression, w *walk, depth int) (list []ast.Expression, reversed bool) {
	if a, ok := e.(*ast.ArrayLiteral); ok {
		return a.Value, false
	}
	call, ok := e.(*ast.CallExpression)
	if !ok || depth > 12 {
		return nil, false
	}
	dot, ok := call.Callee.(*ast.DotExpression)
	if !ok {
		return nil, false
	}
	switch dot.Identifier.Name {
	case "reverse", "toReversed":
		list, reversed = letters(dot.Left, w, depth+1)
		return list, !reversed
	case "split":
		on, ok := w.spell(dot.Left, depth+1)
		if !ok || len(call.ArgumentList) != 1 {
			return nil, false
		}
		sep, ok := w.spell(call.ArgumentList[0], depth+1)
		if !ok || len(on) > maxFold {
			return nil, false
		}
		for _, part := range strings.Split(on, sep) {
			list = append(list, &ast.StringLiteral{Value: newString(part)})
		}
		return list, false
	}
	return nil, false
}

func charCodes(list []ast.Expression) (string, bool) {
	var b strings.Builder
	for _, x := range list {
		n, ok := x.(*ast.NumberLiteral)
		if !ok || b.Len() > maxFold {
			return "", false
		}
		v, ok := n.Value.(int64)
		if !ok || v < 0 || v > math.MaxUint16 {
			return "", false
		}
		b.WriteRune(rune(v))
	}
	return b.String(), true
}

func numberText(e *ast.NumberLiteral) (string, bool) {
	switch v := e.Value.(type) {
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case *big.Int:
		return v.String(), v.BitLen() < 128
	}
	return "", false
}

// spelled refuses an expression put together so that it spells a dangerous name:
// there is no other reason to write one in parts.
func (w *walk) spelled(e ast.Expression, at file.Idx) {
	if name, ok := w.fold(e); ok && IsDangerousKey(name) {
		if t, plain := e.(*ast.TemplateLiteral); plain && len(t.Expressions) == 0 {
			return
		}
		w.refuse(at, 1, "resource-exhaustion", "CONSTRUCTOR_ACCESS", "this puts %q together from parts; no key of that name can be used", name)
	}
}
