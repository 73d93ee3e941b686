package script

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/parser"
)

// Regular expressions run in linear time or not at all: a pattern passes if Go's
// engine (RE2) can run what it means. Look-around and back-references cannot.

// maxProgram bounds the instructions of one pattern: matching takes time in
// proportion to them and to the text.
const maxProgram = 20_000

// maxPattern bounds a pattern that a script put together: its parser recurses.
const maxPattern = 4096

// CheckRegexp reports why a regular expression cannot run here, in words for the
// author of the script, or nil. Patterns that scripts put together at run time pass
// through it too.
func CheckRegexp(pattern, flags string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("it has %d bytes, more than %d", len(pattern), maxPattern)
	}
	for i, f := range flags {
		if !strings.ContainsRune("gimsuy", f) {
			return fmt.Errorf("there is no flag %q; use g, i, m, s, u or y", f)
		}
		if strings.ContainsRune(flags[:i], f) {
			return fmt.Errorf("the flag %q stands twice", f)
		}
	}
	goPattern, err := parser.TransformRegExp(pattern, strings.Contains(flags, "s"), strings.Contains(flags, "u"))
	if err != nil {
		var incompatible parser.RegexpErrorIncompatible
		if errors.As(err, &incompatible) {
			return errors.New("it needs look-around or a back-reference, which cannot run in linear time here, or names a group in other letters than a-z and digits; use plain groups and check the rest in code")
		}
		return fmt.Errorf("it is no valid pattern: %s", strings.TrimPrefix(err.Error(), "Invalid regular expression: "))
	}
	tree, err := syntax.Parse(goPattern, syntax.Perl)
	if err != nil {
		var e *syntax.Error
		if errors.As(err, &e) && (e.Code == syntax.ErrInvalidRepeatSize || e.Code == syntax.ErrLarge) {
			return errors.New("it repeats more than 1000 times or grows too large; repeat less")
		}
		return errors.New("it is no valid pattern for an engine of linear time")
	}
	// The interpreter forgets the names of what it finds in a text beyond ASCII with that flag.
	if strings.Contains(flags, "u") && slices.ContainsFunc(tree.CapNames(), func(name string) bool { return name != "" }) {
		return errors.New("it has the flag u and names a group; leave out one of both, and use the group's number")
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return errors.New("it is no valid pattern for an engine of linear time")
	}
	if len(program.Inst) > maxProgram {
		return errors.New("it grows too large; repeat less")
	}
	if _, err := regexp.Compile(goPattern); err != nil {
		return errors.New("it is no valid pattern for an engine of linear time")
	}
	return nil
}

// regexp checks a literal and puts a call of the helper in its place.
func (w *walk) regexp(e *ast.RegExpLiteral) ast.Expression {
	if err := CheckRegexp(e.Pattern, e.Flags); err != nil {
		w.refuse(e.Idx, len(e.Literal), "regexp", "REGEX_NOT_LINEAR", "this regular expression is refused: %s", err)
	}
	return &ast.CallExpression{
		Callee:          &ast.Identifier{Name: regexpName, Idx: e.Idx},
		LeftParenthesis: e.Idx,
		ArgumentList: []ast.Expression{
			&ast.StringLiteral{Idx: e.Idx, Value: newString(e.Pattern)},
			&ast.StringLiteral{Idx: e.Idx, Value: newString(e.Flags)},
		},
		RightParenthesis: e.Idx,
	}
}

// pattern checks RegExp('...', '...') where the pattern stands in the text.
func (w *walk) pattern(args []ast.Expression) {
	if len(args) == 0 {
		return
	}
	text, ok := literalText(args[0])
	if !ok {
		return // the engine checks what is made at run time
	}
	flags := ""
	if len(args) > 1 {
		if flags, ok = literalText(args[1]); !ok {
			return
		}
	}
	if err := CheckRegexp(text, flags); err != nil {
		w.refuse(args[0].Idx0(), 1, "regexp", "REGEX_NOT_LINEAR", "this regular expression is refused: %s", err)
	}
}
