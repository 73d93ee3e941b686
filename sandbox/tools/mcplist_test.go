package tools

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

// pages is a server that answers tools/list with these, the last one again.
type pages []string

func (p *pages) request(context.Context, string, any) (json.RawMessage, error) {
	text := (*p)[0]
	if len(*p) > 1 {
		*p = (*p)[1:]
	}
	return json.RawMessage(text), nil
}
func (*pages) notify(context.Context, string, any) error { return nil }
func (*pages) version(string)                            {}
func (*pages) Close() error                              { return nil }

// TestAListOfToolsIsBounded: in tools, pages and bytes of all pages together, and before
// it takes a multiple of its length.
func TestAListOfToolsIsBounded(t *testing.T) {
	list := func(tools, next string) string { return `{"tools":[` + tools + `],"nextCursor":"` + next + `"}` }
	large := list(`{"name":"a","inputSchema":{"x":"`+strings.Repeat("x", 1<<20)+`"}}`, "more")
	for name, tc := range map[string]struct {
		pages pages
		want  string
	}{
		"honest":         {pages{list(`{"name":"a"}`, "more"), list(`{"name":"b"}`, "")}, ""},
		"nulls":          {pages{list(strings.Repeat("null,", 1<<19)+"null", "")}, "more than 1000 tools"},
		"many":           {pages{list(strings.Repeat(`{"name":"a"},`, 300)+`{}`, "more")}, "more than 1000 tools"},
		"without end":    {pages{list("", "more")}, "more than 100 pages"},
		"large together": {pages{large}, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s := &mcpServer{t: &tc.pages}
			all, err := s.list(t.Context())
			runtime.ReadMemStats(&after)
			if tc.want == "" && (err != nil || len(all) != 2) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%d tools, %v, want %q", len(all), err, tc.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 150<<20 {
				t.Errorf("%d bytes", took)
			}
		})
	}
}
