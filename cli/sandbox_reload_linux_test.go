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

// TestAFileThatToolsNameBecomesAPipe: neither a secret nor a document is waited for.
func TestAFileThatToolsNameBecomesAPipe(t *testing.T) {
	dir := t.TempDir()
	pipe, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "tools.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	for _, text := range []string{
		`{"version":1,"secrets":{"k":{"file":"pipe"}},"tools":[{"name":"t","serve":{"canned":{}}}]}`,
		`{"version":1,"openapi":[{"name":"a","document":"pipe","server":"https://a.example"}]}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tools.Load([]byte(text)); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		r := &reloader{tools: file, log: slog.New(slog.NewTextHandler(&log, nil)),
			open: func(context.Context) (*tools.Registry, error) { t.Error("it is read"); return nil, os.ErrInvalid }}
		r.sum()
		r.reload(t.Context())
		if !strings.Contains(log.String(), "no regular file") {
			t.Errorf("%s: %s", text, &log)
		}
	}
}
