package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"enclave/store/backup"
	"enclave/store/seal"
	"enclave/wire"
)

// TestBackupUnderLoad makes backups while others write: each holds a state that existed,
// with everything that was acknowledged before it began, and comes back elsewhere.
func TestBackupUnderLoad(t *testing.T) {
	own, other := identity(t), identity(t)
	dir := rotatable(t, 100, WithIdentities(own))
	s, err := Open(t.Context(), dir, WithIdentities(own))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var mu sync.Mutex
	written := 100
	load.Go(func() {
		for n := 1000; ctx.Err() == nil; n++ {
			if _, _, err := s.Enrol(t.Context(), start, EnrolParams{Secret: SecretHash{1}, Name: "box", Keys: keys32(n)}); err != nil {
				t.Errorf("write: %v", err)
				return
			}
			mu.Lock()
			written++
			mu.Unlock()
		}
	})
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		mu.Lock()
		before := written
		mu.Unlock()
		var out bytes.Buffer
		head, err := s.Backup(t.Context(), &out, BackupConfig{To: []seal.Recipient{other.Recipient}, Made: start})
		if err != nil {
			t.Fatal(err)
		}
		if n := head.Rows["systems"]; n < int64(before) || head.Audit.Records != n+2 || head.Revision != wire.Revision(n+1) {
			t.Fatalf("%d systems (%d before), %d records, revision %d", n, before, head.Audit.Records, head.Revision)
		}
		to := stateDir(t)
		r, err := Restore(t.Context(), &out, to, RestoreConfig{Identities: []seal.Identity{other}, At: start})
		if err != nil {
			t.Fatal(err)
		}
		if r.Checked != head.Audit.Records {
			t.Errorf("%d records followed", r.Checked)
		}
		if roots := wantWhole(t, to, int(head.Rows["systems"]), WithIdentities(other)); roots != 1 {
			t.Errorf("%d roots", roots)
		}
		if _, err := Open(t.Context(), to, WithIdentities(own)); !errors.Is(err, seal.ErrWrongIdentity) {
			t.Errorf("opens with the old identity: %v", err)
		}
	}
	stop()
	load.Wait()
	t.Logf("%d backups under load, %d changes meanwhile; %d restored, 0 failures", rounds, written-100, rounds)
}

// backedUp is a state and a backup of it.
func backedUp(t *testing.T, own seal.Identity) (dir string, raw []byte, head backup.Head) {
	t.Helper()
	dir = rotatable(t, 10, WithIdentities(own))
	s, err := Open(t.Context(), dir, WithIdentities(own))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out bytes.Buffer
	if head, err = s.Backup(t.Context(), &out, BackupConfig{Made: start}); err != nil {
		t.Fatal(err)
	}
	return dir, out.Bytes(), head
}

