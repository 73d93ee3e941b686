package script

import (
	"github.com/dop251/goja/ast"
)

func (w *walk) arrow(f *ast.ArrowFunctionLiteral) {
	leave := w.enter()
	defer leave()
	w.parameters(f.ParameterList)
	switch body := f.Body.(type) {
	case *ast.ExpressionBody:
		body.Expression = w.expression(body.Expression)
	case *ast.BlockStatement:
		w.functionBody(body, f.DeclarationList)
	default:
		w.unknown(f.Start, "this function is", "write it in other words")
	}
}

// function reads a function that is no arrow. It has no this and no arguments to
// offer, so that it is worth exactly an arrow with a name.
func (w *walk) function(f *ast.FunctionLiteral, expression bool) {
	if f.Generator {
		w.refuse(f.Function, 8, "no-user-functions", "NO_USER_GENERATOR", "generators run piece by piece out of sight of the budget; return an array")
	}
	leave := w.enter()
	defer leave()
	if expression && f.Name != nil {
		b := w.declareName(f.Name, false)
		b.function = true
		b.loosen()
		inner := w.enter()
		defer inner()
	}
	w.parameters(f.ParameterList)
	w.functionBody(f.Body, f.DeclarationList)
}

func (w *walk) parameters(p *ast.ParameterList) {
	if p == nil {
		return
	}
	for _, b := range p.List {
		w.declareTarget(b.Target, false)
		w.loosenTarget(b.Target)
	}
	w.declareTarget(p.Rest, false)
	w.loosenTarget(p.Rest)
	for _, b := range p.List {
		w.target(b, true)
	}
	w.target(p.Rest, true)
}

// functionBody reads a body in a scope of its own: a default value of a parameter
// does not see what the body declares.
func (w *walk) functionBody(body *ast.BlockStatement, vars []*ast.VariableDeclaration) {
	leave := w.enter()
	defer leave()
	w.hoistVars(vars)
	w.block(body.List)
}

// class accepts the empty class that AgentScript accepts, and nothing in it: what
// classes add (this, prototypes, super) is what the language leaves out.
func (w *walk) class(c *ast.ClassLiteral) {
	if len(c.Body) > 0 || c.SuperClass != nil {
		w.refuse(c.Class, 5, "no-user-functions", "NO_USER_CLASS", "classes with members or parents are no part of AgentScript; use functions and plain objects")
		return
	}
	w.warn(c.Class, 5, "no-user-functions", "NO_USER_CLASS", "a class without members is of no use here; use a plain object")
}

func isFunction(e ast.Expression) bool {
	switch e.(type) {
	case *ast.ArrowFunctionLiteral, *ast.FunctionLiteral:
		return true
	}
	return false
}
