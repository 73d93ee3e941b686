package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Dialer connects to the overlay through a run's own node; policy decides.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Visit is a stay on the overlay, for asking servers there which tools they have.
type Visit interface {
	Dialer
	Close() error
}

// Config is what Open needs besides the file.
type Config struct {
	// Visit joins the overlay for as long as Open takes; nil where nothing joins, which
	// is an error for a file with MCP servers there.
	Visit  func(ctx context.Context) (Visit, error)
	Dir    string              // of tools.json, for the files it names
	Getenv func(string) string // nil is os.Getenv
	Logger *slog.Logger        // nil discards
}

// backend serves calls of one tool. Arguments are checked and expanded; a backend
// returns at most max bytes of result. Errors that are no *Error stay here.
type backend interface {
	call(ctx context.Context, args map[string]any, c callInfo) (any, error)
}

// callInfo is what a backend knows about a call besides its arguments.
type callInfo struct {
	max     int64 // bytes of the result
	overlay Dialer
	run     string
	told    func(string) string         // what may be told of a service's own words on a failure
	phase   func(Phase, int64)          // told how far the call is, and what came of its answer; never nil
	servers func(*mcpRemote) *mcpServer // the run's own connections to servers on the overlay
}

// Phase is how far a call to a service is.
type Phase string

// The phases.
const (
	Connecting Phase = "connecting"
	Sending    Phase = "sending"
	Processing Phase = "processing" // the service has the request
	Receiving  Phase = "receiving"
)

// tool is a compiled tool. It does not change.
type tool struct {
	name, description string
	args, result      *schema
	argsText          json.RawMessage
	resultText        json.RawMessage
	rules             Rules
	backend           backend
	overlay           bool // served on the overlay
}

func (t *tool) has(a Attribute) bool { return slices.Contains(t.rules.Attributes, a) }

func (t *tool) deadline() time.Duration {
	if d := time.Duration(t.rules.Limits.Deadline); d > 0 {
		return d
	}
	return DefaultDeadline
}

func (t *tool) resultBytes() int64 {
	if n := t.rules.Limits.ResultBytes; n > 0 {
		return n
	}
	return DefaultResult
}

// Registry is the compiled tools.json. It is shared by all runs and safe for many
// goroutines.
type Registry struct {
	tools     map[string]*tool
	order     []string
	sequences []Sequence
	redact    *redactor
	rates     *rates
	shelf     *shelf
	version   string
	log       *slog.Logger
	closers   []io.Closer
}

// Open compiles a file: it reads secrets and documents and starts MCP servers, which
// live until Close. On error nothing is left running.
func Open(ctx context.Context, f *File, cfg Config) (_ *Registry, err error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	secrets, err := readSecrets(f.Secrets, cfg)
	if err != nil {
		return nil, err
	}
	r := &Registry{tools: make(map[string]*tool), sequences: f.Sequences, rates: new(rates), shelf: new(shelf), log: cfg.Logger}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	var keys string
	if f.Redact != nil {
		keys = f.Redact.Keys
	}
	if r.redact, err = newRedactor(keys, secrets.values()); err != nil {
		return nil, err
	}
	for i := range f.Tools {
		t, err := r.declared(&f.Tools[i], secrets)
		if err == nil {
			err = r.add(t)
		}
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", f.Tools[i].Name, err)
		}
	}
	for i := range f.OpenAPI {
		if err := r.importOpenAPI(&f.OpenAPI[i], secrets, cfg); err != nil {
			return nil, fmt.Errorf("openapi %s: %w", f.OpenAPI[i].Name, err)
		}
	}
	if err := r.importServers(ctx, f.MCP, secrets, cfg); err != nil {
		return nil, err
	}
	text, err := json.Marshal(r.all())
	if err != nil {
		return nil, err
	}
	r.version = sum(text)[:16]
	return r, nil
}

// Version names what the tools are: names, schemas, attributes. It changes when they do.
func (r *Registry) Version() string { return r.version }

// Inherit takes over how much of their rates callers have used, and what the references of
// runs hold that go on with old. It is called before the first run of r.
func (r *Registry) Inherit(old *Registry) { r.rates, r.shelf = old.rates, old.shelf }

// OpenFile loads and opens a file by its path.
func OpenFile(ctx context.Context, path string, cfg Config) (*Registry, error) {
	data, err := readLimited(path, MaxFile)
	if err != nil {
		return nil, err
	}
	f, err := Load(data)
	if err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		cfg.Dir = filepath.Dir(path)
	}
	return Open(ctx, f, cfg)
}

