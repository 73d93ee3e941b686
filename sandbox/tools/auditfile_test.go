package tools

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/store/lockfile"
)

func TestAuditFileShowsWhatWasChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 2 { // the second time it goes on where the first ended
		a, err := OpenAuditFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, action := range []string{"run.start", "tool.result", "run.end"} {
			if err := a.Append(t.Context(), Record{At: time.Unix(1, 0), Action: action, Run: "run-1"}); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
		if err := a.Append(t.Context(), Record{}); err == nil {
			t.Error("a record after the end")
		}
	}
	text, _ := os.ReadFile(path)
	if rep, err := VerifyAudit(strings.NewReader(string(text)), ""); rep.Records != 6 || err != nil {
		t.Errorf("%+v, %v", rep, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, bad := range map[string]string{
		"changed":                    strings.Replace(string(text), "tool.result", "tool.denied", 1),
		"taken out":                  lines[0] + strings.Join(lines[2:], ""),
		"changed before a torn line": strings.Replace(string(text[:len(text)-5]), "tool.result", "tool.denied", 1),
	} {
		os.WriteFile(path, []byte(bad), 0o600)
		if _, err := OpenAuditFile(t.Context(), path); !errors.Is(err, ErrAuditChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// TestAWriteThatFailsEndsNothing: once a full disk has room again the file goes on, behind
// the last whole line, whether or not what was written of another could be taken back.
func TestAWriteThatFailsEndsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	a, err := OpenAuditFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	add := func() error {
		return a.Append(t.Context(), Record{At: time.Unix(1, 0), Action: "run.end", Run: "run-1"})
	}
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	for range 2 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		writable := a.f
		a.f = readOnly // neither a write nor a truncation works
		if add() == nil {
			t.Fatal("a record without a write")
		}
		a.f = writable
		if _, err := writable.WriteString(`{"acti`); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	text, _ := os.ReadFile(path)
	if rep, err := VerifyAudit(bytes.NewReader(text), ""); rep.Records != 3 || err != nil {
		t.Errorf("%+v, %v\n%s", rep, err, text)
	}
}

// TestTwoAppendByTurns: who appends follows what others appended in between, also one that
// ended within a line.
func TestTwoAppendByTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var both sync.WaitGroup
	for range 2 {
		a, err := OpenAuditFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		both.Go(func() {
			for range 100 {
				if err := a.Append(t.Context(), Record{At: time.Unix(1, 0), Action: "tool.result"}); err != nil {
					t.Error(err)
				}
			}
		})
		defer func() {
			torn, _ := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			torn.WriteString(`{"ac`)
			torn.Close()
			if err := a.Append(t.Context(), Record{Action: "run.end"}); err != nil {
				t.Error(err)
			}
			text, _ := os.ReadFile(path)
			if _, err := VerifyAudit(bytes.NewReader(text), ""); err != nil {
				t.Error(err)
			}
		}()
	}
	both.Wait()
	text, _ := os.ReadFile(path)
	if rep, err := VerifyAudit(bytes.NewReader(text), ""); rep.Records != 200 || err != nil {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestATornLineIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 2 {
		a, err := OpenAuditFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := a.Append(t.Context(), Record{At: time.Unix(1, 0), Action: "run.start", Run: "run-1"}); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
		text, _ := os.ReadFile(path)
		os.WriteFile(path, text[:len(text)-5], 0o600)
	}
	a, err := OpenAuditFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	text, _ := os.ReadFile(path)
	if rep, err := VerifyAudit(strings.NewReader(string(text)), ""); rep.Records != 2 || err != nil {
		t.Errorf("%+v, %v", rep, err)
	}
	aside, _ := os.ReadFile(path + ".torn")
	lines := strings.SplitAfter(string(aside), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], `{"`) || int64(len(lines[1])) != a.Torn+1 {
		t.Errorf("%d bytes set aside as %q", a.Torn, aside)
	}
}

// TestAHeadIsRemembered: what the chain alone does not show.
func TestAHeadIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	a, err := OpenAuditFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var heads []string
	var text string
	for i := range 4 {
		b, _ := os.ReadFile(path)
		text = string(b)
		rep, err := VerifyAudit(strings.NewReader(text), "")
		if err != nil || rep.Records != i {
			t.Fatalf("%+v, %v", rep, err)
		}
		heads = append(heads, rep.Head)
		if err := a.Append(t.Context(), Record{At: time.Unix(int64(i), 0), Action: "run.start", Run: "run-1"}); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.SplitAfter(text, "\n")
	for _, c := range []struct {
		name, text, head string
		records          int
		want             error
	}{
		{"the last", text, heads[3], 3, nil},
		{"one before", text, heads[1], 3, nil},
		{"of nothing", text, heads[0], 3, nil},
		{"cut off", lines[0] + lines[1], heads[3], 2, ErrAuditHead},
		{"cut off, not asked for", lines[0] + lines[1], "", 2, nil},
		{"the last line is another", lines[0] + lines[1] + strings.Replace(lines[2], "run-1", "run-2", 1), heads[3], 3, ErrAuditHead},
		{"all is gone", "", heads[3], 0, ErrAuditHead},
		{"torn", text[:len(text)-3], heads[2], 2, ErrAuditTorn},
	} {
		rep, err := VerifyAudit(strings.NewReader(c.text), c.head)
		if rep.Records != c.records || !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %+v, %v", c.name, rep, err)
		}
	}
}

func FuzzVerifyAudit(f *testing.F) {
	first := `{"at":"2026-03-27T10:00:00Z","action":"run.start","run":"a","prev":"` + sum(nil) + `"}`
	f.Add(first+"\n", "")
	f.Add(first+"\n"+first, sum(nil))
	f.Add("{}\n\n", "x")
	f.Fuzz(func(t *testing.T, text, head string) {
		rep, err := VerifyAudit(strings.NewReader(text), head)
		if n := strings.Count(text, "\n"); rep.Records > n || err == nil && (rep.Records != n || text != "" && !strings.HasSuffix(text, "\n")) {
			t.Errorf("%+v, %v", rep, err)
		}
		if _, again := VerifyAudit(strings.NewReader(text), rep.Head); err == nil && again != nil {
			t.Errorf("%q does not hold its own head: %v", text, again)
		}
	})
}

// TestAStartWaitsNoLongerThanItMay for a process that keeps the file, nor than its caller
// does.
func TestAStartWaitsNoLongerThanItMay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	other, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := lockfile.Wait(other); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := OpenAuditFile(t.Context(), path)
		if took := time.Since(began); !errors.Is(err, ErrAuditHeld) || took < openWait || took > openWait+time.Second || !strings.Contains(err.Error(), path) {
			t.Errorf("after %s: %v", took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := OpenAuditFile(ctx, path); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrAuditHeld) {
			t.Errorf("a caller that ends: %v", err)
		}
		time.AfterFunc(5*time.Second, func() { lockfile.Release(other) })
		a, err := OpenAuditFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
	})
}

// TestARecordWaitsNoLongerThanItMay for another process that has the file, nor for a record
// that waits for one.
func TestARecordWaitsNoLongerThanItMay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	synctest.Test(t, func(t *testing.T) {
		a, err := OpenAuditFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		other, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := lockfile.Wait(other); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		for range 2 {
			go func() { failed <- a.Append(ctx, Record{Action: "run.end"}) }()
		}
		synctest.Wait() // one waits for the file, the other for the one
		cancel()
		began := time.Now()
		for range 2 {
			select {
			case err := <-failed:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
			case <-time.After(time.Minute):
				t.Error("it waits although nobody waits for it")
				lockfile.Release(other) // or it never ends
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s to notice", took)
		}
		if err := lockfile.Release(other); err != nil {
			t.Fatal(err)
		}
		if err := a.Append(t.Context(), Record{Action: "run.end"}); err != nil {
			t.Error(err)
		}
	})
}
