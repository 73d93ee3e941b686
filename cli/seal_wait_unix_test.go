//go:build unix

package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAnIdentityThatNeverComes: whoever waits for a pipe that nobody writes to ends with a
// signal.
func TestAnIdentityThatNeverComes(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "identity")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	a := &app{Streams: Streams{Err: io.Discard, Getenv: func(string) string { return "" }}}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := a.identitiesUntil(ctx, &unsealFlags{identity: pipe}); !errors.Is(err, errStillReading) {
		t.Errorf("%v", err)
	}
	if err := a.unlessStopped(ctx, errStillReading); err != nil {
		t.Errorf("a start that a signal has ended: %v", err)
	}
	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // lets the reader go
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
