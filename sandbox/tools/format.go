package tools

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// format is a word of the format keyword that is checked, as a regular expression: the
// checker of schemas then judges it wherever a schema can stand, in branches too.
type format struct {
	pattern string
	example string
}

// formats are those of JSON Schema 2020-12 (validation, section 7.3) that a regular
// expression decides, leap years of the Gregorian calendar included. Others are notes.
func formats() map[string]format {
	const (
		// A year with a 29 February: by four, but of those that end a century only by 400.
		leap  = `(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)`
		date  = `(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|` + leap + `-02-29)`
		clock = `(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)`
		octet = `(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`
		ipv4  = octet + `(?:\.` + octet + `){3}`
		label = `[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?`
		h16   = `[0-9A-Fa-f]{1,4}`
	)
	ls32 := `(?:` + h16 + `:` + h16 + `|` + ipv4 + `)`
	// RFC 3986, section 3.2.2.
	ipv6 := `(?:` + strings.Join([]string{
		`(?:` + h16 + `:){6}` + ls32,
		`::(?:` + h16 + `:){5}` + ls32,
		`(?:` + h16 + `)?::(?:` + h16 + `:){4}` + ls32,
		`(?:(?:` + h16 + `:){0,1}` + h16 + `)?::(?:` + h16 + `:){3}` + ls32,
		`(?:(?:` + h16 + `:){0,2}` + h16 + `)?::(?:` + h16 + `:){2}` + ls32,
		`(?:(?:` + h16 + `:){0,3}` + h16 + `)?::` + h16 + `:` + ls32,
		`(?:(?:` + h16 + `:){0,4}` + h16 + `)?::` + ls32,
		`(?:(?:` + h16 + `:){0,5}` + h16 + `)?::` + h16,
		`(?:(?:` + h16 + `:){0,6}` + h16 + `)?::`,
	}, "|") + `)`
	const (
		hours = `(?:\d+H(?:\d+M)?(?:\d+S)?|\d+M(?:\d+S)?|\d+S)`
		days  = `(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)`
	)
	return map[string]format{
		"date-time":    {`^` + date + `[Tt ]` + clock + `$`, "2026-01-31T12:00:00Z"},
		"date":         {`^` + date + `$`, "2026-01-31"},
		"time":         {`^` + clock + `$`, "12:00:00Z"},
		"duration":     {`^P(?:\d+W|` + days + `(?:T` + hours + `)?|T` + hours + `)$`, "PT5M"},
		"email":        {`^[^\s@"(),:;<>\[\\\]]{1,64}@` + label + `(?:\.` + label + `)*$`, "a@example.com"},
		"hostname":     {`^` + label + `(?:\.` + label + `)*\.?$`, "host.example.com"},
		"ipv4":         {`^` + ipv4 + `$`, "192.0.2.1"},
		"ipv6":         {`^` + ipv6 + `$`, "2001:db8::1"},
		"uri":          {`^[A-Za-z][A-Za-z0-9+.-]*:[^\s"<>\\^` + "`" + `{|}]+$`, "https://example.com/"},
		"uuid":         {`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`, "1b4e28ba-2fa1-41d2-883f-0016d3cca427"},
		"json-pointer": {`^(?:/(?:[^~/]|~[01])*)*$`, "/a/0"},
	}
}

// withFormats returns a schema in which the formats that are known are patterns. The
// document is not changed: what is unchanged is shared.
func withFormats(v any, known map[string]format) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := maps.Clone(m)
	for _, word := range inMaps {
		if parts, ok := m[word].(map[string]any); ok {
			next := make(map[string]any, len(parts))
			for name, one := range parts {
				next[name] = withFormats(one, known)
			}
			out[word] = next
		}
	}
	for _, word := range inLists {
		if parts, ok := m[word].([]any); ok {
			next := make([]any, len(parts))
			for i, one := range parts {
				next[i] = withFormats(one, known)
			}
			out[word] = next
		}
	}
	for _, word := range inOnes {
		if one, ok := m[word]; ok {
			out[word] = withFormats(one, known)
		}
	}
	if name, ok := m["format"].(string); ok {
		if f, ok := known[name]; ok {
			out["allOf"] = append(slices.Clone(list(out["allOf"])), map[string]any{"pattern": f.pattern})
		}
	}
	return out
}

// keeps reports whether text has a format; what is not known has it.
func keeps(name, text string) (bool, string) {
	f, ok := formats()[name]
	if !ok {
		return true, ""
	}
	return regexp.MustCompile(f.pattern).MatchString(text), f.example
}
