// mcpserver is a Model Context Protocol server on standard input and output, for tests.
// Arguments: "hang" never answers calls; "flood" answers initialize with a line too long.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  any             `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

// probe says what this process may do.
func probe(read, write, addr string) map[string]any {
	out := map[string]any{}
	said := func(name string, err error) {
		out[name] = "ok"
		if err != nil {
			out[name] = "refused"
		}
	}
	_, err := os.ReadFile(read)
	said("read", err)
	said("write", os.WriteFile(write, []byte("x"), 0o600))
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err == nil {
		c.Close()
	}
	said("dial", err)
	status, _ := os.ReadFile("/proc/self/status")
	out["no_new_privs"] = strings.Contains(string(status), "NoNewPrivs:\t1")
	limits, _ := os.ReadFile("/proc/self/limits")
	for _, line := range strings.Split(string(limits), "\n") {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") {
			out["files"] = f[3]
		} else if strings.HasPrefix(line, "Max data size") {
			out["data"] = f[3]
		} else if strings.HasPrefix(line, "Max core file size") {
			out["core"] = f[4]
		}
	}
	return out
}

func main() {
	if slices.Contains(os.Args, "sleep") {
		time.Sleep(time.Minute)
		return
	}
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(line, &m) != nil || len(m.ID) == 0 {
			continue
		}
		if slices.Contains(os.Args, "flood") {
			fmt.Println(`{"jsonrpc":"2.0","id":1,"result":"` + strings.Repeat("x", 9<<20) + `"}`)
			continue
		}
		out.Encode(answer(m))
		if m.Method == "initialize" { // a server may ask too
			out.Encode(message{JSONRPC: "2.0", ID: json.RawMessage("99"), Method: "ping"})
		}
	}
}

func answer(m message) message {
	a := message{JSONRPC: "2.0", ID: m.ID}
	switch m.Method {
	case "initialize":
		a.Result = map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{"tools": map[string]any{}},
			"serverInfo": map[string]any{"name": "test", "version": "1"}}
	case "tools/list":
		var p struct{ Cursor string }
		json.Unmarshal(m.Params, &p)
		if p.Cursor == "" {
			a.Result = map[string]any{"nextCursor": "2", "tools": []any{
				map[string]any{"name": "add", "description": "Adds two numbers",
					"inputSchema":  map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "number"}, "b": map[string]any{"type": "number"}}, "required": []string{"a", "b"}},
					"outputSchema": map[string]any{"type": "object", "properties": map[string]any{"sum": map[string]any{"type": "number"}}, "required": []string{"sum"}}}}}
			return a
		}
		a.Result = map[string]any{"tools": []any{
			map[string]any{"name": "env.get", "inputSchema": map[string]any{"type": "object"}},
			map[string]any{"name": "fail", "inputSchema": map[string]any{"type": "object"}},
			map[string]any{"name": "probe", "inputSchema": map[string]any{"type": "object"}},
			map[string]any{"name": "orphan", "inputSchema": map[string]any{"type": "object"}},
			map[string]any{"name": "die", "inputSchema": map[string]any{"type": "object"}}}}
	case "tools/call":
		return call(m, a)
	default:
		a.Error = map[string]any{"code": -32601, "message": "method not found"}
	}
	return a
}

func call(m, a message) message {
	var p struct {
		Name      string
		Arguments struct {
			A, B              float64
			Read, Write, Addr string
		}
	}
	json.Unmarshal(m.Params, &p)
	text := func(s string) []any { return []any{map[string]any{"type": "text", "text": s}} }
	switch p.Name {
	case "add":
		if slices.Contains(os.Args, "hang") {
			time.Sleep(time.Hour)
		}
		sum := p.Arguments.A + p.Arguments.B
		a.Result = map[string]any{"content": text(fmt.Sprint(sum)), "structuredContent": map[string]any{"sum": sum}}
	case "env.get":
		a.Result = map[string]any{"content": text(strings.Join(os.Environ(), "\n"))}
	case "fail":
		a.Result = map[string]any{"isError": true, "content": text("cannot open /home/operator/secret.db")}
	case "probe":
		a.Result = map[string]any{"structuredContent": probe(p.Arguments.Read, p.Arguments.Write, p.Arguments.Addr)}
	case "orphan": // leaves a child that keeps the pipes and ignores the group's end
		cmd := exec.Command(os.Args[0], "sleep")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = orphan()
		if err := cmd.Start(); err != nil {
			a.Result = map[string]any{"isError": true, "content": text(err.Error())}
			return a
		}
		a.Result = map[string]any{"structuredContent": map[string]any{"pid": cmd.Process.Pid}}
	case "die":
		fmt.Fprintln(os.Stderr, "fatal: no disk\n  with key", os.Getenv("KEY"))
		os.Exit(3)
	}
	return a
}
