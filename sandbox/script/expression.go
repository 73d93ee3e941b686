package script

import (
	"math/big"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// expression reads e and returns what stands in its place: mostly e itself.
func (w *walk) expression(e ast.Expression) ast.Expression {
	if e == nil {
		return nil
	}
	if !w.deeper(e) {
		return e
	}
	defer func() { w.depth-- }()
	switch e := e.(type) {
	case *ast.Identifier:
		w.name(e)
	case *ast.NullLiteral, *ast.BooleanLiteral:
	case *ast.NumberLiteral:
		w.number(e)
	case *ast.StringLiteral:
		w.literal(e.Value.String(), e.Idx)
	case *ast.TemplateLiteral:
		w.template(e)
	case *ast.RegExpLiteral:
		return w.regexp(e)
	case *ast.ArrayLiteral:
		w.list(e.Value)
	case *ast.ObjectLiteral:
		w.object(e)
	case *ast.ArrowFunctionLiteral:
		w.arrow(e)
	case *ast.FunctionLiteral:
		w.function(e, true)
	case *ast.ClassLiteral:
		w.class(e)
	case *ast.CallExpression:
		w.call(e)
	case *ast.NewExpression:
		w.create(e)
	case *ast.DotExpression:
		e.Left = w.expression(e.Left)
		w.property(e)
		w.awaited(e.Left, e.Identifier.Name.String())
		if e.Identifier.Name == stackKey {
			e.Left = traced(e.Left)
		}
	case *ast.BracketExpression:
		e.Left = w.expression(e.Left)
		w.bracket(e)
	case *ast.OptionalChain:
		e.Expression = w.expression(e.Expression)
	case *ast.Optional:
		e.Expression = w.expression(e.Expression)
	case *ast.SpreadElement: // of a call or an array; those of objects do not come here
		e.Expression = helper(spreadName, w.expression(e.Expression))
	case *ast.AwaitExpression:
		e.Argument = w.expression(e.Argument)
	case *ast.ConditionalExpression:
		e.Test = w.expression(e.Test)
		e.Consequent = w.expression(e.Consequent)
		e.Alternate = w.expression(e.Alternate)
	case *ast.SequenceExpression:
		w.list(e.Sequence)
	case *ast.UnaryExpression:
		w.unary(e)
	case *ast.BinaryExpression:
		w.binary(e)
	case *ast.AssignExpression:
		w.assign(e)
	default:
		w.badExpression(e)
	}
	return e
}

func (w *walk) badExpression(e ast.Expression) {
	switch e := e.(type) {
	case *ast.ThisExpression:
		w.refuse(e.Idx, 4, "no-global-access", "NO_GLOBAL_ACCESS", "this is no part of AgentScript; use a variable")
	case *ast.SuperExpression:
		w.unknown(e.Idx, "super is", "use a function")
	case *ast.MetaProperty:
		w.refuse(e.Idx, 1, "no-global-access", "NO_GLOBAL_ACCESS", "import.meta and new.target are no part of AgentScript; pass what you need as an argument")
	case *ast.YieldExpression:
		w.unknown(e.Yield, "yield is", "return an array")
	case *ast.PrivateDotExpression:
		w.unknown(e.Idx0(), "private members are", "use a variable")
	case *ast.ArrayPattern, *ast.ObjectPattern:
		w.unknown(e.Idx0(), "a pattern here is", "assign to it with =")
	default:
		w.unknown(e.Idx0(), "this expression is", "write it in other words")
	}
}

func (w *walk) list(list []ast.Expression) {
	for i, x := range list {
		list[i] = w.expression(x) // nil where an array has a hole
	}
}

// name resolves a use of an identifier.
func (w *walk) name(id *ast.Identifier) *binding {
	name := id.Name.String()
	w.checkName(id)
	if b := w.scope.lookup(name); b != nil {
		return b
	}
	switch {
	case name == CallTool:
		w.refuse(id.Idx, len(name), "static-call-target", "DYNAMIC_CALL_TARGET", "callTool can only be called by its name, so that every tool of a script can be seen; write: await callTool('name', {...})")
	case reserved(name): // checkName has said so
	case !w.global(name):
		w.unknownGlobal(id)
	}
	return nil
}

func (w *walk) number(e *ast.NumberLiteral) {
	w.seen = e.Idx
	switch v := e.Value.(type) {
	case int64:
		w.limitNumber(float64(v), e.Idx)
	case float64:
		w.limitNumber(v, e.Idx)
	case *big.Int:
		w.bigints = true
	}
}

func (w *walk) template(e *ast.TemplateLiteral) {
	if e.Tag != nil {
		e.Tag = w.expression(e.Tag)
	}
	for _, x := range e.Elements {
		w.literal(x.Parsed.String(), x.Idx)
	}
	w.list(e.Expressions)
	w.spelled(e, e.OpenQuote)
}

func (w *walk) object(e *ast.ObjectLiteral) {
	for _, p := range e.Value {
		switch p := p.(type) {
		case *ast.PropertyShort:
			w.keyName(p.Name.Name.String(), p.Name.Idx)
			if p.Initializer != nil {
				w.unknown(p.Name.Idx, "a default in an object is", "write a value after a colon")
			}
			w.name(&p.Name)
		case *ast.PropertyKeyed:
			w.keyed(p)
		case *ast.SpreadElement:
			p.Expression = helper(copyName, w.expression(p.Expression))
		default:
			w.unknown(p.Idx0(), "this property is", "write it in other words")
		}
	}
}

func (w *walk) keyed(p *ast.PropertyKeyed) {
	switch p.Kind {
	case ast.PropertyKindGet, ast.PropertyKindSet:
		w.refuse(p.Key.Idx0(), 1, "no-user-functions", "NO_USER_ACCESSOR", "getters and setters run code where none is seen; use a function")
	}
	if p.Computed {
		p.Key = w.expression(p.Key)
		w.key(&p.Key)
	} else if name, at, ok := plainKey(p.Key); ok {
		if _, null := p.Value.(*ast.NullLiteral); !(name == "__proto__" && null) {
			w.keyName(name, at)
		}
		w.named(name, at)
	}
	p.Value = w.expression(p.Value)
}

// plainKey is the name of a key that is not computed.
func plainKey(e ast.Expression) (name string, at file.Idx, ok bool) {
	switch k := e.(type) {
	case *ast.StringLiteral:
		return k.Value.String(), k.Idx, true
	case *ast.Identifier:
		return k.Name.String(), k.Idx, true
	}
	return "", 0, false
}

func (w *walk) unary(e *ast.UnaryExpression) {
	switch e.Operator {
	case token.INCREMENT, token.DECREMENT:
		e.Operand = w.target(e.Operand, false)
		return
	}
	e.Operand = w.expression(e.Operand)
}

func (w *walk) binary(e *ast.BinaryExpression) {
	e.Left = w.expression(e.Left)
	e.Right = w.expression(e.Right)
	switch e.Operator {
	case token.PLUS:
		w.spelled(e, e.Left.Idx0())
	case token.MULTIPLY, token.SHIFT_LEFT, token.SHIFT_RIGHT:
		w.products = append(w.products, e)
	case token.EXPONENT:
		w.products = append(w.products, e)
		if n, ok := e.Right.(*ast.NumberLiteral); ok {
			if v, big := n.Value.(*big.Int); big && (!v.IsInt64() || v.Int64() > int64(w.rules.Text.BigIntExpon)) {
				w.exhausting(n.Idx, "a BigInt power with an exponent above 10000")
			}
		}
	}
}

func (w *walk) assign(e *ast.AssignExpression) {
	e.Right = w.expression(e.Right)
	e.Right = w.walked(e.Left, e.Right)
	if bigUse(e.Operator) {
		w.growing = append(w.growing, e)
	}
	if e.Operator == token.EXPONENT {
		if n, ok := e.Right.(*ast.NumberLiteral); ok {
			if v, big := n.Value.(*big.Int); big && (!v.IsInt64() || v.Int64() > int64(w.rules.Text.BigIntExpon)) {
				w.exhausting(n.Idx, "a BigInt power with an exponent above 10000")
			}
		}
	}
	if id, ok := e.Left.(*ast.Identifier); ok {
		w.target(id, false)
		if b := w.scope.lookup(id.Name.String()); b != nil {
			switch e.Operator {
			case token.ASSIGN, token.LOGICAL_AND, token.LOGICAL_OR, token.COALESCE, token.PLUS:
				w.assigned(b, e.Right)
			}
			b.tool = b.tool || w.fromTool(e.Right)
		}
		return
	}
	e.Left = w.target(e.Left, false)
	w.loosenTarget(e.Left)
	if w.fromTool(e.Right) {
		w.taintTarget(e.Left)
	}
}

// target reads what is assigned to or, if declaring, the pattern of a declaration
// whose names are declared already.
func (w *walk) target(e ast.Expression, declaring bool) ast.Expression {
	if e == nil {
		return nil
	}
	if !w.deeper(e) {
		return e
	}
	defer func() { w.depth-- }()
	switch e := e.(type) {
	case *ast.Identifier:
		if b := w.scope.lookup(e.Name.String()); b == nil {
			w.globalTarget(e)
		}
		return e
	case *ast.Binding:
		w.target(e.Target, declaring)
		e.Initializer = w.expression(e.Initializer)
		return e
	case *ast.AssignExpression:
		e.Left = w.target(e.Left, declaring)
		e.Right = w.expression(e.Right)
		return e
	case *ast.ArrayPattern:
		for i, x := range e.Elements {
			e.Elements[i] = w.target(x, declaring)
		}
		e.Rest = w.target(e.Rest, declaring)
		return e
	case *ast.ObjectPattern:
		w.objectPattern(e, declaring)
		return e
	case *ast.DotExpression, *ast.BracketExpression:
		if !declaring {
			w.memberTarget(e)
			return w.expression(e)
		}
	}
	w.unknown(e.Idx0(), "this target is", "assign to a variable or a property")
	return e
}

func (w *walk) objectPattern(e *ast.ObjectPattern, declaring bool) {
	for _, p := range e.Properties {
		switch p := p.(type) {
		case *ast.PropertyShort:
			w.patternKey(p.Name.Name.String(), p.Name.Idx)
			w.target(&p.Name, declaring)
			p.Initializer = w.expression(p.Initializer)
		case *ast.PropertyKeyed:
			if p.Computed {
				w.refuse(p.Key.Idx0(), 1, "no-computed-destructuring", "NO_COMPUTED_DESTRUCTURING", "a computed key in a pattern hides what is read; write: const x = o[key]")
				p.Key = w.expression(p.Key)
			} else if name, at, ok := plainKey(p.Key); ok {
				w.patternKey(name, at)
			}
			p.Value = w.target(p.Value, declaring)
		default:
			w.unknown(p.Idx0(), "this pattern is", "write it in other words")
		}
	}
	e.Rest = w.target(e.Rest, declaring)
}

func (w *walk) patternKey(name string, at file.Idx) {
	if IsDangerousKey(name) {
		w.refuse(at, len(name), "no-computed-destructuring", "NO_DANGEROUS_DESTRUCTURING", "%q leads to the machinery behind a value and cannot be read", name)
	}
	w.named(name, at)
}

// globalTarget refuses assigning to what the script did not declare.
func (w *walk) globalTarget(id *ast.Identifier) {
	name := id.Name.String()
	switch {
	case name == CallTool:
		w.refuse(id.Idx, len(name), "call-target", "NO_CALL_TARGET_ASSIGNMENT", "callTool is the only way to the tools and cannot be replaced")
	case w.global(name):
		w.refuse(id.Idx, len(name), "no-global-access", "NO_GLOBAL_ASSIGNMENT", "%s belongs to the language and cannot be replaced; use a variable of your own", name)
	default:
		w.checkName(id)
		if !reserved(name) {
			w.unknownGlobal(id)
		}
	}
}

// memberTarget refuses assigning to a member of what the script did not make.
func (w *walk) memberTarget(e ast.Expression) {
	var left ast.Expression
	switch e := e.(type) {
	case *ast.DotExpression:
		left = e.Left
	case *ast.BracketExpression:
		left = e.Left
	}
	if id, ok := left.(*ast.Identifier); ok && w.isGlobal(id) && id.Name != CallTool {
		w.refuse(id.Idx, len(id.Name), "no-global-access", "NO_GLOBAL_ASSIGNMENT", "%s belongs to the language and cannot be changed; use an object of your own", id.Name)
	}
}

// isGlobal reports whether id is a global, not shadowed.
func (w *walk) isGlobal(id *ast.Identifier) bool {
	name := id.Name.String()
	return w.scope.lookup(name) == nil && w.global(name)
}

// isGlobalNamed reports whether e is the global of that name.
func (w *walk) isGlobalNamed(e ast.Expression, name unistring.String) bool {
	id, ok := e.(*ast.Identifier)
	return ok && id.Name == name && w.isGlobal(id)
}
