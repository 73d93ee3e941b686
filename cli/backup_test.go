package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/store/seal"
)

// stoppedState makes the state of a control plane that does not run.
func stoppedState(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, err = st.Init(t.Context(), store.Change{By: "test", At: time.Now()}, store.InitParams{ID: "01arz3ndektsv4rrffq69g5fav", Name: "n", CACert: []byte{1}, CAKey: []byte{2}, TicketKey: []byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// say runs a command line and returns what it wrote.
func say(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(string) string { return "" }})
	return code, o.String(), e.String()
}

func TestBackupAndRestore(t *testing.T) {
	dir, file := stoppedState(t), filepath.Join(t.TempDir(), "b")
	code, out, errs := say(t, "backup", "create", file, "--state", dir, "--json")
	var made backupShown
	if code != 0 || json.Unmarshal([]byte(out), &made) != nil || made.Audit.Records != 1 || made.Audit.Checkpoint == "" || made.Size == 0 {
		t.Fatalf("%d: %s%s", code, out, errs)
	}
	witness := filepath.Join(t.TempDir(), "witness")
	os.WriteFile(witness, []byte(out), 0o600)
	if code, _, errs := say(t, "backup", "create", file, "--state", dir); code != exitUsage || !strings.Contains(errs, "--overwrite") {
		t.Errorf("over a file: %d: %s", code, errs)
	}
	if code, out, errs := say(t, "backup", "verify", file, "--state", dir); code != 0 || !strings.Contains(out, "is whole") {
		t.Errorf("verify: %d: %s%s", code, out, errs)
	}
	if code, _, errs := say(t, "backup", "restore", file, "--state", dir, "--json"); code != exitRefused || !strings.Contains(errs, `"code":"not_empty"`) {
		t.Errorf("over a state: %d: %s", code, errs)
	}
	own, to := filepath.Join(dir, "identity.age.txt"), filepath.Join(t.TempDir(), "new")
	if code, _, errs := say(t, "backup", "restore", file, "--state", to); code != exitUsage || !strings.Contains(errs, "--identity") {
		t.Errorf("without an identity: %d: %s", code, errs)
	}
	// The old state has come further.
	if code, out, errs := say(t, "seal", "rotate", "--state", dir); code != 0 {
		t.Fatalf("%d: %s%s", code, out, errs)
	}
	for _, seen := range [][]string{{"--witness", dir}} {
		if code, _, errs := say(t, append([]string{"backup", "restore", file, "--state", to, "--identity", own, "--json"}, seen...)...); code != exitRefused || !strings.Contains(errs, `"code":"rollback"`) {
			t.Errorf("older than the old state: %d: %s", code, errs)
		}
	}
	if code, out, errs := say(t, "backup", "restore", file, "--state", to, "--identity", own, "--witness", witness, "--dry-run"); code != 0 || !strings.Contains(out, "nothing was done") {
		t.Errorf("dry run: %d: %s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(to, store.DatabaseName)); err == nil {
		t.Error("a dry run restored")
	}
	code, out, errs = say(t, "backup", "restore", file, "--state", to, "--identity", own, "--witness", witness, "--witness", dir, "--accept-rollback", "--json")
	if code != 0 || !strings.Contains(out, `"rollback_accepted":true`) {
		t.Fatalf("accepted: %d: %s%s", code, out, errs)
	}
	if b, err := os.ReadFile(filepath.Join(to, tokenFile)); err != nil || !strings.HasPrefix(string(b), "enctok_") {
		t.Errorf("no token of an administrator: %v", err)
	}
	// A crash in the middle of another one.
	half := filepath.Join(t.TempDir(), "half")
	if err := errors.Join(os.Mkdir(half, 0o700), os.Mkdir(filepath.Join(half, ".restoring"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"up", "--listen", "127.0.0.1:0"}, {"seal", "status"}, {"seal", "rotate"}} {
		if code, _, errs := say(t, append(verb, "--state", half, "--json")...); code != exitDamaged || !strings.Contains(errs, `"code":"restore_interrupted"`) || !strings.Contains(errs, "restore") {
			t.Errorf("%v in the middle of a restore: %d: %s", verb, code, errs)
		}
	}
	if code, out, errs := say(t, "backup", "restore", file, "--state", half, "--identity", own); code != 0 {
		t.Errorf("again: %d: %s%s", code, out, errs)
	}
	raw, _ := os.ReadFile(file)
	raw[len(raw)/2] ^= 1
	os.WriteFile(file, raw, 0o600)
	if code, _, errs := say(t, "backup", "verify", file, "--identity", own, "--json"); code != exitDamaged || !strings.Contains(errs, `"code":"damaged_backup"`) {
		t.Errorf("a damaged one: %d: %s", code, errs)
	}
}

func TestDoctor(t *testing.T) {
	dir := stoppedState(t)
	ask := func(args ...string) (int, map[string]finding) {
		t.Helper()
		code, out, errs := say(t, append([]string{"doctor", "--json", "--state", dir}, args...)...)
		var list []finding
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != len(checks) {
			t.Fatalf("%d: %v in %s%s", code, err, out, errs)
		}
		byName := map[string]finding{}
		for _, f := range list {
			byName[f.Check] = f
			if f.Detail == "" || f.Verdict == bad && f.Check != "process" && f.Do == "" {
				t.Errorf("%+v says too little", f)
			}
		}
		return code, byName
	}
	code, all := ask("--full")
	for _, name := range []string{"version", "keyring", "database", "pages", "integrity", "audit trail", "clock"} {
		if all[name].Verdict != fine {
			t.Errorf("%s: %+v", name, all[name])
		}
	}
	if code != 0 || all["identity"].Verdict != warn || all["backups"].Verdict != warn {
		t.Errorf("%d: %+v", code, all)
	}
	if code, all := ask(); code != 0 || all["pages"].Verdict != blank {
		t.Errorf("%d: %+v", code, all["pages"])
	}
	// an upgrade's backup counts, and a schedule's that is newer counts more; old is old
	kept := filepath.Join(dir, store.BackupDir)
	old := time.Now().Add(-30 * 24 * time.Hour)
	for i, step := range []struct {
		file    string
		made    time.Time
		verdict verdict
		kind    string
	}{
		{"before-schema-0012.backup", old, warn, "made by an upgrade"},
		{"before-schema-0012.backup", time.Now().Add(-time.Hour), fine, "made by an upgrade"},
		{time.Now().UTC().Format("enclave-20060102T150405Z.backup"), old, fine, "made by a schedule"},
		{"mine.backup", time.Now().Add(time.Second), fine, "made by hand"},
		{"no.backup/", time.Now(), fine, "made by hand"},
	} {
		path := filepath.Join(kept, step.file)
		if strings.HasSuffix(step.file, "/") {
			os.MkdirAll(path, 0o700)
		} else if err := errors.Join(os.MkdirAll(kept, 0o700), os.WriteFile(path, []byte("x"), 0o600), os.Chtimes(path, step.made, step.made)); err != nil {
			t.Fatal(err)
		}
		if _, all := ask(); all["backups"].Verdict != step.verdict || !strings.Contains(all["backups"].Detail, step.kind) {
			t.Errorf("step %d: %+v", i, all["backups"])
		}
	}
	if privateModes {
		os.Chmod(filepath.Join(dir, "keyring.age"), 0o644)
		if code, all := ask(); code != exitDamaged || all["state directory"].Verdict != bad || !strings.Contains(all["state directory"].Do, "chmod") {
			t.Errorf("%d: %+v", code, all["state directory"])
		}
		os.Chmod(filepath.Join(dir, "keyring.age"), 0o600)
	}
	path := filepath.Join(dir, store.DatabaseName)
	raw, _ := os.ReadFile(path)
	raw[5*4096+9] ^= 1
	os.WriteFile(path, raw, 0o600)
	if code, all := ask("--full"); code != exitDamaged || all["database"].Verdict != bad || !strings.Contains(all["database"].Do, "backup restore") {
		t.Errorf("%d: %+v", code, all["database"])
	}
}

// TestDoctorWithoutTheKey: a state that nothing was given for is not called damaged, nor
// well.
func TestDoctorWithoutTheKey(t *testing.T) {
	s := newShell(t)
	dir := s.env["ENCLAVE_STATE"]
	stopped(t, dir)
	pass := s.secret("correct horse battery staple")
	s.ok("seal", "add", "passphrase", "--new-passphrase-file", pass, "--only")
	if err := os.Remove(filepath.Join(dir, seal.IdentityName)); err != nil {
		t.Fatal(err)
	}
	ask := func(exit int, code string, args ...string) map[string]finding {
		t.Helper()
		out, errs, got := s.run(append([]string{"doctor", "--full", "--json"}, args...)...)
		var list []finding
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != len(checks) || got != exit || !strings.Contains(errs, code) {
			t.Fatalf("exit %d, want %d: %v in %s%s", got, exit, err, out, errs)
		}
		byName := map[string]finding{}
		for _, f := range list {
			byName[f.Check] = f
		}
		return byName
	}
	for code, args := range map[string][]string{`"no_identity"`: nil, `"wrong_identity"`: {"--passphrase-file", s.secret("another one of that length")}} {
		all := ask(exitUsage, code, args...)
		if all["keyring"].Verdict != warn || !strings.Contains(all["keyring"].Do, "--passphrase-file") || all["database"].Verdict != blank || all["pages"].Verdict != blank {
			t.Errorf("%s: %+v", code, all)
		}
	}
	if all := ask(exitOK, "", "--passphrase-file", pass); all["keyring"].Verdict != fine || all["database"].Verdict != fine || all["pages"].Verdict != fine {
		t.Errorf("%+v", all)
	}
	if privateModes {
		os.Chmod(filepath.Join(dir, "keyring.age"), 0o644)
		ask(exitDamaged, `"unwell"`)
	}
}

func TestProgress(t *testing.T) {
	start := time.Unix(0, 0)
	for _, terminal := range []bool{false, true} {
		var w bytes.Buffer
		p := &progress{w: &w, what: "backup", terminal: terminal, began: start}
		p.tell(1, 100, start.Add(900*time.Millisecond))
		if w.Len() > 0 {
			t.Errorf("it speaks in its first second: %q", w.String())
		}
		for i := range 100 {
			p.tell(int64(i), 100, start.Add(time.Second+time.Duration(i)*50*time.Millisecond))
		}
		p.end()
		lines, bars := strings.Count(w.String(), "\n"), strings.Count(w.String(), "\r")
		if terminal && (lines != 0 || bars < 40) || !terminal && (bars != 0 || lines < 1 || lines > 3) {
			t.Errorf("terminal %v: %d lines, %d bars", terminal, lines, bars)
		}
	}
}
