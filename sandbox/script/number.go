package script

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// A computed key costs a call of the guard, and a[i] in a loop is what scripts are
// made of. A key that can only be a number, a BigInt, a boolean, null or undefined
// cannot spell a dangerous name, so the guard is left out where that is proven: by
// what the expression is made of, and for names by everything ever assigned to them.
// "+" stays in this set only while both sides do.

// assigned notes that b takes the value of e, alone or through an operator.
func (w *walk) assigned(b *binding, e ast.Expression) {
	if b.loose {
		return
	}
	var deps []*binding
	if !w.plain(e, &deps) {
		b.loosen()
		return
	}
	for _, d := range deps {
		if d.loose {
			b.loosen()
			return
		}
	}
	for _, d := range deps {
		d.feeds = append(d.feeds, b)
	}
}

// plain reports whether e is in the set, provided that the names it appends to deps
// are.
func (w *walk) plain(e ast.Expression, deps *[]*binding) bool {
	switch e := e.(type) {
	case *ast.NumberLiteral, *ast.BooleanLiteral, *ast.NullLiteral:
		return true
	case *ast.Identifier:
		if b := w.scope.lookup(e.Name.String()); b != nil {
			*deps = append(*deps, b)
			return !b.loose && len(*deps) <= maxDeps
		}
		switch e.Name {
		case "undefined", "NaN", "Infinity":
			return true
		}
	case *ast.UnaryExpression:
		switch e.Operator {
		case token.TYPEOF:
			return false
		}
		return true
	case *ast.BinaryExpression:
		switch e.Operator {
		case token.PLUS, token.LOGICAL_AND, token.LOGICAL_OR, token.COALESCE:
			return w.plain(e.Left, deps) && w.plain(e.Right, deps)
		}
		return true
	case *ast.ConditionalExpression:
		return w.plain(e.Consequent, deps) && w.plain(e.Alternate, deps)
	}
	return false
}

// maxDeps bounds the names one key may hang on; beyond it the guard stays.
const maxDeps = 32

// loosenTarget notes that every name of a pattern may take any value.
func (w *walk) loosenTarget(e ast.Expression) {
	w.eachName(e, (*binding).loosen)
}

// taintTarget notes that every name of a pattern takes a part of a tool's result.
func (w *walk) taintTarget(e ast.Expression) {
	w.eachName(e, func(b *binding) { b.tool = true })
}

// eachName visits what is known of each name of a pattern.
func (w *walk) eachName(e ast.Expression, visit func(*binding)) {
	eachIdentifier(e, func(id *ast.Identifier) {
		if b := w.scope.lookup(id.Name.String()); b != nil {
			visit(b)
		}
	})
}