func TestRestoreRefuses(t *testing.T) {
	own := identity(t)
	dir, raw, head := backedUp(t, own)
	cfg := RestoreConfig{Identities: []seal.Identity{own}, At: start}
	restore := func(to string, raw []byte, cfg RestoreConfig) error {
		_, err := Restore(t.Context(), bytes.NewReader(raw), to, cfg)
		return err
	}
	if err := restore(dir, raw, cfg); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a state: %v", err)
	}
	for _, name := range []string{"agent.json", "relay.json", "sandbox.json"} {
		to := stateDir(t)
		if err := errors.Join(os.MkdirAll(to, 0o700), os.WriteFile(filepath.Join(to, name), []byte("of somebody"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := restore(to, raw, cfg); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("beside %s: %v", name, err)
		}
	}
	cmd, out := spawn(t, stateDir(t), "hold")
	out.Scan()
	live := cmd.Env[len(cmd.Env)-2][len(childEnv)+1:]
	if err := restore(live, raw, cfg); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a live state: %v", err)
	}
	if err := restore(stateDir(t), raw, RestoreConfig{Identities: []seal.Identity{identity(t)}}); !errors.Is(err, seal.ErrWrongIdentity) {
		t.Errorf("another's identity: %v", err)
	}
	later := head.Audit
	later.Records++
	later.Checkpoint = ""
	cfg.Remembered = []backup.AuditHead{head.Audit, later}
	to := stateDir(t)
	if err := restore(to, raw, cfg); !errors.Is(err, ErrRollback) {
		t.Errorf("an older head: %v", err)
	}
	// A checkpoint that somebody keeps says the same, for records that are not there.
	s2, err := Open(t.Context(), dir, WithIdentities(own))
	if err != nil {
		t.Fatal(err)
	}
	now, err := s2.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := enrolN(t, s2, 500); err != nil {
		t.Fatal(err)
	}
	after, err := s2.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s2.Close()
	if err := restore(to, raw, RestoreConfig{Identities: cfg.Identities, At: start, Remembered: []backup.AuditHead{{Checkpoint: after.Note}}}); !errors.Is(err, ErrRollback) {
		t.Errorf("a later checkpoint: %v", err)
	}
	if err := restore(stateDir(t), raw, RestoreConfig{Identities: cfg.Identities, At: start, Remembered: []backup.AuditHead{{Checkpoint: now.Note}}}); err != nil {
		t.Errorf("the checkpoint of that instant: %v", err)
	}
	_, _, elsewhere := backedUp(t, own)
	if err := restore(to, raw, RestoreConfig{Identities: cfg.Identities, At: start, Remembered: []backup.AuditHead{elsewhere.Audit}}); !errors.Is(err, ErrForked) {
		t.Errorf("a checkpoint of another organisation: %v", err)
	}
	fork := head.Audit
	fork.Checkpoint = ""
	fork.Records, fork.Last = 3, strings.Repeat("00", 32)
	if err := restore(to, raw, RestoreConfig{Identities: cfg.Identities, At: start, Remembered: []backup.AuditHead{fork}}); !errors.Is(err, ErrForked) {
		t.Errorf("another history: %v", err)
	}
	// What was refused can be done again in the same place.
	cfg.AcceptRollback = true
	r, err := Restore(t.Context(), bytes.NewReader(raw), to, cfg)
	if err != nil || !r.Rollback {
		t.Fatalf("accepted: %+v, %v", r, err)
	}
	s, err := Open(t.Context(), to, WithIdentities(own))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !recorded(t, s, "backup.restore", "rollback_accepted") {
		t.Error("the trail does not say that a rollback was accepted")
	}
}

// recorded looks for an action in the trail whose detail has a word.
func recorded(t *testing.T, s *Store, action, word string) bool {
	t.Helper()
	list, err := s.Audit(t.Context(), AuditQuery{Action: action})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if strings.Contains(a.Clear, word) {
			return true
		}
	}
	return false
}

// entries lists what is in a directory, beside the lock file that stays.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestAFailedRestoreTouchesNothing: a keyring that was there may be of a database that
// somebody has moved away.
func TestAFailedRestoreTouchesNothing(t *testing.T) {
	own := identity(t)
	_, raw, _ := backedUp(t, own)
	to := stateDir(t)
	ring := filepath.Join(to, seal.KeyringName)
	if err := errors.Join(os.MkdirAll(to, 0o700), os.WriteFile(ring, []byte("of a database elsewhere"), 0o600)); err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-100] ^= 1
	if _, err := Restore(t.Context(), bytes.NewReader(raw), to, RestoreConfig{Identities: []seal.Identity{own}, At: start}); err == nil {
		t.Fatal("restored")
	}
	if b, err := os.ReadFile(ring); err != nil || string(b) != "of a database elsewhere" {
		t.Errorf("the keyring is %q, %v", b, err)
	}
	if left := entries(t, to); !slices.Equal(left, []string{seal.KeyringName}) {
		t.Errorf("it leaves %v", left)
	}
}

// TestDamagedBackups: cut anywhere and with bytes changed anywhere, a backup is refused,
// and nothing is left behind.
func TestDamagedBackups(t *testing.T) {
	own := identity(t)
	_, raw, _ := backedUp(t, own)
	cfg := RestoreConfig{Identities: []seal.Identity{own}, At: start}
	refused := 0
	n := 24
	if testing.Short() {
		n = 6
	}
	for i := range n {
		at := len(raw) * i / n
		changed := bytes.Clone(raw)
		changed[at] ^= 1
		for _, b := range [][]byte{raw[:at], changed} {
			to := stateDir(t)
			if _, err := Restore(t.Context(), bytes.NewReader(b), to, cfg); err == nil {
				t.Errorf("byte %d: restored", at)
			}
			if left := entries(t, to); len(left) > 0 {
				t.Errorf("byte %d: it leaves %v", at, left)
			}
			if _, err := Restore(t.Context(), bytes.NewReader(raw), to, cfg); i%8 == 0 && err != nil {
				t.Errorf("the whole one after it: %v", err)
			}
			refused++
		}
	}
	t.Logf("%d damaged backups refused", refused)
}

