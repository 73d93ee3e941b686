package tools

import (
	"encoding/json"
	"slices"
	"time"
)

// Limits of tools.json and of what it imports.
const (
	MaxFile       = 4 << 20 // bytes of tools.json
	MaxTools      = 1000    // tools of a registry, imported ones included
	MaxServers    = 32      // MCP servers, and OpenAPI documents
	MaxSecrets    = 256     // declared secrets
	MaxSecretLen  = 16 << 10
	MaxSchema     = 256 << 10 // bytes of one JSON Schema
	MaxDocument   = 4 << 20   // bytes of an OpenAPI document
	MaxArgs       = 5 << 20   // bytes of the arguments of one call
	MaxResult     = 64 << 20  // bytes that result_bytes may ask for
	DefaultResult = 5 << 20   // bytes of one result
)

// Deadlines of a call.
const (
	DefaultDeadline = 30 * time.Second
	MaxDeadline     = 10 * time.Minute
	maxRetries      = 5
)

// File is tools.json. Its shape is tools.schema.json, which Load checks first; the
// comments here say what that cannot.
type File struct {
	Schema    string            `json:"$schema"`
	Version   int               `json:"version"`
	Secrets   map[string]Secret `json:"secrets"`
	Tools     []Tool            `json:"tools"`
	MCP       []MCPServer       `json:"mcp"`
	OpenAPI   []OpenAPI         `json:"openapi"`
	Sequences []Sequence        `json:"sequences"`
	Redact    *Redact           `json:"redact"`
}

// Files are the files that a file names, as it names them.
func (f *File) Files() (out []string) {
	for _, s := range f.Secrets {
		if s.File != "" {
			out = append(out, s.File)
		}
	}
	for _, o := range f.OpenAPI {
		out = append(out, o.Document)
	}
	slices.Sort(out)
	return out
}

// Secret says where the operator keeps one. Exactly one field is set.
type Secret struct {
	Env  string `json:"env"`
	File string `json:"file"` // relative to tools.json
}

// Tool declares one tool.
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Arguments   json.RawMessage `json:"arguments"` // JSON Schema 2020-12; nil takes any object
	Result      json.RawMessage `json:"result"`    // nil takes anything
	Rules
	Serve Serve `json:"serve"`
}

// Rules are what holds for a tool however it is served.
type Rules struct {
	Attributes []Attribute `json:"attributes"`
	Limits     Limits      `json:"limits"`
	Idempotent bool        `json:"idempotent"`
	TellErrors bool        `json:"tell_errors"` // the script sees what the service said of a failure
	Retries    int         `json:"retries"`
	Users      []string    `json:"users"`   // nil is everybody
	Tenants    []string    `json:"tenants"` // nil is everybody

	// UncheckedResult lets an imported tool in whose result's schema cannot be followed, so
	// that nothing but the names of keys tells what of a result is secret.
	UncheckedResult bool `json:"unchecked_result"`
}

// Attribute says what a tool does, in the operator's own words instead of a guess from
// its name.
type Attribute string

// The attributes.
const (
	Reads  Attribute = "reads"  // returns data
	Writes Attribute = "writes" // changes something
	Sends  Attribute = "sends"  // takes its arguments out of the organisation
	Sealed Attribute = "secret" // returns what must not leave
)

// Limits of one tool. Zero fields are the defaults.
type Limits struct {
	Deadline    Duration `json:"deadline"`
	Rate        Rate     `json:"rate"`  // of one user
	Calls       int      `json:"calls"` // in one run
	ResultBytes int64    `json:"result_bytes"`
}

// Serve says how a tool is served; exactly one field is set.
type Serve struct {
	Canned  *Canned   `json:"canned"`
	HTTP    *Endpoint `json:"http"`
	Overlay *Overlay  `json:"overlay"`
}

// Canned answers from the file, for trials. Cases are tried in order; the first whose
// arguments are all in the call's answers, else Result.
type Canned struct {
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
	Delay  Duration        `json:"delay"`
	Cases  []CannedCase    `json:"cases"`
}

// CannedCase is one answer for calls with certain arguments.
type CannedCase struct {
	When   map[string]json.RawMessage `json:"when"`
	Result json.RawMessage            `json:"result"`
}

// Endpoint is an HTTP request made of a call. {name} in the URL stands for an argument,
// {?a,b} at its end for those of a query that are given; headers may hold ${secret}.
// Arguments that the URL does not use become the JSON body of POST, PUT and PATCH.
type Endpoint struct {
	Method  string            `json:"method"` // empty is GET
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Allow   []string          `json:"allow_addresses"` // prefixes that are not public, which this one may reach
}

// Overlay is a service on the overlay, reached through the run's own node: an HTTP
// endpoint, or a TCP conversation that sends the argument "data" and returns what comes
// back.
type Overlay struct {
	Endpoint
	TCP   string `json:"tcp"`   // name:port
	Until string `json:"until"` // "eof" (the default) or "line"
}

// MCPServer is a Model Context Protocol server whose tools are imported, under their
// names behind Prefix. Exactly one of Command and URL is set.
type MCPServer struct {
	Name    string            `json:"name"`
	Command []string          `json:"command"`
	Env     map[string]string `json:"env"` // may hold ${secret}; nothing else is inherited but PATH
	Dir     string            `json:"dir"`
	Walls   *Walls            `json:"walls"` // of a command
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Allow   []string          `json:"allow_addresses"`
	Overlay bool              `json:"overlay"` // URL names a system of the overlay; each run dials for itself
	Import
}

// Walls are those around a server that is a program here, beside the ones that all have.
// Nil fields build none.
type Walls struct {
	Files *struct {
		Read  []string `json:"read"` // relative to tools.json
		Write []string `json:"write"`
	} `json:"files"` // it reaches these, the system's programs, and no others
	Network  *bool `json:"network"`   // false: it has none
	MemoryMB int64 `json:"memory_mb"` // of each of its processes
}

// Import says which tools of a server or document become tools here, and by which
// rules. Rules of a tool named in Tools count for it instead of those of the import.
type Import struct {
	Prefix string           `json:"prefix"`
	Rules  *Rules           `json:"rules"`
	Only   []string         `json:"only"` // by their original names; nil imports all
	Tools  map[string]Rules `json:"tools"`
}

// OpenAPI is a document whose operations become tools. The server is the operator's
// word, not the document's.
type OpenAPI struct {
	Name     string            `json:"name"`
	Document string            `json:"document"` // a file, relative to tools.json
	Server   string            `json:"server"`
	Headers  map[string]string `json:"headers"`
	Allow    []string          `json:"allow_addresses"`
	Overlay  bool              `json:"overlay"`
	Import
}

// Sequence is an operator's rule about the order of calls in one run: after a tool with
// one attribute, none with the other.
type Sequence struct {
	After  Attribute `json:"after"`
	Refuse Attribute `json:"refuse"`
}

// Redact says which keys hide their values; see DefaultKeys.
type Redact struct {
	Keys string `json:"keys"` // a regular expression; empty is DefaultKeys
}

// Duration is written like 5s or 2m.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes it the same way.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
