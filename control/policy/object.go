package policy

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"enclave/wire"
)

// object reads one JSON object field by field and notes every mistake with its place,
// where encoding/json stops at the first. Names are exact; one that nobody asked for
// is a mistake, which done reports. Duplicate names were refused by wire.CheckJSON.
type object struct {
	path   string
	fields map[string]json.RawMessage
	l      *problems
}

func (l *problems) object(raw json.RawMessage, path string) *object {
	o := &object{path: path, l: l}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &o.fields) != nil {
		l.add(path, "want an object")
	}
	return o
}

// take removes a field; null counts as absent.
func (o *object) take(name string) (raw json.RawMessage, path string) {
	raw = o.fields[name]
	delete(o.fields, name)
	if bytes.Equal(raw, []byte("null")) {
		raw = nil
	}
	return raw, field(o.path, name)
}

// need is take for a field that must be there.
func (o *object) need(name string) (raw json.RawMessage, path string) {
	raw, path = o.take(name)
	if raw == nil && o.fields != nil {
		o.l.add(path, "is missing")
	}
	return raw, path
}

// done reports the fields that are left.
func (o *object) done() {
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		o.l.add(field(o.path, name[:min(len(name), 40)]), "unknown field")
	}
}

func (l *problems) text1(raw json.RawMessage, path string) (s string, ok bool) {
	if raw == nil {
		return "", false
	}
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		l.add(path, "want a string")
		return "", false
	}
	return s, true
}

func (o *object) str(name string) string {
	raw, path := o.take(name)
	s, _ := o.l.text1(raw, path)
	return s
}

// ident reads an identifier: something, short, on one line.
func (o *object) ident(name string) string {
	raw, path := o.need(name)
	s, ok := o.l.text1(raw, path)
	if ok && s == "" {
		o.l.add(path, "is empty")
	}
	o.l.text(path, s, MaxPolicyIDLen, false)
	return s
}

func (o *object) boolean(name string, otherwise bool) bool {
	raw, path := o.take(name)
	switch string(raw) {
	case "":
		return otherwise
	case "true", "false":
		return string(raw) == "true"
	}
	o.l.add(path, "want true or false")
	return otherwise
}

// number reads an integer from 0 to limit, in plain digits.
func (o *object) number(name string, limit uint64) (n uint64, ok bool) {
	raw, path := o.take(name)
	if raw == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n > limit {
		o.l.add(path, "want a whole number from 0 to %d", limit)
		return 0, false
	}
	return n, true
}

// instant reads RFC 3339 with its zone; the zero time is never.
func (o *object) instant(raw json.RawMessage, path string) (t time.Time) {
	if raw == nil {
		return t
	}
	if raw[0] != '"' || json.Unmarshal(raw, &t) != nil || t.IsZero() {
		o.l.add(path, "want an instant like 2026-03-29T00:30:00Z")
		return time.Time{}
	}
	return plain(t)
}

// local reads a time on the wall clock of a zone; what its fields say is Validate's.
func (o *object) local(name string) *wire.LocalTime {
	raw, path := o.take(name)
	if raw == nil {
		return nil
	}
	t := o.l.object(raw, path)
	if t.fields == nil {
		return nil
	}
	defer t.done()
	return &wire.LocalTime{Time: t.str("time"), Zone: t.str("tz")}
}

func (o *object) addr(raw json.RawMessage, path string) netip.Addr {
	s, ok := o.l.text1(raw, path)
	if !ok {
		return netip.Addr{}
	}
	a, err := parseAddr(s)
	if err != nil {
		o.l.add(path, "%v", err)
	}
	return a
}

// list reads an array; absent is nil and empty is not.
func (o *object) list(name string) (items []json.RawMessage, path string) {
	raw, path := o.take(name)
	if raw != nil && (raw[0] != '[' || json.Unmarshal(raw, &items) != nil) {
		o.l.add(path, "want a list")
	}
	return items, path
}

// strings reads an array of strings.
func (o *object) strings(name string) (out []string) {
	items, path := o.list(name)
	if items != nil {
		out = make([]string, len(items))
	}
	for i, raw := range items {
		if s, ok := o.l.text1(raw, index(path, i)); ok {
			out[i] = s
		}
	}
	return out
}

func (o *object) tags(name string) (out []wire.Tag) {
	for _, s := range o.strings(name) {
		out = append(out, wire.Tag(s))
	}
	return out
}