func TestVerifyBackup(t *testing.T) {
	own := identity(t)
	_, raw, head := backedUp(t, own)
	var told bool
	out, err := VerifyBackup(t.Context(), bytes.NewReader(raw), t.TempDir(), RestoreConfig{Identities: []seal.Identity{own}, At: time.Now(),
		Progress: func(done, total int64) { told = done == total }})
	if err != nil || out.Head.Audit != head.Audit || out.Checked != head.Audit.Records || !told || len(out.Head.Rows) < 10 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestRestoreInterrupted: at no point does a restore leave what looks like a state and is
// none, or an empty directory in which another organisation would begin.
func TestRestoreInterrupted(t *testing.T) {
	own := identity(t)
	_, raw, head := backedUp(t, own)
	before, all := t.TempDir(), stateDir(t) // all of it is done, and nothing has its place
	cfg := RestoreConfig{Identities: []seal.Identity{own}, At: start}
	snap := cfg
	snap.Finish = func(work string) error { return os.CopyFS(before, os.DirFS(filepath.Dir(work))) }
	if _, err := Restore(t.Context(), bytes.NewReader(raw), all, snap); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(before, restoring))
	if err != nil {
		t.Fatal(err)
	}
	image := func() string { // as a crash there leaves it
		dir := stateDir(t)
		if err := errors.Join(os.CopyFS(dir, os.DirFS(before)), os.Chmod(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	whole := func(name, dir string) {
		t.Helper()
		wantWhole(t, dir, 10, WithIdentities(own))
		s, err := Open(t.Context(), dir, WithIdentities(own))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if snap, err := s.Snapshot(t.Context()); err != nil || snap.Revision < head.Revision+restoreGap {
			t.Errorf("%s: revision %d, agents have seen later ones than %d, %v", name, snap.Revision, head.Revision, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, restoring)); len(left) > 0 {
			t.Errorf("%s: it leaves %v", name, left)
		}
	}
	for moved := range len(files) { // so many files have their place
		dir, n := image(), 0
		for _, f := range files {
			if f.Name() != dbName && n < moved {
				n++
				if err := os.Rename(filepath.Join(dir, restoring, f.Name()), filepath.Join(dir, f.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		name := fmt.Sprintf("%d files moved", n)
		if _, err := Open(t.Context(), dir, WithIdentities(own)); !errors.Is(err, ErrRestoring) {
			t.Errorf("%s: opened: %v", name, err)
		}
		if _, err := LockDir(dir, "agent"); !errors.Is(err, ErrRestoring) {
			t.Errorf("%s: an agent starts in it: %v", name, err)
		}
		if _, err := Restore(t.Context(), bytes.NewReader(raw), dir, cfg); err != nil {
			t.Errorf("%s: restored again: %v", name, err)
		}
		whole(name, dir)
	}
	dir := image() // the database has its place
	if err := adopt(filepath.Join(dir, restoring), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(raw), dir, cfg); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over what was restored: %v", err)
	}
	whole("done", dir)
	whole("not interrupted", all)
	dir = image() // tried again in vain: what has its place already is no state by itself
	if err := os.Rename(filepath.Join(dir, restoring, seal.KeyringName), filepath.Join(dir, seal.KeyringName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(raw[:len(raw)/2]), dir, cfg); err == nil {
		t.Error("half of a backup was restored")
	}
	if _, err := Open(t.Context(), dir, WithIdentities(own)); !errors.Is(err, ErrRestoring) {
		t.Errorf("opened after a restore in vain: %v", err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(raw), dir, cfg); err != nil {
		t.Errorf("restored after one in vain: %v", err)
	}
	whole("after one in vain", dir)
	bad := errors.New("no administrator")
	cfg.Finish = func(string) error { return bad }
	dir = stateDir(t)
	if _, err := Restore(t.Context(), bytes.NewReader(raw), dir, cfg); !errors.Is(err, bad) || len(entries(t, dir)) > 0 {
		t.Errorf("%v, and it leaves %v", err, entries(t, dir))
	}
}
