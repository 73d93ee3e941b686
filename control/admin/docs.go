package admin

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS string

// docsRoute is one route as the page shows it.
type docsRoute struct {
	Method, Path, Summary string
	Scope                 Scope
	ID, Request, Response string
}

// docsSchema is one shape as the page shows it.
type docsSchema struct{ Name, JSON string }

// serveDocs registers the OpenAPI document and its page. The page is rendered here,
// once, from the document: it needs no script and no other machine, so it works on a
// network without the Internet and its policy can forbid everything but its own style.
func (a *API) serveDocs(m *mux, spec *huma.OpenAPI) error {
	specJSON, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("openapi document: %w", err)
	}
	specYAML, err := spec.YAML()
	if err != nil {
		return fmt.Errorf("openapi document: %w", err)
	}
	page, err := renderDocs(m, spec)
	if err != nil {
		return fmt.Errorf("documentation page: %w", err)
	}
	sum := sha256.Sum256([]byte(docsCSS))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	serve := func(path, contentType string, body []byte) {
		m.HandleFunc("GET "+Prefix+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Security-Policy", policy)
			w.Write(body) // the client is gone if this fails
		})
	}
	serve("/openapi.json", "application/openapi+json", specJSON)
	serve("/openapi.yaml", "application/openapi+yaml", specYAML)
	serve("/docs", "text/html; charset=utf-8", page)
	return nil
}

func renderDocs(m *mux, spec *huma.OpenAPI) ([]byte, error) {
	var routes []docsRoute
	for _, r := range m.rules {
		d := docsRoute{Method: r.method, Path: Prefix + r.path, Summary: r.summary, Scope: r.scope, ID: r.id}
		if op := operation(spec, r); op != nil {
			d.Request, d.Response = shapes(op)
		}
		routes = append(routes, d)
	}
	slices.SortFunc(routes, func(a, b docsRoute) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method)) })
	var schemas []docsSchema
	for name, s := range spec.Components.Schemas.Map() {
		b, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		var text bytes.Buffer
		if err := json.Indent(&text, b, "", "  "); err != nil {
			return nil, err
		}
		schemas = append(schemas, docsSchema{name, text.String()})
	}
	slices.SortFunc(schemas, func(a, b docsSchema) int { return cmp.Compare(a.Name, b.Name) })
	t, err := template.New("docs").Parse(docsHTML)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = t.Execute(&page, map[string]any{
		"Title": spec.Info.Title, "Version": spec.Info.Version, "Description": spec.Info.Description,
		"CSS": template.CSS(docsCSS), "Routes": routes, "Schemas": schemas,
	})
	return page.Bytes(), err
}

func operation(spec *huma.OpenAPI, r *rule) *huma.Operation {
	item := spec.Paths[Prefix+r.path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete,
	}[r.method]
}

// shapes names the body an operation takes and the one it answers with.
func shapes(op *huma.Operation) (request, response string) {
	name := func(content map[string]*huma.MediaType) string {
		for _, c := range content {
			if c.Schema != nil && len(c.Schema.Ref) > len("#/components/schemas/") {
				return c.Schema.Ref[len("#/components/schemas/"):]
			}
		}
		return ""
	}
	if op.RequestBody != nil {
		request = name(op.RequestBody.Content)
	}
	for _, code := range []string{"200", "201"} {
		if r := op.Responses[code]; r != nil {
			response = name(r.Content)
		}
	}
	return request, response
}
