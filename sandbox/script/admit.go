package script

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// The user's text becomes the body of an async function whose parameters are the
// helpers. The line break keeps the user's columns; the one at the end closes a
// line comment.
const (
	prefix     = "(async(__ag_key,__ag_regexp,__ag_spread,__ag_big,__ag_trace,__ag_throw,__ag_copy)=>{\n"
	suffix     = "\n})"
	guardName  = "__ag_key"
	regexpName = "__ag_regexp"
	spreadName = "__ag_spread"
	bigName    = "__ag_big"
	traceName  = "__ag_trace"
	throwName  = "__ag_throw"
	copyName   = "__ag_copy"
)

// Admit decides whether src may run. It returns a program, or nil and at least one
// finding that refuses; warnings come with a program too. It needs no more memory
// and stack than the limits of the text allow, whatever the text.
func Admit(src string, opts Options) (p *Program, findings []Finding) {
	rules := opts.Level.Rules()
	if opts.Text != nil {
		rules.Text = *opts.Text
	}
	w := &walk{rules: rules, opts: opts}
	if len(src) <= rules.Text.Bytes {
		w.lines = indexLines(src)
	} else {
		w.lines = lineIndex{src, []int{0}}
	}
	// The parser and the compiler are not ours: a panic of theirs is a refusal.
	defer func() {
		if x := recover(); x != nil {
			w.report(0, 1, Refused, "syntax", "SYNTAX", "the script cannot be compiled; write it more simply")
			p, findings = nil, w.sorted()
		}
	}()
	p = w.admit(src)
	return p, w.sorted()
}

func (w *walk) admit(src string) *Program {
	if !w.text() {
		return nil
	}
	tree, err := parser.ParseFile(nil, "", prefix+src+suffix, parser.IgnoreRegExpErrors, parser.WithDisableSourceMaps)
	if err != nil {
		w.syntax(err)
		return nil
	}
	main := w.wrapper(tree)
	if main == nil {
		w.report(0, 1, Refused, "syntax", "SYNTAX", "the text is not the body of one function: a bracket closes what it did not open")
		return nil
	}
	body := main.Body.(*ast.BlockStatement)
	main.Source = ""
	returnLast(body)
	w.functionBody(body, main.DeclarationList)
	w.guardRest()
	if w.bigints {
		w.guardBig()
	}
	if w.refused {
		return nil
	}
	chars := indexChars(src)
	tree.File = file.NewFile(Name, chars.flat, 1)
	code, err := goja.CompileAST(tree, true)
	if err != nil {
		w.syntax(err)
		return nil
	}
	w.features.Lines = len(w.lines.starts)
	return &Program{
		Main:     code,
		Source:   src,
		Features: w.features,
		Level:    w.rules.Level,
		Tools:    slices.Sorted(maps.Keys(w.tools)),
		chars:    chars,
	}
}

// text runs the text checks.
func (w *walk) text() bool {
	return checkText(w.lines, w.rules.Text,
		func(offset, length int, rule, code, message string) {
			w.report(offset, length, Refused, rule, code, message)
		},
		func(offset, length int, rule, code, message string) {
			w.report(offset, length, Warning, rule, code, message)
		})
}

// wrapper returns the function around the user's text, or nil if the text closed it.
func (w *walk) wrapper(tree *ast.Program) *ast.ArrowFunctionLiteral {
	if len(tree.Body) != 1 {
		return nil
	}
	s, ok := tree.Body[0].(*ast.ExpressionStatement)
	if !ok {
		return nil
	}
	main, ok := s.Expression.(*ast.ArrowFunctionLiteral)
	if !ok {
		return nil
	}
	body, ok := main.Body.(*ast.BlockStatement)
	if !ok || offsetOf(body.RightBrace) != len(w.lines.src)+1 || offsetOf(body.LeftBrace) != -2 {
		return nil
	}
	return main
}

// syntax reports the first error of the parser, or the compiler's.
func (w *walk) syntax(err error) {
	var list parser.ErrorList
	var one *parser.Error
	var compile *goja.CompilerSyntaxError
	offset, message := 0, "the script does not parse"
	switch {
	case errors.As(err, &list) && len(list) > 0:
		offset, message = w.lines.offset(list[0].Position.Line-1, list[0].Position.Column), list[0].Message
		if list[0].Position.Line-1 > len(w.lines.starts) {
			offset = len(w.lines.src)
		}
	case errors.As(err, &one):
		offset, message = w.lines.offset(one.Position.Line-1, one.Position.Column), one.Message
	case errors.As(err, &compile):
		offset, message = compile.Offset-len(prefix), compile.Message
	}
	if offset >= len(strings.TrimRight(w.lines.src, " \t\r\n")) && strings.HasPrefix(message, "Unexpected") {
		message = "the text ends in the middle of a statement; complete it"
	} else {
		message = "this is no valid script: " + message
		if what := repair(w.lines.src, offset); what != "" {
			message += "; " + what
		}
	}
	w.report(offset, 1, Refused, "syntax", "SYNTAX", message)
}

// returnLast makes the value of a last expression the value of the script.
func returnLast(body *ast.BlockStatement) {
	if n := len(body.List); n > 0 {
		if e, ok := body.List[n-1].(*ast.ExpressionStatement); ok {
			body.List[n-1] = &ast.ReturnStatement{Return: e.Expression.Idx0(), Argument: e.Expression}
		}
	}
}

// offsetOf is where idx lies in the user's text.
func offsetOf(idx file.Idx) int { return int(idx) - 1 - len(prefix) }
