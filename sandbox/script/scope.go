package script

import (
	"github.com/dop251/goja/ast"
)

// binding is one declared name.
type binding struct {
	name     string
	constant bool       // declared by const
	text     *string    // what a const of constant text holds
	function bool       // holds a function of the script, and nothing else
	tool     bool       // holds a tool's result or a part of one
	promise  bool       // a const that holds a call of a tool which nobody has awaited
	loose    bool       // may hold what is no number, boolean, null or undefined
	feeds    []*binding // get their value from this one, so that what makes it loose makes them loose
}

// loosen marks b and all that take its value.
func (b *binding) loosen() {
	for work := []*binding{b}; len(work) > 0; {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		if !b.loose {
			b.loose = true
			work = append(work, b.feeds...)
			b.feeds = nil
		}
	}
}

// scope holds the names of one function or block.
type scope struct {
	outer *scope
	few   []*binding          // while they are few, which is nearly always
	many  map[string]*binding // else
}

const few = 8

func (s *scope) own(name string) *binding {
	if s.many != nil {
		return s.many[name]
	}
	for _, b := range s.few {
		if b.name == name {
			return b
		}
	}
	return nil
}

func (s *scope) lookup(name string) *binding {
	for ; s != nil; s = s.outer {
		if b := s.own(name); b != nil {
			return b
		}
	}
	return nil
}

// declare adds name, or returns what is there: whether it may be declared twice is
// the compiler's to say.
func (s *scope) declare(name string) *binding {
	if b := s.own(name); b != nil {
		return b
	}
	b := &binding{name: name}
	switch {
	case s.many != nil:
		s.many[name] = b
	case len(s.few) < few:
		s.few = append(s.few, b)
	default:
		s.many = make(map[string]*binding, 4*few)
		for _, old := range s.few {
			s.many[old.name] = old
		}
		s.many[name] = b
	}
	return b
}

// enter opens a scope and returns what closes it.
func (w *walk) enter() func() {
	outer := w.scope
	w.scope = &scope{outer: outer}
	return func() { w.scope = outer }
}

// hoistVars declares what var declares anywhere in a function's body. A var with the
// name of a parameter is that parameter, or begins with its value: it may hold anything.
func (w *walk) hoistVars(list []*ast.VariableDeclaration) {
	for _, d := range list {
		for _, b := range d.List {
			w.declareTarget(b.Target, false)
			w.eachName(b.Target, func(v *binding) {
				if o := w.scope.outer; o != nil && o.own(v.name) != nil {
					v.loosen()
				}
			})
		}
	}
}

// hoistBlock declares what a block declares for all of itself, before it is read.
func (w *walk) hoistBlock(list []ast.Statement) {
	for _, s := range list {
		for {
			l, ok := s.(*ast.LabelledStatement)
			if !ok {
				break
			}
			s = l.Statement
		}
		switch s := s.(type) {
		case *ast.LexicalDeclaration:
			for _, b := range s.List {
				w.declareTarget(b.Target, s.Token.String() == "const")
			}
		case *ast.FunctionDeclaration:
			if s.Function.Name != nil {
				b := w.declareName(s.Function.Name, false)
				b.function = true
				b.loosen()
			}
		case *ast.ClassDeclaration:
			if s.Class.Name != nil {
				w.declareName(s.Class.Name, false).loosen()
			}
		}
	}
}

// declareTarget declares every name of a pattern.
func (w *walk) declareTarget(e ast.Expression, constant bool) {
	eachIdentifier(e, func(id *ast.Identifier) { w.declareName(id, constant) })
}

// eachIdentifier visits the names that a pattern gives values to.
func eachIdentifier(e ast.Expression, visit func(*ast.Identifier)) {
	switch e := e.(type) {
	case *ast.Identifier:
		visit(e)
	case *ast.Binding:
		eachIdentifier(e.Target, visit)
	case *ast.AssignExpression:
		eachIdentifier(e.Left, visit)
	case *ast.ArrayPattern:
		for _, x := range e.Elements {
			eachIdentifier(x, visit)
		}
		eachIdentifier(e.Rest, visit)
	case *ast.ObjectPattern:
		for _, p := range e.Properties {
			switch p := p.(type) {
			case *ast.PropertyShort:
				visit(&p.Name)
			case *ast.PropertyKeyed:
				eachIdentifier(p.Value, visit)
			}
		}
		eachIdentifier(e.Rest, visit)
	}
}

func (w *walk) declareName(id *ast.Identifier, constant bool) *binding {
	name := id.Name.String()
	w.checkName(id)
	switch name {
	case CallTool:
		w.refuse(id.Idx, len(name), "call-target", "NO_CALL_TARGET_ASSIGNMENT", "callTool is the only way to the tools and cannot be declared again; choose another name")
	case "eval", "arguments":
		w.refuse(id.Idx, len(name), "disallowed-identifier", "DISALLOWED_IDENTIFIER", "%s cannot be the name of a variable; choose another name", name)
	}
	b := w.scope.declare(name)
	b.constant = b.constant || constant
	return b
}
