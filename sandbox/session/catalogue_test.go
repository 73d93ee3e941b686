package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"enclave/sandbox"
	"enclave/sandbox/tools"
)

func registry(t *testing.T, text string) *tools.Registry {
	t.Helper()
	f, err := tools.Load([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := tools.Open(t.Context(), f, tools.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestToolsAreReplacedWhileRunsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		s := server(t, func(ctx context.Context, spec sandbox.Spec, b sandbox.Broker) sandbox.Result {
			select {
			case <-goOn:
			case <-ctx.Done():
			}
			out, err := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "users:list"})
			if err != nil {
				return sandbox.Result{Error: err}
			}
			return sandbox.Result{OK: true, Value: out}
		}, nil)
		h := s.Handler()
		var in Info
		w := do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`, "Accept", "application/json")
		if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := s.cfg.Host.Current()
		next := registry(t, `{"version":1,"tools":[{"name":"slow","serve":{"canned":{}}},{"name":"fresh","serve":{"canned":{}}},{"name":"bobs2","users":["bob"],"serve":{"canned":{}}}]}`)
		if before.Version() == next.Version() || len(next.Version()) < 8 {
			t.Errorf("versions %q and %q", before.Version(), next.Version())
		}
		if err := s.Replace(next); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		list := eventsOf(t, do(t, h, "GET", in.StreamURL, aliceToken, "").Body.String())
		if got := types(list); got != "1 session_init, 2 catalog_changed, 3 tool_call, 4 tool_result_applied, 5 final" {
			t.Fatal(got)
		}
		var p CatalogPayload
		if err := json.Unmarshal(list[1].Payload, &p); err != nil || p.Version != next.Version() || strings.Join(p.Added, " ") != "fresh" || strings.Join(p.Removed, " ") != "users:list" {
			t.Errorf("%s", list[1].Payload)
		}
		if !strings.Contains(string(list[4].Payload), `"items":[1,2,3]`) {
			t.Errorf("a run does not keep the tools it began with: %s", list[4].Payload)
		}
		list = eventsOf(t, do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`).Body.String())
		if last := string(list[len(list)-1].Payload); !strings.Contains(last, "UNKNOWN_TOOL") {
			t.Errorf("a later run has the old tools: %s", last)
		}
		if w := do(t, h, "GET", "/tools", aliceToken, ""); !strings.Contains(w.Body.String(), next.Version()) || strings.Contains(w.Body.String(), "bobs2") {
			t.Errorf("%s", w.Body)
		}
	})
}

func TestReplacedToolsAreClosedByTheirLastRun(t *testing.T) {
	closed := make(chan bool, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			closed <- true
			return
		}
		var id struct{ ID json.RawMessage }
		body, _ := io.ReadAll(r.Body)
		json.Unmarshal(body, &id)
		w.Header().Set("Mcp-Session-Id", "s1")
		w.Header().Set("Content-Type", "application/json")
		if len(id.ID) == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","tools":[]}}`, id.ID)
	}))
	defer srv.Close()
	old := registry(t, `{"version":1,"mcp":[{"name":"m","url":"`+srv.URL+`","allow_addresses":["127.0.0.1/32"]}]}`)
	h := &Host{Tools: old}
	one, two := h.take(), h.take()
	if err := h.Replace(registry(t, `{"version":1}`)); err != nil {
		t.Fatal(err)
	}
	if three := h.take(); three == one || three.reg == old {
		t.Error("a run that begins now has the old tools")
	}
	h.release(one)
	if len(closed) != 0 {
		t.Error("closed while a run uses them")
	}
	if h.release(two); len(closed) != 1 {
		t.Error("not closed when the last run has ended")
	}
}

// three calls two tools at once and one that is not there.
func three(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
	for i, name := range []string{"users:list", "nothing", "users:list"} {
		if ctx.Err() == nil {
			b.CallTool(ctx, sandbox.Call{ID: uint64(i + 1), Name: name, Args: json.RawMessage(`{}`)})
		}
	}
	return sandbox.Result{OK: ctx.Err() == nil, Value: json.RawMessage(`1`)}
}

func TestPartialResults(t *testing.T) {
	s := server(t, three, nil).Handler()
	list := eventsOf(t, do(t, s, "POST", "/sessions?filter=partial_result", aliceToken, `{"code":"1","partial":true}`).Body.String())
	if got := types(list); got != "1 session_init, 4 partial_result, 7 partial_result, 10 partial_result, 11 final" {
		t.Fatal(got)
	}
	if got := string(list[1].Payload); got != `{"path":["users:list","c_1"],"data":{"items":[1,2,3]},"hasNext":false}` {
		t.Error(got)
	}
	if got := string(list[2].Payload); got != `{"path":["nothing","c_2"],"error":{"code":"UNKNOWN_TOOL","message":"there is no tool of this name","path":["nothing","c_2"]},"hasNext":false}` {
		t.Error(got)
	}
	if got := string(list[4].Payload); !strings.Contains(got, `"ok":true`) || !strings.Contains(got, `"errors":[{"code":"UNKNOWN_TOOL"`) {
		t.Error(got)
	}
	if got := types(eventsOf(t, do(t, s, "POST", "/sessions?filter=partial_result", aliceToken, `{"code":"1"}`).Body.String())); got != "1 session_init, 8 final" {
		t.Errorf("not asked for: %s", got)
	}
}

func TestASessionThatEndsWithItsFirstError(t *testing.T) {
	s := server(t, three, nil).Handler()
	list := eventsOf(t, do(t, s, "POST", "/sessions?filter=tool_call", aliceToken, `{"code":"1","limits":{"cancelOnFirstError":true}}`).Body.String())
	if got := types(list); got != "1 session_init, 2 tool_call, 4 tool_call, 6 final" || !strings.Contains(string(list[3].Payload), "CANCELLED") {
		t.Errorf("%s %s", got, list[len(list)-1].Payload)
	}
}

func TestBoundsOfACallForOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, func(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
			_, slow := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "slow"})
			_, large := b.CallTool(ctx, sandbox.Call{ID: 2, Name: "users:list"})
			v, _ := json.Marshal([]any{slow, large})
			return sandbox.Result{OK: true, Value: v}
		}, nil).Handler()
		body := do(t, s, "POST", "/sessions", aliceToken, `{"code":"1","limits":{"toolTimeoutMs":20,"maxToolResultBytes":5}}`).Body.String()
		if !strings.Contains(body, "within 20ms") || !strings.Contains(body, "at most 5") {
			t.Errorf("%s", body)
		}
	})
}
