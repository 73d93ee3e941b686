package tools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of a Model Context Protocol server (specification 2025-06-18).
const (
	maxMCPMessage = 8 << 20 // bytes of one message
	maxMCPPages   = 100     // pages of tools/list
	mcpStart      = 20 * time.Second
	mcpProtocol   = "2025-06-18"
)

// errMCPGone is returned for a call on a connection that has ended.
var errMCPGone = errors.New("the MCP server is gone")

// rpc is a JSON-RPC 2.0 message in either direction.
type rpc struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("MCP error %d: %.200s", e.Code, e.Message) }

// transport carries requests to one server. It is safe for many goroutines.
type transport interface {
	request(ctx context.Context, method string, params any) (json.RawMessage, error)
	notify(ctx context.Context, method string, params any) error
	// version tells which protocol version was agreed on.
	version(v string)
	Close() error
}

// mcpServer is a server and the connection to it, which is made again when it was lost.
type mcpServer struct {
	name string
	dial func(ctx context.Context) (transport, error)

	mu   sync.Mutex // guards what follows; not held while a request is under way
	t    transport
	shut bool
	last time.Time // of the last dial
}

// mcpTool is a tool as tools/list describes it.
type mcpTool struct {
	Name         string          `json:"name"`
	Description  string          `json:"description"`
	InputSchema  json.RawMessage `json:"inputSchema"`
	OutputSchema json.RawMessage `json:"outputSchema"`
}

// redialWait keeps a server that dies at once from being started without pause.
const redialWait = time.Second

// conn returns a connection that is initialized.
func (s *mcpServer) conn(ctx context.Context) (transport, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return nil, errMCPGone
	}
	if s.t != nil {
		return s.t, nil
	}
	if time.Since(s.last) < redialWait {
		return nil, errMCPGone
	}
	s.last = time.Now()
	ctx, cancel := context.WithTimeout(ctx, mcpStart)
	defer cancel()
	t, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := initialize(ctx, t); err != nil {
		t.Close()
		return nil, fmt.Errorf("initialize: %w", withLastWords(t, err))
	}
	s.t = t
	return t, nil
}

// withLastWords adds what a program that has ended complained about. Who shows that cuts
// secrets out: a program has some in its environment.
func withLastWords(t transport, err error) error {
	if p, ok := t.(*mcpProcess); ok && p.said() != "" {
		return fmt.Errorf("%w; it said: %s", err, p.said())
	}
	return err
}

// lost forgets a connection that ended.
func (s *mcpServer) lost(t transport) {
	s.mu.Lock()
	if s.t == t {
		s.t = nil
	}
	s.mu.Unlock()
	t.Close()
}

// Close ends the connection for good.
func (s *mcpServer) Close() error {
	s.mu.Lock()
	t := s.t
	s.t, s.shut = nil, true
	s.mu.Unlock()
	if t != nil {
		return t.Close()
	}
	return nil
}

func initialize(ctx context.Context, t transport) error {
	text, err := t.request(ctx, "initialize", map[string]any{
		"protocolVersion": mcpProtocol, "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "enclave-sandbox", "version": "1"}})
	if err != nil {
		return err
	}
	var hello struct {
		ProtocolVersion string `json:"protocolVersion"`
	}
	if err := json.Unmarshal(text, &hello); err != nil || hello.ProtocolVersion == "" {
		return errors.New("the server's answer is none of this protocol")
	}
	t.version(hello.ProtocolVersion)
	return t.notify(ctx, "notifications/initialized", map[string]any{})
}

// list reads all tools.
func (s *mcpServer) list(ctx context.Context) (all []mcpTool, err error) {
	t, err := s.conn(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, mcpStart)
	defer cancel()
	cursor, said := "", 0
	for range maxMCPPages {
		params := map[string]any{}
		if cursor != "" {
			params["cursor"] = cursor
		}
		text, err := t.request(ctx, "tools/list", params)
		if err != nil {
			return nil, fmt.Errorf("tools/list: %w", err)
		}
		if said += len(text); said > maxMCPMessage {
			return nil, fmt.Errorf("tools/list: more than %d bytes", maxMCPMessage)
		}
		var page struct { // tools are counted before they are made: a list of null has many
			Tools      []json.RawMessage `json:"tools"`
			NextCursor string            `json:"nextCursor"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, fmt.Errorf("tools/list: %w", err)
		}
		if len(all)+len(page.Tools) > MaxTools {
			return nil, fmt.Errorf("tools/list: more than %d tools", MaxTools)
		}
		for _, raw := range page.Tools {
			var tool mcpTool
			if err := json.Unmarshal(raw, &tool); err != nil {
				return nil, fmt.Errorf("tools/list: %w", err)
			}
			all = append(all, tool)
		}
		if cursor = page.NextCursor; cursor == "" {
			return all, nil
		}
	}
	return nil, fmt.Errorf("tools/list: more than %d pages", maxMCPPages)
}

// imported is one tool of a server. What the server calls it was fixed at Open: a
// catalogue that changes later changes nothing here.
type imported struct {
	server *mcpServer // nil for one on the overlay
	remote *mcpRemote
	name   string
}

func (m *imported) call(ctx context.Context, args map[string]any, c callInfo) (any, error) {
	server := m.server
	if server == nil {
		server = c.servers(m.remote)
	}
	c.phase(Connecting, 0)
	t, err := server.conn(ctx)
	if err != nil {
		return nil, failure(Failed, err, "the tool's server could not be reached")
	}
	c.phase(Processing, 0)
	text, err := t.request(ctx, "tools/call", map[string]any{"name": m.name, "arguments": args})
	if errors.Is(err, errMCPGone) {
		server.lost(t)
		err = withLastWords(t, err)
	}
	if err != nil {
		return nil, failure(Failed, err, "the tool's server did not answer the call")
	}
	if int64(len(text)) > c.max+4096 {
		return nil, failure(ResponseTooLarge, nil, "the tool's result has %d bytes, at most %d", len(text), c.max)
	}
	return mcpValue(text, c.told)
}

// mcpValue makes a value of a result: its structure when it has one, the text of its
// only text, else the list of its parts.
func mcpValue(text json.RawMessage, told func(string) string) (any, error) {
	var res struct {
		Content    []json.RawMessage `json:"content"`
		Structured json.RawMessage   `json:"structuredContent"`
		IsError    bool              `json:"isError"`
	}
	if err := json.Unmarshal(text, &res); err != nil {
		return nil, failure(ResultNotJSON, err, "the tool's result is none of its protocol")
	}
	if res.IsError {
		said := ""
		for _, part := range res.Content {
			var one struct{ Type, Text string }
			if json.Unmarshal(part, &one) == nil && one.Type == "text" && len(said) < maxTold {
				said += one.Text + " "
			}
		}
		return nil, failure(Failed, errors.New(string(text)), "the tool reported an error%s", told(said))
	}
	if len(res.Structured) > 0 && string(res.Structured) != "null" {
		return decode(res.Structured)
	}
	if len(res.Content) == 1 {
		var one struct{ Type, Text string }
		if json.Unmarshal(res.Content[0], &one) == nil && one.Type == "text" {
			return one.Text, nil
		}
	}
	out := make([]any, len(res.Content))
	for i, part := range res.Content {
		v, err := decode(part)
		if err != nil {
			return nil, failure(ResultNotJSON, err, "the tool's result is not JSON")
		}
		out[i] = v
	}
	return out, nil
}
