package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"enclave/wire"
	"enclave/wire/api"
)

func TestPagesMeetWithoutGaps(t *testing.T) {
	w := newWorld(t)
	for range 7 {
		w.key(api.KeyCreate{Name: "k"})
	}
	var ids []wire.KeyID
	after := ""
	for pages := 0; ; pages++ {
		var page api.Page[api.Key]
		w.api("GET", "/keys?limit=3&after="+after, nil, &page)
		for _, k := range page.Items {
			ids = append(ids, k.ID)
		}
		if after = page.Next; after == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	var all api.Page[api.Key]
	w.api("GET", "/keys", nil, &all)
	for i, k := range all.Items {
		if i >= len(ids) || ids[i] != k.ID {
			t.Fatalf("pages %v", ids)
		}
	}
}

// TestAPageOfPoliciesIsAPage: the pages are the whole list in its order, and one of them
// does not cost what all do.
func TestAPageOfPoliciesIsAPage(t *testing.T) {
	w := newWorld(t)
	set := wire.PolicySet{}
	for i := range 300 { // all of one instant
		set.Policies = append(set.Policies, named(fmt.Sprint("p", i), "mesh", "mesh"))
	}
	w.api("POST", "/policyset", api.Apply{Set: set}, nil)
	for _, name := range []string{"later", "last"} {
		w.api("POST", "/policies", named(name, "mesh", "mesh"), nil)
	}
	var all api.Page[api.Policy]
	w.api("GET", "/policies?limit=1000", nil, &all)
	if n := len(all.Items); n != 302 || all.Next != "" || all.Items[n-1].Name != "last" || all.Items[n-2].Name != "later" {
		t.Fatalf("%d policies, next %q", n, all.Next)
	}
	var got []api.Policy
	var page api.Page[api.Policy]
	for pages := 1; pages == 1 || page.Next != ""; pages++ {
		after := page.Next
		page = api.Page[api.Policy]{}
		w.api("GET", "/policies?limit=151&after="+after, nil, &page)
		if got = append(got, page.Items...); pages == 2 && page.Next != "" {
			t.Errorf("a third page begins after %q", page.Next) // the last was full
		}
	}
	if !slices.EqualFunc(got, all.Items, func(a, b api.Policy) bool { return a.ID == b.ID }) {
		t.Errorf("%d policies in pages, %d at once, or in another order", len(got), len(all.Items))
	}
	for _, wrong := range []string{"x", "12-abc", "-0000000000000000001-abc", strings.Repeat("9", 20) + "-abc", strings.Repeat("0", 20)} {
		if _, p := w.tryAPI("GET", "/policies?after="+wrong, nil, nil); p == nil || p.Code != api.CodeInvalid {
			t.Errorf("after %s: %+v", wrong, p)
		}
	}
	one := testing.AllocsPerRun(5, func() { w.api("GET", "/policies?limit=1", nil, nil) })
	if one > 10*float64(len(all.Items)) {
		t.Errorf("a page of one takes %.0f allocations, as if all %d were read", one, len(all.Items))
	}
	t.Logf("%.0f allocations", one)
}

// TestSystemsAreReadOnUntilThePageIsFull: what a filter leaves out makes no short page.
func TestSystemsAreReadOnUntilThePageIsFull(t *testing.T) {
	w := newWorld(t)
	key := w.key(api.KeyCreate{Name: "k"})
	for i := range 9 {
		w.machine().enrol(key.Secret, fmt.Sprint([]string{"odd", "even", "odd"}[i%3], i))
	}
	for _, filter := range []string{"", "&search=even", "&search=none"} {
		var all, page api.Page[api.System]
		w.api("GET", "/systems?limit=1000"+filter, nil, &all)
		var got []api.System
		for first := true; first || page.Next != ""; first = false {
			after := page.Next
			page = api.Page[api.System]{}
			w.api("GET", "/systems?limit=2&after="+after+filter, nil, &page)
			got = append(got, page.Items...)
			if len(page.Items) < 2 && page.Next != "" {
				t.Errorf("%q: a page of %d", filter, len(page.Items))
			}
		}
		if want := map[string]int{"": 9, "&search=even": 3}[filter]; len(all.Items) != want || !slices.EqualFunc(got, all.Items, func(a, b api.System) bool { return a.ID == b.ID }) {
			t.Errorf("%q: %d systems in pages, %d at once, want %d in one order", filter, len(got), len(all.Items), want)
		}
	}
}
