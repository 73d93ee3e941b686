package tools

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWallsOfAnMCPServer(t *testing.T) {
	bin := mcpBinary(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := "/tmp/" // of known depth, for the paths below
	if dir, err = os.MkdirTemp(dir, "walls"); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"in", "out", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	call := func(walls, read, write string) (out map[string]any) {
		t.Helper()
		f, err := Load([]byte(`{"version":1,"mcp":[{"name":"m","command":["` + bin + `"],"only":["probe"]` + walls + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Open(t.Context(), f, Config{Dir: dir})
		if err != nil {
			if strings.Contains(err.Error(), "this machine") {
				t.Skip(err)
			}
			t.Fatal(err)
		}
		defer r.Close()
		s := r.Session(SessionConfig{})
		defer s.Close()
		args, _ := json.Marshal(map[string]string{"read": filepath.Join(dir, read), "write": filepath.Join(dir, write), "addr": ln.Addr().String()})
		text, err := s.Call(t.Context(), "probe", args)
		if err != nil || json.Unmarshal(text, &out) != nil {
			t.Fatalf("%s, %v", text, err)
		}
		return out
	}
	const files = `,"walls":{"files":{"read":["in"],"write":["out"]}}`
	for _, tc := range []struct{ walls, read, write, want string }{
		{"", "elsewhere/f", "elsewhere/g", "read ok, write ok, dial ok, data unlimited"},
		{files, "in/f", "out/g", "read ok, write ok, dial ok, data unlimited"},
		{files, "elsewhere/f", "in/g", "read refused, write refused, dial ok, data unlimited"},
		{files, "../../etc/passwd", "elsewhere/h", "read refused, write refused, dial ok, data unlimited"},
		{files, "../../proc/" + strconv.Itoa(os.Getpid()) + "/environ", "elsewhere/h", "read refused, write refused, dial ok, data unlimited"},
		{files, "out/g", "out/h", "read ok, write ok, dial ok, data unlimited"},
		{`,"walls":{"network":false,"memory_mb":512}`, "in/f", "out/i", "read ok, write ok, dial refused, data 536870912"},
		{`,"walls":{"network":false,"files":{}}`, "in/f", "out/i", "read refused, write refused, dial refused, data unlimited"},
	} {
		out := call(tc.walls, tc.read, tc.write)
		got := strings.Join([]string{"read " + out["read"].(string), "write " + out["write"].(string), "dial " + out["dial"].(string), "data " + out["data"].(string)}, ", ")
		if got != tc.want || out["no_new_privs"] != true || out["files"] != "1024" || out["core"] != "0" {
			t.Errorf("%s reading %s: %v\nwant %s", tc.walls, tc.read, out, tc.want)
		}
	}
	// The walls are of the server's thread alone: this process still reads what it likes,
	// on every thread there is.
	done := make(chan error)
	for range 50 {
		go func() {
			runtime.LockOSThread()
			_, err := os.ReadFile("/etc/passwd")
			done <- err
		}()
	}
	for range 50 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{`{"version":1,"mcp":[{"name":"m","url":"http://h/","walls":{}}]}`, `{"version":1,"mcp":[{"name":"m","command":["x"],"overlay":true}]}`} {
		if _, err := Load([]byte(text)); err == nil {
			t.Errorf("took %s", text)
		}
	}
}

func TestAnMCPServerThatLeavesAChildBehind(t *testing.T) {
	bin := mcpBinary(t)
	r := open(t, `{"version":1,"mcp":[{"name":"m","command":["`+bin+`"],"only":["orphan"]}]}`, nil)
	s := r.Session(SessionConfig{})
	text, err := s.Call(t.Context(), "orphan", nil)
	s.Close()
	var child struct{ Pid int }
	if err != nil || json.Unmarshal(text, &child) != nil || child.Pid == 0 {
		t.Fatalf("%s, %v", text, err)
	}
	defer syscall.Kill(child.Pid, syscall.SIGKILL)
	closed := make(chan error)
	go func() { closed <- r.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("closing waits for a process that the server left behind")
	}
}
