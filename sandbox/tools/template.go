package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// template is the URL of an endpoint. Arguments can stand in its path and query only,
// and are escaped there: no argument names a host, adds a segment or starts a query.
type template struct {
	base  *url.URL // scheme and host alone
	path  []part
	query []part   // fixed text and placeholders of ?a={b}
	open  []string // names of {?a,b}
}

type part struct {
	text string
	name string // of an argument; text is empty then
}

var (
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
	argName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	errURL      = errors.New("want http(s)://host/path with {argument} in path or query, without user name")
)

func parseTemplate(text string) (*template, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, errURL
	}
	cut := strings.IndexAny(rest, "/?{")
	if cut < 0 {
		cut = len(rest)
	}
	base, err := url.Parse(scheme + "://" + rest[:cut])
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Hostname() == "" || base.User != nil || strings.ContainsAny(rest[:cut], "#{}\\") {
		return nil, errURL
	}
	rest = rest[cut:]
	if strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, "{?") {
		return nil, errors.New("an argument cannot be part of the host")
	}
	t := &template{base: base}
	if i := strings.Index(rest, "{?"); i >= 0 {
		if !strings.HasSuffix(rest, "}") {
			return nil, errors.New("{?a,b} stands at the end")
		}
		t.open = strings.Split(rest[i+2:len(rest)-1], ",")
		rest = rest[:i]
	}
	path, query, _ := strings.Cut(rest, "?")
	if t.path, err = parts(path); err != nil {
		return nil, err
	}
	if t.query, err = parts(query); err != nil {
		return nil, err
	}
	for _, name := range t.names() {
		if !argName.MatchString(name) {
			return nil, fmt.Errorf("{%s} is no name of an argument", name)
		}
	}
	return t, nil
}

func parts(text string) (out []part, err error) {
	at := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		if m[2] == m[3] {
			return nil, errors.New("{} names no argument")
		}
		out = append(out, part{text: text[at:m[0]]}, part{name: text[m[2]:m[3]]})
		at = m[1]
	}
	out = append(out, part{text: text[at:]})
	for _, p := range out {
		if strings.ContainsAny(p.text, "{}#\\ \t\r\n\x00") {
			return nil, errURL
		}
		if _, err := url.PathUnescape(p.text); err != nil {
			return nil, errURL
		}
	}
	return out, nil
}

// names are the arguments that the URL uses.
func (t *template) names() (out []string) {
	for _, p := range append(append([]part(nil), t.path...), t.query...) {
		if p.name != "" {
			out = append(out, p.name)
		}
	}
	return append(out, t.open...)
}

// expand makes the URL of a call and returns the arguments that it did not use.
func (t *template) expand(args map[string]any) (string, map[string]any, error) {
	rest := make(map[string]any, len(args))
	for k, v := range args {
		rest[k] = v
	}
	var b strings.Builder
	b.WriteString(t.base.Scheme + "://" + t.base.Host)
	path, err := fill(t.path, args, rest, url.PathEscape)
	if err != nil {
		return "", nil, err
	}
	// A segment of dots would climb out of the template's path at the server. So it would
	// behind an escaped slash: proxies unescape first and clean the path then.
	whole, err := url.PathUnescape(path)
	climbs := func(seg string) bool { return seg == "." || seg == ".." }
	if err != nil || slices.ContainsFunc(strings.FieldsFunc(whole, isSlash), climbs) {
		return "", nil, failure(InvalidArgs, nil, "an argument would change the path of the request")
	}
	b.WriteString(path)
	query, err := fill(t.query, args, rest, url.QueryEscape)
	if err != nil {
		return "", nil, err
	}
	for _, name := range t.open {
		v, ok := args[name]
		delete(rest, name)
		if !ok || v == nil {
			continue
		}
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		for _, one := range list {
			text, err := plain(name, one)
			if err != nil {
				return "", nil, err
			}
			if query != "" {
				query += "&"
			}
			query += url.QueryEscape(name) + "=" + url.QueryEscape(text)
		}
	}
	if query != "" {
		b.WriteString("?" + query)
	}
	return b.String(), rest, nil
}

// isSlash is what servers take for the end of a segment, one of Windows among them.
func isSlash(r rune) bool { return r == '/' || r == '\\' }

func fill(list []part, args, rest map[string]any, escape func(string) string) (string, error) {
	var b strings.Builder
	for _, p := range list {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		v, ok := args[p.name]
		if !ok {
			return "", failure(InvalidArgs, nil, "argument %s is missing", p.name)
		}
		text, err := plain(p.name, v)
		if err != nil {
			return "", err
		}
		if text == "" {
			return "", failure(InvalidArgs, nil, "argument %s is empty", p.name)
		}
		delete(rest, p.name)
		b.WriteString(escape(text))
	}
	return b.String(), nil
}

// plain is a value as it stands in a URL.
func plain(name string, v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case json.Number:
		return v.String(), nil
	}
	return "", failure(InvalidArgs, nil, "argument %s has to be a string, a number or a boolean", name)
}

// decode reads JSON the way everything here holds it: numbers as they were written.
func decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// encode writes JSON without the HTML escapes that would lengthen it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
