package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"enclave/sandbox/client"
	"enclave/sandbox/tools"
)

// TestSandboxServeForgetsATokenThatWasRemoved needs no signal, so it is the same
// everywhere.
func TestSandboxServeForgetsATokenThatWasRemoved(t *testing.T) {
	l := emptyLab(t)
	file, list, audit := l.path("tools.json"), l.path("tokens"), l.path("audit.jsonl")
	const alice, bob = "alice-token-0123456789", "bob-token-012345678901"
	for name, text := range map[string]string{file: `{"version":1,"tools":[{"name":"slow","limits":{"deadline":"10m"},"serve":{"canned":{"delay":"1h"}}}]}`,
		list: alice + " alice@lab\n" + bob + " bob@lab\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := l.start("serve", "sandbox", "serve", "--json", "--state", l.path("sandbox"), "--listen", "127.0.0.1:0", "--tools", file,
		"--token-file", list, "--audit", audit, "--session-life", "10m")
	var first struct{ URL string }
	if err := json.Unmarshal([]byte(p.line(20*time.Second)), &first); err != nil {
		t.Fatal(err)
	}
	c := &client.Client{URL: first.URL, Token: alice}
	s, err := c.Run(t.Context(), client.Request{Code: `return await callTool("slow", {})`})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		e, err := s.Next(t.Context())
		if err != nil {
			var r *client.Refused
			if !errors.As(err, &r) || r.Code != "TOKEN_REMOVED" {
				t.Errorf("the stream of a removed token ends with %v", err)
			}
			break
		}
		if e.Type == "final" {
			t.Fatalf("it ends with %s", e.Payload)
		}
		if e.Type == "tool_call" {
			if err := os.WriteFile(list, []byte(bob+" bob@lab\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var r *client.Refused
	if err := c.Eval(t.Context(), client.Request{Code: "return 1"}, nil); !errors.As(err, &r) || r.Status != 401 {
		t.Errorf("with the removed token: %v", err)
	}
	if err := (&client.Client{URL: first.URL, Token: bob}).Eval(t.Context(), client.Request{Code: "return 1"}, nil); err != nil {
		t.Errorf("with another: %v", err)
	}
	if code := p.interrupt(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	text, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tools.VerifyAudit(strings.NewReader(string(text)), ""); err != nil || strings.Contains(string(text), alice) ||
		!strings.Contains(string(text), `"tokens":{"held":1,"removed":1,"removed_of":["alice@lab"]}`) || !strings.Contains(string(text), `"outcome":"CANCELLED"`) {
		t.Errorf("%v\n%s", err, text)
	}
}
