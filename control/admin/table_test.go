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

// TestWhoMayDoWhat says it a second time: whoever lets others in has to mean it.
func TestWhoMayDoWhat(t *testing.T) {
	want := map[Scope]string{
		Public: `/docs /openapi.json /openapi.yaml /policyset/schema.json version`,
		Signed: `seal-status whoami`,
		All: `audit-archive audit-erase backup-create seal-add seal-lock seal-remove seal-rotate seal-unlock token-create token-list
			token-revoke`,
		Audit: `activity-list activity-stream audit-checkpoint audit-export audit-list audit-prove audit-segments audit-stream audit-subjects`,
		Systems: `flow-cut system-add system-approve system-delete system-disable system-enable system-revoke system-routes system-tags
			system-trust system-unadd system-untrust system-update`,
		Tags:     `tag-rename tag-set`,
		Keys:     `key-create key-delete key-disable key-enable`,
		Policies: `policy-create policy-delete policy-disable policy-enable policy-update policyset-apply policyset-confirm requirement-delete requirement-set revision-restore tests-set`,
		Relays:   `relay-delete`,
		DNS:      `record-create record-delete record-update zone-create zone-delete zone-update`,
		Read: `denied-list explain flow-list forecast graph graph-tags health key-get key-list policy-get policy-list policyset-get
			record-list relay-list requirement-get requirement-list resolve revision revision-diff revision-get revision-list
			system-access system-get system-list system-peers tag-list tests-get tests-run zone-list`,
	}
	got := make(map[Scope][]string)
	for _, r := range table {
		name := r.id
		if name == "" {
			name = r.path
		}
		got[r.scope] = append(got[r.scope], name)
	}
	for _, s := range append(Scopes(), Public, Signed) {
		slices.Sort(got[s])
		if list := strings.Fields(want[s]); !slices.Equal(got[s], list) {
			t.Errorf("the scope %s is for\n%s\nwant\n%s", s, got[s], list)
		}
	}
}

// TestAPrincipalMayWhatItsScopesSay and nothing that is near.
func TestAPrincipalMayWhatItsScopesSay(t *testing.T) {
	for _, has := range Scopes() {
		p := &Principal{Scopes: []Scope{has}}
		for _, asked := range append(Scopes(), Public, Signed) {
			if want := has == All || has == asked || asked == Public || asked == Signed; p.May(asked) != want {
				t.Errorf("with %s, %s: %v", has, asked, !want)
			}
		}
	}
	if nobody := new(Principal); nobody.May(Read) || nobody.May(All) || nobody.May("") {
		t.Error("without a scope something is allowed")
	}
}

func TestARouteWithoutAnEntryIsNoServer(t *testing.T) {
	for i := range table {
		if testing.Short() && i%8 != 0 {
			continue // each makes the whole server, and its description
		}
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
