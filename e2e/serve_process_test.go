package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"enclave/sandbox/client"
	"enclave/sandbox/tools"
)

// TestSandboxServeAsAnOperatorHasIt runs scripts through the executable: its server, its
// workers behind their walls, a client that pins its identity.
func TestSandboxServeAsAnOperatorHasIt(t *testing.T) {
	l := emptyLab(t)
	file := l.path("tools.json")
	err := os.WriteFile(file, []byte(`{"version":1,"tools":[
		{"name":"users:list","attributes":["reads"],"serve":{"canned":{"result":{"items":[1,2,3]}}}},
		{"name":"slow","attributes":["reads"],"serve":{"canned":{"delay":"1h"}}}]}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := l.start("serve", "sandbox", "serve", "--json", "--state", l.path("sandbox"), "--listen", "127.0.0.1:0", "--tools", file,
		"--audit", l.path("audit.jsonl"), "--require-encryption")
	var first struct {
		URL       string
		TokenFile string `json:"token_file"`
		Identity  []byte
	}
	if err := json.Unmarshal([]byte(p.line(20*time.Second)), &first); err != nil {
		t.Fatal(err)
	}
	c := &client.Client{URL: first.URL, Token: tokenIn(t, first.TokenFile), Identity: first.Identity}
	for _, level := range []string{"STRICT", "STANDARD"} {
		var n int
		err := c.Eval(t.Context(), client.Request{Level: level, Code: `return (await callTool("users:list", {})).items.length`}, &n)
		if err != nil || n != 3 {
			t.Errorf("%s: %d, %v", level, n, err)
		}
		var f *client.Failure
		err = c.Eval(t.Context(), client.Request{Level: level, Code: `let n = 0; while (n < 1e12) { n++ } return n`}, nil)
		if !errors.As(err, &f) || f.Code != "ITERATION_LIMIT" {
			t.Errorf("%s: a loop without end: %v", level, err)
		}
	}
	s, err := c.Run(t.Context(), client.Request{Code: `console.log("begun"); return await callTool("slow", {})`})
	if err != nil {
		t.Fatal(err)
	}
	var last client.Event
	for {
		e, err := s.Next(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last = e; e.Type == "tool_call" {
			if err := s.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last.Type != "final" || !strings.Contains(string(last.Payload), "CANCELLED") {
		t.Errorf("a cancelled run ends with %s %s", last.Type, last.Payload)
	}
	var r *client.Refused
	open := &client.Client{URL: c.URL, Token: c.Token}
	if err := open.Eval(t.Context(), client.Request{Code: "return 1"}, nil); !errors.As(err, &r) || r.Code != "ENCRYPTION_REQUIRED" {
		t.Errorf("a session in the clear: %v", err)
	}
	audit, err := os.Open(l.path("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer audit.Close()
	if rep, err := tools.VerifyAudit(audit, ""); err != nil || rep.Records != 13 { // five runs, three calls
		t.Errorf("%+v, %v", rep, err)
	}
	if b, err := os.ReadFile(l.path("sandbox") + "/sandbox.json"); err != nil || strings.Contains(string(b), base64.StdEncoding.EncodeToString(first.Identity)) {
		t.Errorf("the server's state is not sealed: %v", err)
	}
}

func tokenIn(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if line := sc.Text(); line != "" && line[0] != '#' {
			return strings.Fields(line)[0]
		}
	}
	t.Fatal("no token")
	return ""
}
