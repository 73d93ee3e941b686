package script

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"

	"enclave/sandbox/score"
)

// maxFindings bounds what is reported of one script; a hostile one would fill pages.
const maxFindings = 50

// walk goes over the tree once. It is an allow list: a node it does not know, it
// refuses. On the way it resolves names, guards computed keys, turns regular
// expression literals into calls of the helper, and collects the features.
type walk struct {
	lines    lineIndex
	rules    Rules
	opts     Options
	findings []Finding
	refused  bool

	scope    *scope
	sites    []site // computed keys that are guarded unless proven harmless
	features score.Features
	tools    map[string]bool
	names    map[string]bool // those in features
	loops    int             // loops and iterating callbacks around this point
	overTool int             // of them, those over a tool's result
	depth    int
	bigints  bool                    // there is a BigInt literal
	products []*ast.BinaryExpression // * ** << >>, guarded if there is
	growing  []*ast.AssignExpression // *= **= <<= >>=, likewise
	seen     file.Idx                // of the last name or number
}

// site is a computed key whose names were all numeric when it was seen.
type site struct {
	member *ast.Expression
	deps   []*binding
}

func (w *walk) report(offset, length int, severity Severity, rule, code, message string) {
	if severity == Refused {
		w.refused = true
	}
	if len(w.findings) >= maxFindings && (severity != Refused || len(w.findings) >= 2*maxFindings) {
		return
	}
	line, column := w.lines.at(offset)
	end := min(max(offset, 0)+length, len(w.lines.src))
	chars := 1
	if end > offset && offset >= 0 {
		chars = max(1, utf8.RuneCountInString(w.lines.src[offset:end]))
	}
	f := Finding{Rule: rule, Code: code, Severity: severity, Message: message, Line: line, Column: column, Length: chars}
	for i, old := range w.findings {
		if old.Code == code && old.Line == line && old.Column == column {
			if severity == Refused && old.Severity != Refused {
				w.findings[i] = f
			}
			return
		}
	}
	w.findings = append(w.findings, f)
}

func (w *walk) refuse(at file.Idx, length int, rule, code, format string, args ...any) {
	if offsetOf(at) < 0 { // the parser leaves out where some statements begin
		at = w.seen
	}
	w.report(offsetOf(at), length, Refused, rule, code, fmt.Sprintf(format, args...))
}

func (w *walk) warn(at file.Idx, length int, rule, code, format string, args ...any) {
	if offsetOf(at) < 0 {
		at = w.seen
	}
	w.report(offsetOf(at), length, Warning, rule, code, fmt.Sprintf(format, args...))
}

// unknown refuses syntax that is no part of the language.
func (w *walk) unknown(at file.Idx, what, instead string) {
	w.refuse(at, 1, "syntax-allow-list", "UNSUPPORTED_SYNTAX", "%s no part of AgentScript; %s", what, instead)
}

