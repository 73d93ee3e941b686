package script

import (
	"crypto/sha256"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// The user's text becomes the body of an async function whose parameters are the
// helpers. The line break keeps the user's columns; the one at the end closes a
// line comment.
const (
	prefix     = "(async(__ag_key,__ag_regexp)=>{\n"
	suffix     = "\n})"
	guardName  = "__ag_key"
	regexpName = "__ag_regexp"
)

// Admit decides whether src may run. It returns a program, or nil and at least one
// finding that refuses; warnings come with a program too.
func Admit(src string, opts Options) (*Program, []Finding) {
	rules := opts.Level.Rules()
	if opts.Text != nil {
		rules.Text = *opts.Text
	}
	tree, err := parse(src)
	if err != nil {
		return nil, []Finding{{Rule: "syntax", Code: "SYNTAX", Severity: Refused, Message: err.Error(), Line: 1, Column: 1, Length: 1}}
	}
	main := tree.Body[0].(*ast.ExpressionStatement).Expression.(*ast.ArrowFunctionLiteral)
	returnLast(main.Body.(*ast.BlockStatement))
	code, err := goja.CompileAST(tree, true)
	if err != nil {
		return nil, []Finding{{Rule: "syntax", Code: "SYNTAX", Severity: Refused, Message: err.Error(), Line: 1, Column: 1, Length: 1}}
	}
	return &Program{Main: code, Source: src, Hash: sha256.Sum256([]byte(src)), Level: rules.Level}, nil
}

func parse(src string) (*ast.Program, error) {
	return parser.ParseFile(nil, "", prefix+src+suffix, parser.IgnoreRegExpErrors, parser.WithDisableSourceMaps)
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

func userPosition(src string, line, column int) (int, int) {
	line-- // the prefix is a line of its own
	if line < 1 {
		return 1, 1
	}
	rest, n := src, 1
	for n < line {
		i := strings.IndexAny(rest, "\r\n")
		if i < 0 {
			break
		}
		if rest[i] == '\r' && i+1 < len(rest) && rest[i+1] == '\n' {
			i++
		}
		rest, n = rest[i+1:], n+1
	}
	if i := strings.IndexAny(rest, "\r\n"); i >= 0 {
		rest = rest[:i]
	}
	if n < line || column > len(rest) {
		return n, utf8.RuneCountInString(rest) + 1
	}
	if column < 1 {
		column = 1
	}
	return n, utf8.RuneCountInString(rest[:column-1]) + 1
}
