package admin

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func testConfig() Config {
	return Config{Logger: slog.New(slog.DiscardHandler), Version: "test"}
}

func TestTableAndRoutesAgree(t *testing.T) {
	a, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(a.mux.routed); n != len(table) {
		t.Errorf("%d routes, %d entries", n, len(table))
	}
	seen := map[string]bool{}
	for _, r := range table {
		if seen[r.pattern()] || r.id != "" && seen[r.id] {
			t.Errorf("%s stands twice", r.pattern())
		}
		seen[r.pattern()], seen[r.id] = true, true
		if r.summary == "" || r.scope != Public && r.scope != Signed && !slices.Contains(Scopes(), r.scope) {
			t.Errorf("%s: summary %q, scope %q", r.pattern(), r.summary, r.scope)
		}
		if r.method != "GET" && r.id != "tests-run" && (r.scope == Public || r.scope == Signed || r.scope == Read || r.scope == Audit) {
			t.Errorf("%s changes something with the scope %s", r.pattern(), r.scope)
		}
	}
}

func TestARouteWithoutAnEntryIsNoServer(t *testing.T) {
	for i := range table {
		short := slices.Delete(slices.Clone(table[:]), i, i+1)
		if _, err := build(testConfig(), short); err == nil {
			t.Errorf("without the entry of %s the server starts", table[i].pattern())
		}
	}
}

func TestAnEntryWithoutARouteIsNoServer(t *testing.T) {
	long := append(slices.Clone(table[:]), rule{"GET", "/nowhere", Public, "", "No handler"})
	if _, err := build(testConfig(), long); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("error %v", err)
	}
}

func TestNothingPassesBesideTheTable(t *testing.T) {
	a, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if a.mux.check() == nil {
			t.Error("a handler was registered without an entry")
		}
	}()
	a.mux.HandleFunc("GET "+Prefix+"/backdoor", func(http.ResponseWriter, *http.Request) {})
}

// TestOpenAPINamesEveryParameter compares paths with what the handlers take: huma
// leaves out, in silence, what it cannot fill.
func TestOpenAPINamesEveryParameter(t *testing.T) {
	a, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table {
		if r.id == "" {
			continue
		}
		op := operation(a.huma.OpenAPI(), &r)
		if op == nil {
			t.Errorf("%s is not in the document", r.pattern())
			continue
		}
		named := 0
		for _, p := range op.Parameters {
			if p.In == "path" && strings.Contains(r.path, "{"+p.Name+"}") {
				named++
			}
		}
		if want := strings.Count(r.path, "{"); named != want {
			t.Errorf("%s: %d of %d path parameters reach the handler", r.pattern(), named, want)
		}
	}
}
