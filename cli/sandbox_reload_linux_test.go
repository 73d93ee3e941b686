package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"enclave/sandbox/tools"
)

// TestToolsThatBecomeAPipe: nobody writes into it, and the watcher of the files goes on.
func TestToolsThatBecomeAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "tools.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	var log bytes.Buffer
	r := &reloader{tools: pipe, cert: &certificate{cert: pipe, key: pipe}, log: slog.New(slog.NewTextHandler(&log, nil)),
		open: func(context.Context) (*tools.Registry, error) { _, err := os.ReadFile(pipe); return nil, err }}
	was := r.sum()
	r.reload(t.Context())
	if strings.Count(log.String(), "no regular file") != 2 {
		t.Errorf("%s", &log)
	}
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pipe, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.sum() == was {
		t.Error("the file that took its place is not seen")
	}
}
