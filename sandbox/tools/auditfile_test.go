package tools

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAuditFileShowsWhatWasChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 2 { // the second time it goes on where the first ended
		a, err := OpenAuditFile(path)
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
	if n, _, err := VerifyAudit(strings.NewReader(string(text))); n != 6 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, bad := range map[string]string{
		"changed":                    strings.Replace(string(text), "tool.result", "tool.denied", 1),
		"taken out":                  lines[0] + strings.Join(lines[2:], ""),
		"changed before a torn line": strings.Replace(string(text[:len(text)-5]), "tool.result", "tool.denied", 1),
	} {
		os.WriteFile(path, []byte(bad), 0o600)
		if _, err := OpenAuditFile(path); !errors.Is(err, ErrAuditChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestATornLineIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 2 {
		a, err := OpenAuditFile(path)
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
	a, err := OpenAuditFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	text, _ := os.ReadFile(path)
	if n, _, err := VerifyAudit(strings.NewReader(string(text))); n != 2 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	aside, _ := os.ReadFile(path + ".torn")
	lines := strings.SplitAfter(string(aside), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], `{"`) || int64(len(lines[1])) != a.Torn+1 {
		t.Errorf("%d bytes set aside as %q", a.Torn, aside)
	}
}
