package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoginsLeaveNoToken: of logins in a directory the newest alone leaves a token, whatever
// the directory is called, and one that fails none of its own.
func TestLoginsLeaveNoToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[1] b[")
	mine := filepath.Join(dir, "login-production-eu-01.token") // an operator's own
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(mine, []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"first", "second"} {
		if _, err := keepToken(dir, "of a login that was killed"); err != nil {
			t.Fatal(err)
		}
		if err := keepLogin(dir, apiContext{URL: "https://127.0.0.1:1"}, token); err != nil {
			t.Error(err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("two logins left %v", files)
	}
	if b, err := os.ReadFile(mine); err != nil || string(b) != "mine" {
		t.Errorf("what no login had made: %q, %v", b, err)
	}
	dir = filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir, contextFile, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keepLogin(dir, apiContext{URL: "https://127.0.0.1:1"}, "secret"); err == nil {
		t.Error("no context, and signed in")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("a login that failed left %v", files)
	}
}

// TestLogin: on another machine, with a token of few rights.
func TestLogin(t *testing.T) {
	s := newSite(t, nil)
	s.mustEnrol("web")
	token := filepath.Join(privateDir(t), "laptop.token")
	s.ok("token", "create", "laptop", "--scope", "read", "--out", token)

	away := newShell(t)
	at := []string{"login", s.url, "--ca-fingerprint", s.fingerprint}
	if _, errs, exit := away.run(at...); exit != exitUsage || !strings.Contains(errs, "--token-file") {
		t.Errorf("without a token: exit %d, %s", exit, errs)
	}
	if _, errs, exit := away.run("login", s.url, "--token-file", token); exit != exitUsage || !strings.Contains(errs, "--ca-fingerprint") {
		t.Errorf("without a fingerprint: exit %d, %s", exit, errs)
	}
	if _, errs, exit := away.run(append(at, "--token-file", away.secret("enctok_nonsense"))...); exit != exitSignIn {
		t.Errorf("with a wrong token: exit %d, %s", exit, errs)
	}
	if files, _ := os.ReadDir(away.env["ENCLAVE_STATE"]); len(files) > 0 {
		t.Errorf("logins that failed left %v", files)
	}
	if _, _, exit := away.run("system", "list"); exit != exitUsage {
		t.Errorf("not signed in, and exit %d", exit)
	}
	if out := away.ok(append(at, "--token-file", token)...); !strings.Contains(out, "as laptop, who may: read") {
		t.Errorf("login: %s", out)
	}
	if out := away.ok("system", "list"); !strings.Contains(out, "web") {
		t.Errorf("system list: %s", out)
	}
	if _, errs, exit := away.run("tag", "add", "web", "x"); exit != exitForbidden {
		t.Errorf("a change with a token that reads: exit %d, %s", exit, errs)
	}
	dir := away.env["ENCLAVE_STATE"]
	kept, err := readContext(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Base(kept.TokenFile), contextFile} {
		if info, err := os.Stat(filepath.Join(away.env["ENCLAVE_STATE"], name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	// A second login that stops half-way leaves the first as it was; one that comes to its
	// end leaves nothing of the first, nor of one by an older version.
	if _, err := keepToken(dir, "enctok_of_another_server"); err != nil {
		t.Fatal(err)
	}
	away.ok("system", "list")
	if err := os.Rename(kept.TokenFile, filepath.Join(dir, tokenFile)); err != nil {
		t.Fatal(err)
	}
	kept.TokenFile = tokenFile
	if err := writeContext(dir, kept); err != nil {
		t.Fatal(err)
	}
	away.ok("system", "list")
	away.ok(append(at, "--token-file", token)...)
	away.ok("system", "list")
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("two logins left %v", files)
	}
	if r := away.refused(exitUsage, "login", strings.Replace(s.url, "https:", "http:", 1), "--token-file", token); r.Code != "wrong_scheme" || !strings.Contains(r.Message, s.url) {
		t.Errorf("over http: %+v", r)
	}
	if _, errs, exit := s.run(append(at, "--token-file", token)...); exit != exitUsage || !strings.Contains(errs, "another --state") {
		t.Errorf("over a control plane's state: exit %d, %s", exit, errs)
	}
}
