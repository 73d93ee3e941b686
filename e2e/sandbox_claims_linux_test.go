package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/sandbox/client"
	"enclave/sandbox/script/corpus"
	"enclave/wire"
	"enclave/wire/api"
)

// childrenOf are the processes below one, by /proc, with their states.
func childrenOf(t *testing.T, pid int) map[int]string {
	t.Helper()
	out := make(map[int]string)
	parents := map[int]bool{pid: true}
	for range 4 { // generations
		dirs, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range dirs {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			text := string(b)
			f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
			own, _ := strconv.Atoi(strings.Split(name, "/")[2])
			if parent, _ := strconv.Atoi(f[1]); parents[parent] {
				parents[own] = true
				out[own] = f[0]
			}
		}
	}
	return out
}

func filesBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAKilledHostLeavesNothingOfItsRuns follows one run through everything that names it,
// kills the host that made it, and looks for what is left.
func TestAKilledHostLeavesNothingOfItsRuns(t *testing.T) {
	l := emptyLab(t)
	e := newEnclaveHere(t)
	held := make(chan net.Conn, 1)
	ln, err := e.agents[0].Listen(t.Context(), 8082)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := ln.Accept(); err == nil {
			held <- c // and never answers
		}
	}()
	_, err = e.api.CreatePolicy(t.Context(), wire.Policy{Name: "runs hold users", Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"ai"}, ReceiverTags: []wire.Tag{"users"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 8082, Hi: 8082}}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"runs.key": e.key, "tools.json": `{"version":1,"tools":[
		{"name":"users:list","attributes":["reads"],"serve":{"overlay":{"url":"http://users.enclave:8080/users"}}},
		{"name":"users:hold","attributes":["reads"],"serve":{"overlay":{"tcp":"users.enclave:8082"}}}]}`} {
		if err := os.WriteFile(l.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := l.start("serve", "sandbox", "serve", "--json", "--state", l.path("sandbox"), "--listen", "127.0.0.1:0", "--tools", l.path("tools.json"),
		"--audit", l.path("audit.jsonl"), "--join", "--control", e.url, "--ca-fingerprint", e.first.Fingerprint, "--key-file", l.path("runs.key"))
	var first struct {
		URL       string
		TokenFile string `json:"token_file"`
	}
	if err := json.Unmarshal([]byte(p.line(20*time.Second)), &first); err != nil {
		t.Fatal(err)
	}
	c := &client.Client{URL: first.URL, Token: tokenIn(t, first.TokenFile)}
	s, err := c.Run(t.Context(), client.Request{Level: "SECURE", Code: `await callTool("users:list", {}); return await callTool("users:hold", {data: "x"})`})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begun, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var init struct{ Run string }
	if err := json.Unmarshal(begun.Payload, &init); err != nil || init.Run == "" {
		t.Fatalf("%s, %v", begun.Payload, err)
	}
	var conn net.Conn
	select {
	case conn = <-held:
		defer conn.Close()
	case <-time.After(patience):
		t.Fatalf("the run does not call\n%s", p.stderr())
	}

	// While it runs: its system, its flows, its records, control's and the host's own.
	list, err := e.api.Systems(t.Context(), nil)
	i := slices.IndexFunc(list, func(s api.System) bool { return s.Name == init.Run })
	if err != nil || i < 0 || list[i].Kind != "run" {
		t.Fatalf("the run is no system: %+v, %v", list, err)
	}
	for _, f := range e.flows(t) {
		if f.Run != init.Run {
			t.Errorf("flow %+v does not carry the run's ID", f)
		}
	}
	records, err := e.api.Activity(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	actions := []string{}
	for _, r := range records {
		if strings.Contains(string(r.Actor), init.Run) {
			actions = append(actions, r.Action)
		}
	}
	if got := strings.Join(actions, " "); got != "run.start tool.result" {
		t.Errorf("control's trail has of the run: %s", got)
	}
	own, err := os.ReadFile(l.path("audit.jsonl"))
	if n := strings.Count(string(own), `"run":"`+init.Run+`"`); err != nil || n != 2 || n != strings.Count(string(own), "\n") {
		t.Errorf("the host's own records: %s, %v", own, err)
	}
	workers := childrenOf(t, p.cmd.Process.Pid)
	if len(workers) == 0 {
		t.Error("no worker to look for afterwards")
	}

	p.kill()
	until(t, 10*time.Second, "every worker ends with its host", func() bool {
		for pid := range workers {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(b), "enclave-sandbox-worker") {
				return false
			}
		}
		return true
	})
	until(t, wire.RunRetention+30*time.Second, "the run is no system any more", func() bool {
		list, err := e.api.Systems(t.Context(), nil)
		return err == nil && !slices.ContainsFunc(list, func(s api.System) bool { return s.Kind == "run" })
	})
	until(t, 10*time.Second, "no flow of the run goes on", func() bool {
		flows, err := e.api.Flows(t.Context())
		return err == nil && len(flows) == 0
	})
	conn.SetReadDeadline(time.Now().Add(patience))
	var end error
	for b := make([]byte, 16); end == nil; {
		_, end = conn.Read(b)
	}
	if errors.Is(end, os.ErrDeadlineExceeded) {
		t.Errorf("the service's end of the flow stays open: %v", end)
	}
}

// TestHostileRunsLeaveNothingBehind sends the hostile corpus through the executable.
func TestHostileRunsLeaveNothingBehind(t *testing.T) {
	l := emptyLab(t)
	tmp := l.path("tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	l.env = append(l.env, "TMPDIR="+tmp)
	if err := os.WriteFile(l.path("tools.json"), []byte(`{"version":1,"tools":[{"name":"users:list","attributes":["reads"],"serve":{"canned":{"result":{"items":[1,2,3]}}}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.start("serve", "sandbox", "serve", "--json", "--state", l.path("sandbox"), "--listen", "127.0.0.1:0", "--tools", l.path("tools.json"),
		"--max-runs", "2", "--max-tenant-runs", "2", "--max-sessions", "1000")
	var first struct {
		URL       string
		TokenFile string `json:"token_file"`
	}
	if err := json.Unmarshal([]byte(p.line(20*time.Second)), &first); err != nil {
		t.Fatal(err)
	}
	c := &client.Client{URL: first.URL, Token: tokenIn(t, first.TokenFile)}
	state := filesBelow(t, l.path("sandbox"))
	all, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	hostile := []string{}
	for _, one := range all {
		if one.Kind == corpus.Contained {
			hostile = append(hostile, one.Source)
		}
	}
	if len(hostile) < 100 {
		t.Fatalf("%d hostile scripts", len(hostile))
	}
	var work sync.WaitGroup
	next := make(chan string)
	for range 2 {
		work.Go(func() {
			for source := range next {
				var f *client.Failure
				err := c.Eval(context.Background(), client.Request{Level: "STRICT", Code: source, Limits: &client.Limits{TimeoutMS: 1000}}, nil)
				if err != nil && !errors.As(err, &f) {
					t.Errorf("%.80q: %v", source, err)
				}
				if f != nil && (strings.Contains(f.Message, "/") && strings.Contains(f.Message, "enclave/")) {
					t.Errorf("%.80q tells of the host: %s", source, f.Message)
				}
			}
		})
	}
	for i := 0; i < len(hostile); i += len(hostile) / 60 { // the pool's own test runs all of them
		next <- hostile[i]
	}
	close(next)
	work.Wait()
	var n int
	if err := c.Eval(t.Context(), client.Request{Level: "STRICT", Code: `return (await callTool("users:list", {})).items.length`}, &n); err != nil || n != 3 {
		t.Errorf("an honest run afterwards: %d, %v", n, err)
	}
	until(t, 10*time.Second, "no zombie is left", func() bool {
		for _, state := range childrenOf(t, p.cmd.Process.Pid) {
			if state == "Z" {
				return false
			}
		}
		return true
	})
	if left := filesBelow(t, tmp); len(left) > 0 {
		t.Errorf("files left behind: %v", left)
	}
	if now := filesBelow(t, l.path("sandbox")); !slices.Equal(now, state) {
		t.Errorf("the state has %v, and had %v", now, state)
	}
	workers := childrenOf(t, p.cmd.Process.Pid)
	if exit := p.interrupt(); exit != 0 {
		t.Errorf("the server ends with %d", exit)
	}
	until(t, 10*time.Second, "every worker ends with its server", func() bool {
		for pid := range workers {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(b), "enclave-sandbox-worker") {
				return false
			}
		}
		return true
	})
}
