package tools

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"enclave/wire"
)

// fileSchema is published as docs/format/tools.schema.json, which a test compares.
//
//go:embed tools.schema.json
var fileSchema []byte

// Problems are all mistakes of a document, each with its place.
type Problems []wire.Problem

func (p Problems) Error() string {
	var b strings.Builder
	for i, one := range p {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(one.Error())
	}
	return b.String()
}

func (p *Problems) add(path, format string, args ...any) {
	*p = append(*p, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// Load reads tools.json. An error is Problems: every mistake at once. It opens nothing;
// what a file of secrets or an OpenAPI document says is known at Open.
func Load(data []byte) (*File, error) {
	if len(data) > MaxFile {
		return nil, Problems{{Message: fmt.Sprintf("%d bytes, at most %d", len(data), MaxFile)}}
	}
	if err := wire.CheckJSON(data); err != nil {
		var p wire.Problem
		if errors.As(err, &p) {
			return nil, Problems{p}
		}
		return nil, Problems{{Message: err.Error()}}
	}
	rules, err := decode(fileSchema)
	if err != nil {
		return nil, err
	}
	doc, err := decode(data)
	if err != nil {
		return nil, Problems{{Message: err.Error()}}
	}
	s := strict{root: rules, quote: true}
	if s.value("", doc, rules); len(s.bad) > 0 {
		return nil, s.bad
	}
	f := new(File)
	if err := json.Unmarshal(data, f); err != nil {
		return nil, Problems{{Message: err.Error()}}
	}
	if bad := f.check(); len(bad) > 0 {
		return nil, bad
	}
	return f, nil
}

// check finds the mistakes that the schema cannot.
func (f *File) check() (bad Problems) {
	seen := make(map[string]int)
	for i := range f.Tools {
		t, at := &f.Tools[i], "tools["+strconv.Itoa(i)+"]"
		if first, ok := seen[t.Name]; ok {
			bad.add(at+".name", "%q is the name of tools[%d] already", t.Name, first)
		} else {
			seen[t.Name] = i
		}
		f.checkTool(at, t, &bad)
	}
	names := make(map[string]bool)
	for i := range f.MCP {
		f.checkMCP("mcp["+strconv.Itoa(i)+"]", &f.MCP[i], names, &bad)
	}
	for i := range f.OpenAPI {
		o, at := &f.OpenAPI[i], "openapi["+strconv.Itoa(i)+"]"
		once(names, o.Name, at, &bad)
		checkBase(at+".server", o.Server, o.Overlay, &bad)
		f.checkHeaders(at+".headers", o.Headers, &bad)
		checkPrefixes(at+".allow_addresses", o.Allow, &bad)
		checkImport(at, &o.Import, &bad)
	}
	if f.Redact != nil {
		if _, err := regexp.Compile(f.Redact.Keys); err != nil {
			bad.add("redact.keys", "%v", err)
		}
	}
	return bad
}

func once(names map[string]bool, name, at string, bad *Problems) {
	if names[name] {
		bad.add(at+".name", "%q is the name of another server", name)
	}
	names[name] = true
}

func (f *File) checkTool(at string, t *Tool, bad *Problems) {
	checkRules(at, &t.Rules, bad)
	args, err := compile(t.Arguments, false)
	if err != nil {
		bad.add(at+".arguments", "%v", err)
	}
	if _, err := compile(t.Result, false); err != nil {
		bad.add(at+".result", "%v", err)
	}
	switch {
	case t.Serve.HTTP != nil:
		f.checkEndpoint(at+".serve.http", t.Serve.HTTP, false, args, bad)
	case t.Serve.Overlay != nil:
		f.checkOverlay(at+".serve.overlay", t.Serve.Overlay, args, bad)
	case t.Serve.Canned != nil:
		if c := t.Serve.Canned; c.Error != "" && c.Result != nil {
			bad.add(at+".serve.canned", "has a result and an error: which is it?")
		}
	}
}

func checkRules(at string, r *Rules, bad *Problems) {
	if r.Retries > 0 && !r.Idempotent {
		bad.add(at+".retries", "a tool that is not declared idempotent is never tried twice: add \"idempotent\": true, or leave retries out")
	}
	if d := time.Duration(r.Limits.Deadline); d > MaxDeadline {
		bad.add(at+".limits.deadline", "%v is longer than %v", d, MaxDeadline)
	}
}

func checkImport(at string, im *Import, bad *Problems) {
	if im.Rules != nil {
		checkRules(at+".rules", im.Rules, bad)
	}
	for name, r := range im.Tools {
		checkRules(at+".tools."+name, &r, bad)
	}
}

func (f *File) checkEndpoint(at string, e *Endpoint, overlay bool, args *schema, bad *Problems) {
	t, err := parseTemplate(e.URL)
	if err != nil {
		bad.add(at+".url", "%v", err)
		return
	}
	if err := hostFits(t.base, overlay); err != nil {
		bad.add(at+".url", "%v", err)
	}
	if known := properties(args); known != nil {
		for _, name := range t.names() {
			if !known[name] {
				bad.add(at+".url", "{%s} is no argument of this tool", name)
			}
		}
	}
	f.checkHeaders(at+".headers", e.Headers, bad)
	checkPrefixes(at+".allow_addresses", e.Allow, bad)
}

// properties are the arguments that a schema names, or nil when it takes others too.
func properties(s *schema) map[string]bool {
	if s == nil {
		return nil
	}
	m, _ := s.doc.(map[string]any)
	props, ok := m["properties"].(map[string]any)
	if !ok {
		return nil
	}
	out := make(map[string]bool)
	for name := range props {
		out[name] = true
	}
	return out
}

func (f *File) checkOverlay(at string, o *Overlay, args *schema, bad *Problems) {
	switch {
	case (o.TCP == "") == (o.URL == ""):
		bad.add(at, "want url or tcp, and not both")
	case o.URL != "":
		f.checkEndpoint(at, &o.Endpoint, true, args, bad)
	default:
		host, port, ok := strings.Cut(o.TCP, ":")
		if n, err := strconv.ParseUint(port, 10, 16); !ok || err != nil || n == 0 || host == "" {
			bad.add(at+".tcp", "want name:port")
		} else if err := overlayName(host); err != nil {
			bad.add(at+".tcp", "%v", err)
		}
	}
}

func (f *File) checkMCP(at string, m *MCPServer, names map[string]bool, bad *Problems) {
	once(names, m.Name, at, bad)
	if (len(m.Command) == 0) == (m.URL == "") {
		bad.add(at, "want command or url, and not both")
	}
	if m.URL != "" {
		checkBase(at+".url", m.URL, m.Overlay, bad)
	}
	if m.Walls != nil && len(m.Command) == 0 {
		bad.add(at+".walls", "are for a command: a server behind a url is not this machine's to hold")
	}
	if m.Overlay && (m.URL == "" || len(m.Allow) > 0) {
		bad.add(at+".overlay", "goes with a url, and without allow_addresses: policy decides there")
	}
	f.checkHeaders(at+".headers", m.Headers, bad)
	f.checkHeaders(at+".env", m.Env, bad)
	checkPrefixes(at+".allow_addresses", m.Allow, bad)
	checkImport(at, &m.Import, bad)
}

func checkBase(at, text string, overlay bool, bad *Problems) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.Fragment != "" {
		bad.add(at, "want http://host/path or https://host/path, without user name")
		return
	}
	if err := hostFits(u, overlay); err != nil {
		bad.add(at, "%v", err)
	}
}

// hostFits keeps the overlay's names and the rest of the world apart: only the run's
// own node resolves the first, and policy judges them.
func hostFits(u *url.URL, overlay bool) error {
	if overlay {
		return overlayName(u.Hostname())
	}
	return nil
}

var errNotName = errors.New("want the name of a system of the overlay, such as users.enclave: addresses are policy's business")

func overlayName(host string) error {
	if _, err := netip.ParseAddr(host); err == nil || host == "" || strings.EqualFold(host, "localhost") {
		return errNotName
	}
	for _, label := range strings.Split(host, ".") {
		if _, err := wire.ParseName(label); err != nil {
			return errNotName
		}
	}
	return nil
}

func (f *File) checkHeaders(at string, h map[string]string, bad *Problems) {
	for name, v := range h {
		for _, s := range secretNames(v) {
			if _, ok := f.Secrets[s]; !ok {
				bad.add(at+"."+name, "${%s} is not declared under secrets", s)
			}
		}
	}
}

var secretRef = regexp.MustCompile(`\$\{([^}]*)\}`)

func secretNames(v string) (out []string) {
	for _, m := range secretRef.FindAllStringSubmatch(v, -1) {
		out = append(out, m[1])
	}
	return out
}

func checkPrefixes(at string, list []string, bad *Problems) {
	for i, text := range list {
		if _, err := netip.ParsePrefix(text); err != nil {
			bad.add(fmt.Sprintf("%s[%d]", at, i), "want a prefix such as 127.0.0.1/32")
		}
	}
}
