package script

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/token"
)

// Loops run under the budget of the run, which the engine keeps: nothing is added to
// them here. What is refused is a loop that could only ever end by that budget.

func (w *walk) forLoop(s *ast.ForStatement) {
	leave := w.enter()
	defer leave()
	switch init := s.Initializer.(type) {
	case nil:
	case *ast.ForLoopInitializerExpression:
		init.Expression = w.expression(init.Expression)
	case *ast.ForLoopInitializerVarDeclList:
		w.bindings(init.List)
	case *ast.ForLoopInitializerLexicalDecl:
		for _, b := range init.LexicalDeclaration.List {
			w.declareTarget(b.Target, init.LexicalDeclaration.Token == token.CONST)
		}
		w.bindings(init.LexicalDeclaration.List)
	default:
		w.unknown(s.For, "this head of a loop is", "write it in other words")
	}
	s.Test = w.expression(s.Test)
	s.Update = w.expression(s.Update)
	w.endless(s.For, 3, s.Test, s.Body)
	w.body(s.Body, false)
}

func (w *walk) whileLoop(at file.Idx, test *ast.Expression, body ast.Statement) {
	*test = w.expression(*test)
	w.endless(at, 2, *test, body)
	w.body(body, false)
}

func (w *walk) forOf(s *ast.ForOfStatement) {
	s.Source = w.expression(s.Source)
	tool := w.fromTool(s.Source)
	leave := w.enter()
	defer leave()
	switch into := s.Into.(type) {
	case *ast.ForIntoVar:
		w.target(into.Binding.Target, true)
		w.loosenTarget(into.Binding.Target)
	case *ast.ForDeclaration:
		w.declareTarget(into.Target, into.IsConst)
		w.loosenTarget(into.Target)
		w.target(into.Target, true)
		if tool {
			w.taintTarget(into.Target)
		}
	case *ast.ForIntoExpression:
		w.loosenTarget(into.Expression)
		into.Expression = w.target(into.Expression, false)
	default:
		w.unknown(s.For, "this head of a loop is", "write it in other words")
	}
	if tool {
		w.features.IteratesTool = true
	}
	w.body(s.Body, tool)
}

// body reads what a loop repeats.
func (w *walk) body(s ast.Statement, overTool bool) {
	w.repeat(overTool, func() { w.statement(s) })
}

// repeat reads what runs once for each element of something.
func (w *walk) repeat(overTool bool, read func()) {
	w.loops++
	if overTool {
		w.overTool++
	}
	w.features.Depth = max(w.features.Depth, w.loops)
	read()
	w.loops--
	if overTool {
		w.overTool--
	}
}

// endless refuses a loop without an end and without a way out.
func (w *walk) endless(at file.Idx, length int, test ast.Expression, body ast.Statement) {
	if test != nil && !alwaysTrue(test) || canLeave(body, false) {
		return
	}
	w.refuse(at, length, "infinite-loop", "INFINITE_LOOP", "this loop has no end: its condition is always true and nothing in it breaks, returns or throws; give it a condition, or use for...of")
}

func alwaysTrue(e ast.Expression) bool {
	switch e := e.(type) {
	case *ast.BooleanLiteral:
		return e.Value
	case *ast.NumberLiteral:
		switch v := e.Value.(type) {
		case int64:
			return v != 0
		case float64:
			return v != 0
		}
		return true
	case *ast.StringLiteral:
		return e.Value != ""
	case *ast.ArrayLiteral, *ast.ObjectLiteral, *ast.ArrowFunctionLiteral, *ast.FunctionLiteral:
		return true
	case *ast.UnaryExpression:
		return e.Operator == token.NOT && alwaysFalse(e.Operand)
	}
	return false
}

func alwaysFalse(e ast.Expression) bool {
	switch e := e.(type) {
	case *ast.BooleanLiteral:
		return !e.Value
	case *ast.NumberLiteral:
		switch v := e.Value.(type) {
		case int64:
			return v == 0
		case float64:
			return v == 0
		}
	case *ast.NullLiteral:
		return true
	case *ast.StringLiteral:
		return e.Value == ""
	case *ast.UnaryExpression:
		return e.Operator == token.NOT && alwaysTrue(e.Operand) || e.Operator == token.VOID
	}
	return false
}

// canLeave reports whether s can leave the loop around it: by return, throw, a label,
// or a break that no inner loop or switch takes.
func canLeave(s ast.Statement, inner bool) bool {
	any := func(list []ast.Statement) bool {
		for _, x := range list {
			if canLeave(x, inner) {
				return true
			}
		}
		return false
	}
	switch s := s.(type) {
	case *ast.ReturnStatement, *ast.ThrowStatement:
		return true
	case *ast.BranchStatement:
		return s.Label != nil || s.Token == token.BREAK && !inner
	case *ast.BlockStatement:
		return any(s.List)
	case *ast.IfStatement:
		return canLeave(s.Consequent, inner) || s.Alternate != nil && canLeave(s.Alternate, inner)
	case *ast.TryStatement:
		return any(s.Body.List) || s.Catch != nil && any(s.Catch.Body.List) || s.Finally != nil && any(s.Finally.List)
	case *ast.LabelledStatement:
		return canLeave(s.Statement, inner)
	case *ast.ForStatement:
		return canLeave(s.Body, true)
	case *ast.ForOfStatement:
		return canLeave(s.Body, true)
	case *ast.WhileStatement:
		return canLeave(s.Body, true)
	case *ast.DoWhileStatement:
		return canLeave(s.Body, true)
	case *ast.SwitchStatement:
		inner = true
		for _, c := range s.Body {
			if any(c.Consequent) {
				return true
			}
		}
	}
	return false
}
