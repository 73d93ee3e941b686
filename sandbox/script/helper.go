package script

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// helper makes e the last argument of a call of a helper, at e's own place.
func helper(name unistring.String, e ast.Expression, before ...ast.Expression) ast.Expression {
	at := e.Idx0()
	return &ast.CallExpression{
		Callee:           &ast.Identifier{Name: name, Idx: at},
		LeftParenthesis:  at,
		ArgumentList:     append(before, e),
		RightParenthesis: at,
	}
}

// walked lets the helper see a value whose stack a pattern takes.
func (w *walk) walked(pattern, value ast.Expression) ast.Expression {
	p, ok := pattern.(*ast.ObjectPattern)
	if !ok || value == nil {
		return value
	}
	for _, x := range p.Properties {
		switch x := x.(type) {
		case *ast.PropertyShort:
			if x.Name.Name == stackKey {
				return helper(traceName, value)
			}
		case *ast.PropertyKeyed:
			if name, _, ok := plainKey(x.Key); ok && name == stackKey {
				return helper(traceName, value)
			}
		}
	}
	return value
}

// stackKey is where an error says how it came about. The interpreter writes that text
// when it is first asked for: the helper writes ours before.
const stackKey = "stack"

// traced lets the helper see an object that is about to be asked for its stack.
func traced(e ast.Expression) ast.Expression {
	if o, ok := e.(*ast.Optional); ok {
		o.Expression = helper(traceName, o.Expression)
		return o
	}
	return helper(traceName, e)
}

// bigUse reports the operators whose result can be much larger than their operands.
func bigUse(t token.Token) bool {
	switch t {
	case token.MULTIPLY, token.EXPONENT, token.SHIFT_LEFT, token.SHIFT_RIGHT:
		return true
	}
	return false
}

// guardBig lets the helper see every operand that may be a BigInt where that matters.
// Scripts without a BigInt literal, which is nearly all, pay nothing.
func (w *walk) guardBig() {
	for _, e := range w.products {
		e.Left, e.Right = bigOperands(e.Operator, e.Left, e.Right)
	}
	for _, e := range w.growing {
		id, ok := e.Left.(*ast.Identifier)
		if !ok {
			w.refuse(e.Left.Idx0(), 1, "resource-exhaustion", "BIGINT_ASSIGNMENT", "in a script with BigInt literals, this operator assigns to variables only; write: o.x = o.x * y")
			continue
		}
		left, right := bigOperands(e.Operator, &ast.Identifier{Name: id.Name, Idx: id.Idx}, e.Right)
		e.Right = &ast.BinaryExpression{Operator: e.Operator, Left: left, Right: right}
		e.Operator = token.ASSIGN
	}
}

func bigOperands(op token.Token, left, right ast.Expression) (a, b ast.Expression) {
	switch op {
	case token.EXPONENT:
		return bigOperand(BigBase, left), bigOperand(BigExponent, right)
	case token.MULTIPLY:
		return bigOperand(BigFactor, left), bigOperand(BigFactor, right)
	}
	return bigOperand(BigFactor, left), bigOperand(BigShift, right)
}

func bigOperand(use BigUse, e ast.Expression) ast.Expression {
	return helper(bigName, e, &ast.NumberLiteral{Idx: e.Idx0(), Literal: "0", Value: int64(use)})
}
