package script

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
	"github.com/dop251/goja/token"
)

// seeds are the scripts of the corpus, as their files have them.
func seeds(f *testing.F) {
	files, _ := filepath.Glob("corpus/*/*.txt")
	if len(files) == 0 {
		f.Fatal("no corpus")
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, s := range strings.Split("\n"+string(data), "\n-- ")[1:] {
			if _, src, ok := strings.Cut(s, " --\n"); ok {
				f.Add(src)
			}
		}
	}
}

// known are the nodes that a program may have, said a second time and in another way
// than walk says it.
var known = func() map[string]bool {
	known := map[string]bool{}
	for _, n := range strings.Fields(`ArrayLiteral ArrayPattern ArrowFunctionLiteral AssignExpression AwaitExpression
		BinaryExpression Binding BlockStatement BooleanLiteral BracketExpression BranchStatement CallExpression CaseStatement
		CatchStatement ClassDeclaration ClassLiteral ConditionalExpression DoWhileStatement DotExpression EmptyStatement
		ExpressionBody ExpressionStatement ForDeclaration ForIntoExpression ForIntoVar ForLoopInitializerExpression
		ForLoopInitializerLexicalDecl ForLoopInitializerVarDeclList ForOfStatement ForStatement FunctionDeclaration
		FunctionLiteral Identifier IfStatement LabelledStatement LexicalDeclaration NewExpression NullLiteral NumberLiteral
		ObjectLiteral ObjectPattern Optional OptionalChain ParameterList PropertyKeyed PropertyShort RegExpLiteral
		ReturnStatement SequenceExpression SpreadElement StringLiteral SwitchStatement TemplateElement TemplateLiteral
		ThrowStatement TryStatement UnaryExpression VariableDeclaration VariableStatement WhileStatement Program`) {
		known[n] = true
	}
	return known
}()

// each calls f for every node below v.
func each(v reflect.Value, f func(any)) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return
		}
		if v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct && v.Type().Elem().PkgPath() == "github.com/dop251/goja/ast" {
			f(v.Interface())
		}
		each(v.Elem(), f)
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), f)
		}
	case reflect.Struct:
		if v.Type().PkgPath() != "github.com/dop251/goja/ast" {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				each(v.Field(i), f)
			}
		}
	}
}

func parsed(src string) (*ast.Program, error) {
	return parser.ParseFile(nil, "", prefix+src+suffix, parser.IgnoreRegExpErrors, parser.WithDisableSourceMaps)
}

// FuzzAdmit holds what is admitted to the rules by other means than Admit's own.
func FuzzAdmit(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src string) {
		p, findings := Admit(src, Options{Level: Secure})
		refused := false
		lines := indexLines(src)
		for _, x := range findings {
			refused = refused || x.Severity == Refused
			if x.Line < 1 || x.Column < 1 || x.Length < 1 || x.Line > len(lines.starts) || x.Rule == "" || x.Code == "" || x.Message == "" {
				t.Fatalf("finding %+v", x)
			}
		}
		if (p == nil) != refused {
			t.Fatalf("program %v with %+v", p != nil, findings)
		}
		if p == nil {
			return
		}
		tree, err := parsed(src)
		if err != nil || len(tree.Body) != 1 {
			t.Fatalf("admitted, but %v", err)
		}
		regexps := 0
		each(reflect.ValueOf(tree), func(n any) {
			name := reflect.TypeOf(n).Elem().Name()
			if !known[name] {
				t.Fatalf("admitted with a %s", name)
			}
			switch n := n.(type) {
			case *ast.Identifier:
				if w := n.Name.String(); strings.HasPrefix(w, "__ag_") && int(n.Idx) > len(prefix) || strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$") != "" {
					t.Fatalf("admitted with the name %q", w)
				}
			case *ast.DotExpression:
				if IsDangerousKey(n.Identifier.Name.String()) {
					t.Fatalf("admitted with .%s", n.Identifier.Name)
				}
			case *ast.FunctionLiteral:
				if n.Generator {
					t.Fatal("admitted with a generator")
				}
			case *ast.PropertyKeyed:
				if n.Kind == ast.PropertyKindGet || n.Kind == ast.PropertyKindSet {
					t.Fatal("admitted with an accessor")
				}
			case *ast.ClassLiteral:
				if len(n.Body) > 0 || n.SuperClass != nil {
					t.Fatal("admitted with a class")
				}
			case *ast.RegExpLiteral:
				regexps++
			case *ast.UnaryExpression:
				_ = n.Operator == token.DELETE
			}
		})
		// The text checks must have cut the text into the same literals as the parser.
		s := &textScan{src: src, lim: Secure.Rules().Text, report: func(int, int, string, string, string) {}, warn: func(int, int, string, string, string) {}}
		s.run()
		if s.regexps != regexps {
			t.Fatalf("the text checks saw %d regular expressions, the parser %d", s.regexps, regexps)
		}
	})
}

