package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"context"

	"enclave/sandbox"
	"enclave/sandbox/opinion"
	"enclave/sandbox/score"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/wire"
)

// mcpOnOverlay answers as an MCP server and as a model, and notes whose runs called.
type mcpOnOverlay struct {
	mu   sync.Mutex
	runs map[string]bool
	gone int
}

func (m *mcpOnOverlay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/chat/completions") {
		io.WriteString(w, `{"choices":[{"message":{"content":"{\"score\":77,\"signals\":[]}"}}]}`)
		return
	}
	if r.Method == http.MethodDelete {
		m.gone++
		return
	}
	var q struct {
		ID     json.RawMessage
		Method string
	}
	json.NewDecoder(r.Body).Decode(&q)
	w.Header().Set("Mcp-Session-Id", "s1")
	if len(q.ID) == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if q.Method == "tools/call" {
		m.runs[r.Header.Get("Enclave-Run")] = true
	}
	io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(q.ID)+`,"result":`+map[string]string{
		"initialize": `{"protocolVersion":"2025-06-18","capabilities":{}}`,
		"tools/list": `{"tools":[{"name":"now","inputSchema":{"type":"object"}}]}`,
		"tools/call": `{"content":[{"type":"text","text":"noon"}]}`,
	}[q.Method]+`}`)
}

func TestServersOnTheOverlayAreReachedByEachRunItself(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole enclave on this machine")
	}
	e := newEnclaveHere(t)
	_, err := e.api.CreatePolicy(t.Context(), wire.Policy{Name: "runs ask for the time", Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"ai"}, ReceiverTags: []wire.Tag{"users"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 8081, Hi: 8081}}}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := &mcpOnOverlay{runs: make(map[string]bool)}
	for _, a := range e.agents {
		ln, err := a.Listen(t.Context(), 8081)
		if err != nil {
			t.Fatal(err)
		}
		go http.Serve(ln, srv)
	}
	runs := e.runs()
	open := func(host string, visit bool) (*tools.Registry, error) {
		f, err := tools.Load([]byte(`{"version":1,"mcp":[{"name":"clock","url":"http://` + host + `:8081/mcp","overlay":true,"prefix":"clock:"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		cfg := tools.Config{}
		if visit {
			cfg.Visit = func(ctx context.Context) (tools.Visit, error) { return runs.Join(ctx, session.NewRunID(), nil) }
		}
		return tools.Open(t.Context(), f, cfg)
	}
	if _, err := open("users.enclave", false); err == nil || !strings.Contains(err.Error(), "--join") {
		t.Errorf("without a way to the overlay: %v", err)
	}
	if _, err := open("vault.enclave", true); err == nil {
		t.Error("a server that no policy introduces told its tools")
	}
	reg, err := open("users.enclave", true)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	model := &opinion.Model{URL: "http://users.enclave:8081/v1", Name: "m", Overlay: true}
	if _, err := model.Ask(t.Context(), score.Features{}, nil); err == nil {
		t.Error("a model on the overlay answered a run that is not there")
	}
	host := &session.Host{Tools: reg, Joiner: runs, Second: model}
	run := session.NewRunID()
	host.Runner = asking(func(ctx context.Context, b sandbox.Broker) sandbox.Result {
		out, err := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "clock:now", Args: json.RawMessage(`{}`)})
		if err != nil || string(out) != `"noon"` {
			t.Errorf("%s, %v", out, err)
		}
		if v, err := b.(sandbox.Advisor).Opinion(ctx, score.Features{}); err != nil || v.Score != 77 {
			t.Errorf("opinion %+v, %v", v, err)
		}
		for _, f := range e.flows(t) {
			if f.Run != run {
				t.Errorf("flow %+v is not the run's", f)
			}
		}
		return sandbox.Result{OK: true}
	})
	if res := host.Run(t.Context(), session.Request{ID: run, Join: true, Caller: tools.Caller{User: "alice"}, Spec: sandbox.Spec{Source: "1"}}, nil); !res.OK {
		t.Errorf("%+v", res.Error)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if len(srv.runs) != 1 || !srv.runs[run] || srv.gone != 2 { // the visit's session and the run's
		t.Errorf("called by %v, left by %d", srv.runs, srv.gone)
	}
}

// asking is a runner whose script is told to ask its host.
type asking func(ctx context.Context, b sandbox.Broker) sandbox.Result

func (a asking) Run(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
	return a(ctx, b)
}
