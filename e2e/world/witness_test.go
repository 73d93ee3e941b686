package world

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enclave/e2e/natlab"
	"enclave/store/audit"
	"enclave/wire/api"
)

// TestAgentsFindARollback lets an agent witness the audit trail, puts back an older copy
// of control's state, and lets that one grow past what the agent remembers: the rollback
// and the fork are found, and both checkpoints are there for a stranger to compare.
func TestAgentsFindARollback(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lab := natlab.New(natlab.Config{Seed: 1}).Start()
	defer lab.Close()
	dir := t.TempDir()
	w, err := New(ctx, Config{Lab: lab, Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	a, err := w.Agent(ctx, "laptop", lab.Internet(), w.First.EnrolmentKey)
	if err != nil {
		t.Fatal(err)
	}
	wait := func(what string, ok func(*api.Witness) bool) *api.Witness {
		t.Helper()
		for {
			changed := a.Changed()
			if s := a.Status(); s.Witness != nil && ok(s.Witness) {
				return s.Witness
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("%s: %+v", what, a.Status().Witness)
			}
		}
	}
	grow := func(n int) {
		t.Helper()
		for range n {
			if _, err := w.API.CreateKey(ctx, api.KeyCreate{Name: "spare"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := wait("the first checkpoint", func(w *api.Witness) bool { return w.Size > 0 })
	state, copied := filepath.Join(dir, "control"), filepath.Join(dir, "copy")
	if err := w.StopControl(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	if err := w.StartControl(ctx); err != nil {
		t.Fatal(err)
	}
	grow(5)
	seen := wait("a newer checkpoint", func(w *api.Witness) bool { return w.Size >= first.Size+5 })
	if seen.Alarm != "" || seen.Key != first.Key {
		t.Fatalf("%+v", seen)
	}

	put := func() {
		t.Helper()
		if err := w.StopControl(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(state, os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := w.StartControl(ctx); err != nil {
			t.Fatal(err)
		}
	}
	put()
	alarm := wait("the rollback", func(w *api.Witness) bool { return strings.Contains(w.Alarm, "rolled back") })
	if alarm.Checkpoint != seen.Checkpoint || alarm.Refused == "" || !strings.Contains(strings.Join(a.Status().Warnings, "\n"), "cannot be trusted") {
		t.Errorf("%+v", alarm)
	}
	grow(20)
	alarm = wait("the fork", func(w *api.Witness) bool { return strings.Contains(w.Alarm, "forked") })

	// A stranger: the export of the forked log, and what the agent remembers.
	body, err := w.API.ExportAudit(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	c, err := audit.OpenCheckpoint(alarm.Checkpoint, first.Key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := audit.NewVerifier(first.Key, []audit.Witnessed{{Name: "laptop", Checkpoint: c}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.File(body); err != nil {
		t.Fatal(err)
	}
	if f := v.Report().Finding; f == nil || f.Kind != audit.Forked {
		t.Errorf("the stranger finds %+v", f)
	}
	// A new start of the agent does not make it forget; being told to does.
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	wait("the alarm after a restart", func(w *api.Witness) bool { return w.Alarm != "" })
	if err := a.ForgetWitness(ctx); err != nil {
		t.Fatal(err)
	}
	grow(1)
	wait("the new history", func(w *api.Witness) bool { return w.Alarm == "" && w.Size > c.Size })
}
