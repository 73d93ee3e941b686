package e2e

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func packageComments(t *testing.T, p pkg) (n int) {
	t.Helper()
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			n++
		}
	}
	return n
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	namedTest    = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	testFunc     = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	namedPath    = regexp.MustCompile("`((?:agent|cli|control|deploy|docs|e2e|passage|relay|sandbox|store|tui|wire)(?:/[\\w.-]+)+)`")
	decision     = regexp.MustCompile(`^# (\d{4}) (\S.*)`)
	goDocPath    = regexp.MustCompile(`\bdocs/(?:decisions/\d{4}|format/[a-z-]+\.md|[a-zA-Z-]+\.md)`)
)

// TestLinksResolve follows every relative link of the documents, every mention of a file
// or folder in them, and every mention of a page of docs/ in Go comments.
func TestLinksResolve(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
				return filepath.SkipDir
			}
			return err
		}
		text := func() string { b, _ := os.ReadFile(path); return string(b) }
		switch filepath.Ext(path) {
		case ".md":
			for _, m := range markdownLink.FindAllStringSubmatch(text(), -1) {
				target, _, _ := strings.Cut(m[1], "#")
				if target == "" || strings.Contains(target, "://") {
					continue
				}
				target, _ = url.PathUnescape(target)
				if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); err != nil {
					t.Errorf("%s links to %s, which is not there", path, m[1])
				}
			}
			for _, m := range namedPath.FindAllStringSubmatch(text(), -1) {
				if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
					t.Errorf("%s names %s, which is not there", path, m[1])
				}
			}
		case ".go":
			for _, m := range goDocPath.FindAllString(text(), -1) {
				if found, _ := filepath.Glob(filepath.Join("..", m+"*")); len(found) == 0 {
					t.Errorf("%s names %s, which is not there", path, m)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNamedTestsAreThere: a decision that names the test which confirms it is confirmed by
// it still.
func TestNamedTestsAreThere(t *testing.T) {
	named, there := map[string]string{}, map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
		case filepath.Ext(path) == ".md":
			text, _ := os.ReadFile(path)
			for _, m := range namedTest.FindAllSubmatch(text, -1) {
				named[string(m[1])] = path
			}
		case strings.HasSuffix(path, "_test.go"):
			text, _ := os.ReadFile(path)
			for _, m := range testFunc.FindAllSubmatch(text, -1) {
				there[string(m[1])] = true
			}
		}
		return err
	})
	if err != nil || len(named) < 100 {
		t.Fatalf("%d tests are named, %v", len(named), err)
	}
	for name, path := range named {
		if !there[name] {
			t.Errorf("%s names %s, which is not there", path, name)
		}
	}
}

// TestDecisionsAreIndexed: the list of decisions has each page, under its title.
func TestDecisionsAreIndexed(t *testing.T) {
	const dir = "../docs/decisions/"
	index, err := os.ReadFile(dir + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, _ := filepath.Glob(dir + "[0-9]*.md")
	for _, page := range pages {
		text, _ := os.ReadFile(page)
		name := filepath.Base(page)
		m := decision.FindSubmatch(text)
		if m == nil || string(m[1]) != name[:4] {
			t.Errorf("%s does not begin with \"# %s Title\"", name, name[:4])
			continue
		}
		if line := fmt.Sprintf("- [%s](%s) %s", m[1], name, m[2]); strings.Count(string(index), line) != 1 {
			t.Errorf("docs/decisions/README.md wants one line %q", line)
		}
	}
}
