package policy

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"

	"enclave/wire"
)

// Maximum sizes of a policy set.
const (
	MaxPolicies     = 10_000
	MaxRequirements = 1_000
	MaxTagTrusts    = 10_000
)

// ParseSet reads a policy set strictly: duplicate keys, unknown fields, deep nesting
// and data behind the document are refused, and every mistake in it is named. A set
// with problems is not to be used.
func ParseSet(data []byte) (set wire.PolicySet, bad []wire.Problem) {
	if bad := checkJSON(data, ""); len(bad) > 0 {
		return set, bad
	}
	var l problems
	o := l.object(data, "")
	if o == nil {
		return set, l
	}
	items, path := o.list("policies")
	for i, raw := range items {
		set.Policies = append(set.Policies, l.policy(raw, index(path, i)))
	}
	decodeList(&l, o, "requirements", &set.Requirements)
	decodeList(&l, o, "tags", &set.Tags)
	decodeList(&l, o, "tests", &set.Tests)
	o.take("$schema") // editors put it there
	o.done()
	l.set(&set) // the policies themselves were validated as they were read
	return set, l
}

// decodeList reads a list of plain documents, each mistake at its place.
func decodeList[T any](l *problems, o *object, name string, out *[]T) {
	items, path := o.list(name)
	for i, raw := range items {
		var v T
		if err := wire.Unmarshal(raw, &v); err != nil {
			l.decoding(index(path, i), err)
		}
		*out = append(*out, v)
	}
}

// decoding words an error of a decoder in the terms of the document.
func (l *problems) decoding(path string, err error) {
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		l.add(path, "%s", strings.TrimPrefix(err.Error(), "json: "))
		return
	}
	if kind.Field != "" {
		path = field(path, kind.Field)
	}
	want := "another kind of value"
	switch kind.Type.Kind() {
	case reflect.Bool:
		want = "true or false"
	case reflect.String:
		want = "text"
	case reflect.Slice:
		want = "a list"
	case reflect.Struct, reflect.Map:
		want = "an object"
	case reflect.Uint16:
		want = "a whole number from 0 to 65535"
	}
	l.add(path, "want %s, not a %s", want, kind.Value)
}

// set names the mistakes of everything but the single policies, those between the parts
// included: policies are known by name. A requirement that a policy names need not be in
// it: then marks alone meet it, and where nobody marks, nobody does.
func (l *problems) set(set *wire.PolicySet) {
	before := len(*l)
	l.atMost("policies", len(set.Policies), MaxPolicies, "policies")
	l.atMost("requirements", len(set.Requirements), MaxRequirements, "requirements")
	l.atMost("tags", len(set.Tags), MaxTagTrusts, "tags")
	l.atMost("tests", len(set.Tests), MaxTests, "tests")
	if len(*l) > before {
		return
	}
	known := make(map[string]bool, len(set.Requirements))
	for i := range set.Requirements {
		r, path := &set.Requirements[i], index("requirements", i)
		*l = append(*l, ValidateRequirement(r, path)...)
		if known[r.ID] {
			l.add(field(path, "id"), "%q is given twice", r.ID)
		}
		known[r.ID] = true
	}
	names := make(map[string]bool, len(set.Policies))
	for i := range set.Policies {
		p, path := &set.Policies[i], index("policies", i)
		switch {
		case p.Name == "":
			l.add(field(path, "name"), "a policy of a set is known by its name")
		case names[p.Name]:
			l.add(field(path, "name"), "%q is given twice", p.Name)
		}
		names[p.Name] = true
	}
	l.setTags(set)
	for i := range set.Tests {
		*l = append(*l, ValidateAssertion(&set.Tests[i], index("tests", i))...)
	}
}

func (l *problems) setTags(set *wire.PolicySet) {
	seen := make(map[wire.Tag]bool, len(set.Tags))
	for i, t := range set.Tags {
		path := index("tags", i)
		if _, err := wire.ParseTag(string(t.Name)); err != nil {
			l.add(field(path, "name"), "%v", err)
		}
		if seen[t.Name] {
			l.add(field(path, "name"), "%q is given twice", t.Name)
		}
		seen[t.Name] = true
		l.trust(field(path, "trust_requirements"), t.Trust)
	}
}

// SetSchema is the JSON Schema (2020-12) of a policy set, for editors.
func SetSchema() json.RawMessage { return json.RawMessage(setSchema) }