// sorted returns the findings in the order of the text, refusals first where two meet.
func (w *walk) sorted() []Finding {
	sort.SliceStable(w.findings, func(i, j int) bool {
		a, b := w.findings[i], w.findings[j]
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return w.findings
}

// maxDepth bounds the walk's own recursion. The text checks keep every text far
// below it; it stands here so that a mistake of theirs is a refusal and no crash.
const maxDepth = 10_000

func (w *walk) deeper(n ast.Node) bool {
	if w.depth++; w.depth > maxDepth {
		w.refuse(n.Idx0(), 1, "text", "EXPRESSION_TOO_DEEP", "the script is nested too deep here; move the inner part into a function of its own")
		w.depth--
		return false
	}
	return true
}

// block reads statements in a scope that is already open.
func (w *walk) block(list []ast.Statement) {
	w.hoistBlock(list)
	ended := false
	for _, s := range list {
		if ended && !declares(s) {
			w.warn(s.Idx0(), 1, "unreachable-code", "UNREACHABLE_CODE", "nothing gets here: the statement before always leaves")
			ended = false
		}
		w.statement(s)
		switch s.(type) {
		case *ast.ReturnStatement, *ast.ThrowStatement, *ast.BranchStatement:
			ended = true
		}
	}
}

func declares(s ast.Statement) bool {
	switch s.(type) {
	case *ast.FunctionDeclaration, *ast.EmptyStatement:
		return true
	}
	return false
}

func (w *walk) statement(s ast.Statement) {
	if s == nil {
		return
	}
	if !w.deeper(s) {
		return
	}
	defer func() { w.depth-- }()
	switch s := s.(type) {
	case *ast.EmptyStatement:
	case *ast.ExpressionStatement:
		s.Expression = w.expression(s.Expression)
	case *ast.BlockStatement:
		leave := w.enter()
		w.block(s.List)
		leave()
	case *ast.IfStatement:
		s.Test = w.expression(s.Test)
		w.statement(s.Consequent)
		w.statement(s.Alternate)
	case *ast.ReturnStatement:
		s.Argument = w.expression(s.Argument)
	case *ast.ThrowStatement:
		s.Argument = w.expression(s.Argument)
		if _, made := s.Argument.(*ast.NewExpression); !made && s.Argument != nil {
			s.Argument = helper(throwName, s.Argument)
		}
	case *ast.BranchStatement: // break and continue
	case *ast.LabelledStatement:
		w.checkName(s.Label)
		w.statement(s.Statement)
	case *ast.VariableStatement:
		w.bindings(s.List)
	case *ast.LexicalDeclaration:
		w.bindings(s.List)
	case *ast.TryStatement:
		w.try(s)
	case *ast.SwitchStatement:
		w.switched(s)
	case *ast.ForStatement:
		w.forLoop(s)
	case *ast.ForOfStatement:
		w.forOf(s)
	case *ast.WhileStatement:
		w.whileLoop(s.While, &s.Test, s.Body)
	case *ast.DoWhileStatement:
		w.whileLoop(s.Do, &s.Test, s.Body)
	case *ast.FunctionDeclaration:
		w.function(s.Function, false)
	case *ast.ClassDeclaration:
		w.class(s.Class)
	default:
		w.badStatement(s)
	}
}

// badStatement says what instead of a statement that is no part of the language.
func (w *walk) badStatement(s ast.Statement) {
	switch s := s.(type) {
	case *ast.ForInStatement:
		w.refuse(s.For, 3, "forbidden-loop", "FORBIDDEN_LOOP", "for...in also walks what objects inherit and is no part of AgentScript; use: for (const key of Object.keys(o))")
	case *ast.WithStatement:
		w.refuse(s.With, 4, "no-eval", "NO_EVAL", "with changes what names mean at run time; name the object instead")
	case *ast.DebuggerStatement:
		w.unknown(s.Debugger, "debugger is", "remove it")
	default:
		w.unknown(s.Idx0(), "this statement is", "write it in other words")
	}
}

func (w *walk) try(s *ast.TryStatement) {
	w.statement(s.Body)
	if c := s.Catch; c != nil {
		leave := w.enter()
		if c.Parameter != nil {
			w.declareTarget(c.Parameter, false)
			w.loosenTarget(c.Parameter)
			w.target(c.Parameter, true)
		}
		w.statement(c.Body)
		leave()
	}
	if s.Finally != nil {
		w.statement(s.Finally)
	}
}

func (w *walk) switched(s *ast.SwitchStatement) {
	s.Discriminant = w.expression(s.Discriminant)
	leave := w.enter()
	defer leave()
	for _, c := range s.Body {
		w.hoistBlock(c.Consequent)
	}
	for _, c := range s.Body {
		c.Test = w.expression(c.Test)
		for _, x := range c.Consequent {
			w.statement(x)
		}
	}
}

// bindings reads the declarations of one var, let or const; the names are declared
// already.
func (w *walk) bindings(list []*ast.Binding) {
	for _, b := range list {
		b.Initializer = w.expression(b.Initializer)
		id, plain := b.Target.(*ast.Identifier)
		if !plain {
			w.target(b.Target, true)
			w.loosenTarget(b.Target)
			w.awaited(b.Initializer, "")
			if b.Initializer != nil && w.fromTool(b.Initializer) {
				w.taintTarget(b.Target)
			}
			b.Initializer = w.walked(b.Target, b.Initializer)
			continue
		}
		if b.Initializer == nil {
			continue
		}
		v := w.scope.lookup(id.Name.String())
		if v == nil {
			continue
		}
		w.assigned(v, b.Initializer)
		if v.constant {
			if text, ok := w.fold(b.Initializer); ok {
				v.text = &text
			}
			v.function = isFunction(b.Initializer)
			_, v.promise = w.unawaited(b.Initializer)
		}
		if w.fromTool(b.Initializer) {
			v.tool = true
		}
	}
}

// checkName refuses names that belong to the helpers, or whose letters are not plain.
func (w *walk) checkName(id *ast.Identifier) {
	name := id.Name.String()
	w.seen = id.Idx
	if reserved(name) {
		w.refuse(id.Idx, len(name), "reserved-prefix", "RESERVED_PREFIX", "names that begin with __ag_ or __safe_ belong to the sandbox; choose another name")
	}
	w.checkSpelling(id.Idx, name)
}

// checkSpelling refuses a name that is not written as what it means. The text checks
// saw no such letter; that both agree is what this makes sure of.
func (w *walk) checkSpelling(at file.Idx, name string) {
	if o := offsetOf(at); o < 0 || !strings.HasPrefix(w.lines.src[min(o, len(w.lines.src)):], name) {
		w.refuse(at, 1, "text", "UNICODE_IDENTIFIER", "write this name in plain letters, without escapes")
		return
	}
	for i := 0; i < len(name); i++ {
		if !isWord(name[i]) {
			w.refuse(at, len(name), "text", "UNICODE_IDENTIFIER", "the name %q has letters beyond a-z, A-Z, digits, _ and $", name)
			return
		}
	}
}

func reserved(name string) bool {
	return strings.HasPrefix(name, "__ag_") || strings.HasPrefix(name, "__safe_")
}