// FuzzText runs the text checks alone, and the parser on all that they let through.
func FuzzText(f *testing.F) {
	seeds(f)
	for _, s := range []string{"a++ / 1", "a\n++/b/", "`${`${1}`}`", "{}/a/", "x = {} / 1", "if (a) /b/.c", "\\u0061", "a?.5:1", "a ?. b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		x := indexLines(src)
		found := 0
		ok := checkText(x, Strict.Rules().Text, func(offset, length int, rule, code, message string) {
			found++
			if offset < 0 || offset > len(src) || length < 0 {
				t.Fatalf("%s at %d, length %d", code, offset, length)
			}
		}, func(int, int, string, string, string) {})
		if ok == (found > 0) {
			t.Fatalf("ok %v with %d findings", ok, found)
		}
		if ok {
			_, _ = parsed(src) // must come back, without a panic
		}
	})
}

// FuzzPosition maps every place of a text through the runtime's view of it and back.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "a", "a\nb", "a\r\nb\rc\n", "é\n\nüx", strings.Repeat("aé€\n😀b", 40), "\n\n\n"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, src string, offset int) {
		if strings.ContainsAny(src, "\u2028\u2029") {
			return
		}
		offset = min(max(offset, 0), len(src))
		if offset > 0 && offset < len(src) && src[offset-1] == '\r' && src[offset] == '\n' {
			return // inside a line's end
		}
		x := indexLines(src)
		line, _ := x.at(offset)
		if back := x.offset(line, offset-x.starts[line-1]+1); back != offset {
			t.Fatalf("%q: %d is line %d, which is %d", src, offset, line, back)
		}
		_, _ = x.at(x.offset(offset, offset))
		if !utf8.ValidString(src) || offset < len(src) && !utf8.RuneStart(src[offset]) {
			return // no such text is compiled, and no place is inside a character
		}
		chars := indexChars(src)
		p := Program{Source: src, chars: chars}
		if at := file.NewFile(Name, chars.flat, 1).Position(p.Place(offset + len(prefix))); fmt.Sprint(at.Line, at.Column) != fmt.Sprint(x.at(offset)) {
			t.Fatalf("%q: %d is %v, not %v", src, offset, at, fmt.Sprint(x.at(offset)))
		}
	})
}

func FuzzRegexp(f *testing.F) {
	for _, s := range []string{"a", "(a+)+$", "(?=a)", "[a-z]{2,3}", "\\p{L}", "(?<n>a)", "a{1000}{1000}", "[^]", "\\1", "(?i:a)", "[\\d-x]"} {
		f.Add(s, "g")
	}
	f.Fuzz(func(t *testing.T, pattern, flags string) {
		if len(pattern) > 1000 || len(flags) > 10 {
			return
		}
		if err := CheckRegexp(pattern, flags); err != nil && err.Error() == "" {
			t.Fatal("no reason")
		}
	})
}
