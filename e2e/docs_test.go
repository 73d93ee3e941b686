package e2e

import (
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
	goDocPath    = regexp.MustCompile(`\bdocs/(?:decisions/\d{4}|format/[a-z-]+\.md|[a-zA-Z-]+\.md)`)
)

// TestLinksResolve follows every relative link of the documents and every mention
// of a page of docs/ in Go comments.
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