// Close ends what the registry started.
func (r *Registry) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	r.closers = nil
	return errors.Join(errs...)
}

func (r *Registry) add(t *tool) error {
	if _, ok := r.tools[t.name]; ok {
		return fmt.Errorf("%q is the name of another tool: give the import a prefix of its own", t.name)
	}
	if len(r.tools) >= MaxTools {
		return fmt.Errorf("more than %d tools", MaxTools)
	}
	for _, s := range []*schema{t.args, t.result} {
		if s != nil && s.speaks && s.crowded {
			r.log.Warn("a union of this tool's schema has more branches than redaction follows: values there are hidden whole", "tool", t.name, "branches", maxViews)
		}
	}
	r.tools[t.name] = t
	r.order = append(r.order, t.name)
	return nil
}

func (r *Registry) declared(d *Tool, secrets secrets) (*tool, error) {
	t := &tool{name: d.Name, description: d.Description, rules: d.Rules, argsText: d.Arguments, resultText: d.Result}
	var err error
	if t.args, err = compile(d.Arguments, false); err != nil {
		return nil, err
	}
	if t.result, err = compile(d.Result, false); err != nil {
		return nil, err
	}
	switch s := d.Serve; {
	case s.Canned != nil:
		t.backend, err = newCanned(s.Canned)
	case s.HTTP != nil:
		t.backend, err = newEndpoint(s.HTTP, false, secrets)
	case s.Overlay != nil && s.Overlay.TCP != "":
		t.overlay, t.backend = true, &conversation{addr: s.Overlay.TCP, line: s.Overlay.Until == "line"}
	case s.Overlay != nil:
		t.overlay = true
		t.backend, err = newEndpoint(&s.Overlay.Endpoint, true, secrets)
	}
	if e, ok := t.backend.(*endpoint); ok && e.client != nil {
		r.closers = append(r.closers, idle{e.client})
	}
	return t, err
}

// idle closes the connections that a client keeps.
type idle struct{ client *http.Client }

func (c idle) Close() error { c.client.CloseIdleConnections(); return nil }

// Info is what others may know of a tool.
type Info struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Arguments   json.RawMessage `json:"arguments,omitempty"`
	Result      json.RawMessage `json:"result,omitempty"`
	Attributes  []Attribute     `json:"attributes,omitempty"`
	Overlay     bool            `json:"overlay,omitempty"`
}

// List returns what a caller may call, in the order of the file.
func (r *Registry) List(who Caller) (out []Info) {
	out = []Info{}
	for _, name := range r.order {
		if t := r.tools[name]; t.permits(who) {
			out = append(out, t.info())
		}
	}
	return out
}

func (t *tool) info() Info {
	return Info{t.name, t.description, t.argsText, t.resultText, t.rules.Attributes, t.overlay}
}

func (r *Registry) all() (out []Info) {
	for _, name := range r.order {
		out = append(out, r.tools[name].info())
	}
	return out
}

// secrets are the operator's, by name.
type secrets map[string]string

func (s secrets) values() (out []string) {
	for _, v := range s {
		out = append(out, v)
	}
	return out
}

// inject puts secrets where ${name} stands.
func (s secrets) inject(text string) string {
	return secretRef.ReplaceAllStringFunc(text, func(m string) string { return s[m[2:len(m)-1]] })
}

func (s secrets) injectAll(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = s.inject(v)
	}
	return out
}

// readSecrets reads every declared secret, or says which is missing; never what one is.
func readSecrets(declared map[string]Secret, cfg Config) (secrets, error) {
	out := make(secrets, len(declared))
	var errs []error
	for name, s := range declared {
		var v string
		if s.Env != "" {
			v = cfg.Getenv(s.Env)
			if v == "" {
				errs = append(errs, fmt.Errorf("secret %s: the environment has no %s", name, s.Env))
			}
		} else {
			b, err := readLimited(under(cfg.Dir, s.File), MaxSecretLen)
			if err != nil {
				errs = append(errs, fmt.Errorf("secret %s: %w", name, err))
			}
			v = strings.TrimRight(string(b), "\r\n")
		}
		if strings.ContainsAny(v, "\r\n\x00") {
			errs = append(errs, fmt.Errorf("secret %s: has more than one line", name))
		}
		out[name] = v
	}
	return out, errors.Join(errs...)
}

func under(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, err
}
