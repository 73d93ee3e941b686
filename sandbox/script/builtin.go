package script

import (
	"fmt"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
)

// Sizes written into the text that no script needs and every bomb has. What is
// computed at run time meets the engine's budget instead.
const (
	maxArray = 1_000_000
	maxFill  = 100_000
	maxPad   = 100_000
)

func (w *walk) exhausting(at file.Idx, what string) {
	w.refuse(at, 1, "resource-exhaustion", "RESOURCE_EXHAUSTION", "%s takes more memory or time than any run has; use a smaller one", what)
}

// builtin checks calls of built-ins whose arguments stand in the text.
func (w *walk) builtin(e *ast.CallExpression) {
	if w.isGlobalNamed(e.Callee, "Array") {
		w.arraySize(e.ArgumentList)
		return
	}
	if w.isGlobalNamed(e.Callee, "RegExp") {
		w.pattern(e.ArgumentList)
		return
	}
	dot, ok := member(e.Callee)
	if !ok {
		return
	}
	first := func() (float64, file.Idx) {
		if len(e.ArgumentList) == 0 {
			return 0, 0
		}
		n, _ := number(e.ArgumentList[0])
		return n, e.ArgumentList[0].Idx0()
	}
	switch dot.Identifier.Name {
	case "repeat", "padStart", "padEnd":
		if n, at := first(); n > maxPad {
			w.exhausting(at, fmt.Sprintf("%s with more than %d", dot.Identifier.Name, maxPad))
		}
	case "fill":
		if n, at, ok := w.arrayMade(dot.Left); ok && n > maxFill {
			w.exhausting(at, fmt.Sprintf("filling an array of more than %d", maxFill))
		}
	case "stringify":
		if w.isGlobalNamed(dot.Left, "JSON") && len(e.ArgumentList) > 1 {
			w.jsonCallback(e.ArgumentList[1], "stringify")
		}
	case "parse":
		if w.isGlobalNamed(dot.Left, "JSON") && len(e.ArgumentList) > 1 {
			w.jsonCallback(e.ArgumentList[1], "parse")
		}
	}
}

// arraySize checks Array(n).
func (w *walk) arraySize(args []ast.Expression) {
	if len(args) == 1 {
		if n, ok := number(args[0]); ok && n > maxArray {
			w.exhausting(args[0].Idx0(), fmt.Sprintf("an array of more than %d", maxArray))
		}
	}
}

// arrayMade returns n of Array(n) or new Array(n).
func (w *walk) arrayMade(e ast.Expression) (n float64, at file.Idx, ok bool) {
	var args []ast.Expression
	switch e := e.(type) {
	case *ast.CallExpression:
		ok, args = w.isGlobalNamed(e.Callee, "Array"), e.ArgumentList
	case *ast.NewExpression:
		ok, args = w.isGlobalNamed(e.Callee, "Array"), e.ArgumentList
	}
	if !ok || len(args) != 1 {
		return 0, 0, false
	}
	n, ok = number(args[0])
	return n, args[0].Idx0(), ok
}

// jsonCallback refuses functions that JSON would call for each value.
func (w *walk) jsonCallback(e ast.Expression, method string) {
	switch e := e.(type) {
	case *ast.NullLiteral:
		return
	case *ast.ArrayLiteral:
		if method == "stringify" {
			return
		}
	case *ast.Identifier:
		b := w.scope.lookup(e.Name.String())
		if b == nil && e.Name == "undefined" || b != nil && !b.function && method == "stringify" {
			return // a list of keys, or what the engine refuses
		}
	}
	w.refuse(e.Idx0(), 1, "no-json-callbacks", "JSON_CALLBACK_NOT_ALLOWED", "JSON.%s takes no function; change the value with map before or after", method)
}

// create checks new: only what the language has can be made.
func (w *walk) create(e *ast.NewExpression) {
	id, ok := e.Callee.(*ast.Identifier)
	if !ok {
		w.refuse(e.New, 3, "no-user-functions", "NO_USER_CONSTRUCTOR", "new takes the name of a built-in; to make an object of your own, return it from a function")
		e.Callee = w.expression(e.Callee)
		w.list(e.ArgumentList)
		return
	}
	w.name(id)
	w.list(e.ArgumentList)
	if (w.isGlobalNamed(id, "Map") || w.isGlobalNamed(id, "Set")) && len(e.ArgumentList) > 0 {
		if _, spread := e.ArgumentList[0].(*ast.SpreadElement); !spread {
			e.ArgumentList[0] = helper(spreadName, e.ArgumentList[0])
		}
	}
	switch name := id.Name.String(); {
	case w.scope.lookup(name) != nil:
		w.refuse(e.New, 3, "no-user-functions", "NO_USER_CONSTRUCTOR", "new works on built-ins only; to make an object of your own, return it from a function and call it without new")
	case name == "Array":
		w.arraySize(e.ArgumentList)
	case name == "RegExp":
		w.pattern(e.ArgumentList)
	}
}
