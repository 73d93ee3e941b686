package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"enclave/store/migrate"
	"enclave/store/seal"
)

// TestEveryReleasedState opens a state of each schema that was released, as that program
// wrote it. A new schema adds a folder of its number; none is ever changed.
func TestEveryReleasedState(t *testing.T) {
	dirs, err := filepath.Glob("testdata/states/*")
	if err != nil || len(dirs) < migrate.Latest()-1 { // the newest may be on its way to its release
		t.Fatalf("%d states, %v", len(dirs), err)
	}
	for _, from := range dirs {
		t.Run(filepath.Base(from), func(t *testing.T) {
			schema, err := strconv.Atoi(filepath.Base(from)[:4])
			if err != nil {
				t.Fatal(err)
			}
			dir := released(t, from)
			wantFixture(t, dir)
			if schema == migrate.Latest() {
				return
			}
			ids, err := seal.ReadIdentities(filepath.Join(dir, seal.IdentityName))
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("before-schema-%04d.backup", migrate.Latest())
			before := func() *os.File {
				f, err := os.Open(filepath.Join(dir, BackupDir, name))
				if err != nil {
					t.Fatalf("no backup of before the upgrade: %v", err)
				}
				t.Cleanup(func() { f.Close() })
				return f
			}
			r, err := VerifyBackup(t.Context(), before(), t.TempDir(), RestoreConfig{Identities: ids, At: start})
			if err != nil || r.Head.Schema != schema || r.Head.Rows["systems"] != 5 {
				t.Errorf("the backup of before: %+v, %v", r.Head, err)
			}
			to := stateDir(t)
			if _, err := Restore(t.Context(), before(), to, RestoreConfig{Identities: ids, At: start}); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), to, WithIdentities(ids...))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := os.Stat(filepath.Join(to, next)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the copy of the rehearsal stays: %v", err)
			}
		})
	}
}

// released makes a state of a fixture.
func released(t *testing.T, from string) (dir string) {
	t.Helper()
	dir = stateDir(t)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.CopyFS(dir, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, seal.IdentityName)); err == nil {
		os.Chmod(filepath.Join(dir, seal.IdentityName), 0o600)
	}
	return dir
}

// TestUpgradeKilled kills processes while they bring old states up to date. Each state
// opens after it, with all that it had.
func TestUpgradeKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dirs, err := filepath.Glob("testdata/states/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal(err)
	}
	begin := func(dir string) (*exec.Cmd, *bufio.Scanner) {
		cmd, out := spawn(t, dir, "upgrade")
		if !out.Scan() || out.Text() != "begun" {
			t.Fatalf("child says %q", out.Text())
		}
		return cmd, out
	}
	within, after := 0, 0
	for _, from := range dirs {
		if schema, _ := strconv.Atoi(filepath.Base(from)[:4]); schema == migrate.Latest() {
			continue
		}
		cmd, out := begin(released(t, from))
		began := time.Now()
		if !out.Scan() || out.Text() != "upgraded" {
			t.Fatalf("%s: child says %q", from, out.Text())
		}
		takes := time.Since(began)
		cmd.Wait()
		for range 8 {
			dir := released(t, from)
			for kill := range 3 { // also while it takes up what was left
				cmd, out := begin(dir)
				time.Sleep(rand.N(takes) / time.Duration(1+kill)) // any instant will do
				cmd.Process.Kill()
				if out.Scan() {
					after++
				} else {
					within++
				}
				cmd.Wait()
			}
			wantFixture(t, dir)
			if left, err := filepath.Glob(filepath.Join(dir, next+"*")); err != nil || len(left) > 0 {
				t.Errorf("%s: %v stays, %v", from, left, err)
			}
		}
	}
	if within == 0 {
		t.Error("no upgrade was under way")
	}
	t.Logf("%d kills within an upgrade, %d after it: every state opens and has all that it had", within, after)
}

// wantFixture checks what every released state has.
func wantFixture(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	snap, err := s.Snapshot(t.Context())
	tokens, err2 := s.Tokens(t.Context())
	keys, err3 := s.Keys(t.Context())
	org, err4 := s.Org(t.Context())
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if len(snap.Systems) != 5 || len(snap.Policies) != 1 || len(tokens) != 1 || len(keys) != 1 || keys[0].Used != 5 || org.Name != "fixture" || org.CAKey[0] != 2 {
		t.Errorf("%d systems, %d policies, %d tokens, %d keys, %q", len(snap.Systems), len(snap.Policies), len(tokens), len(keys), org.Name)
	}
	if _, err := s.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestNewerStateIsLeftAlone: an older program says which version wrote it.
func TestNewerStateIsLeftAlone(t *testing.T) {
	dir := stateDir(t)
	s := made(t, dir, InitParams{})
	newer := migrate.Latest() + 1
	if _, err := s.write.Exec("PRAGMA user_version = " + strconv.Itoa(newer)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	before, _ := os.ReadFile(filepath.Join(dir, dbName))
	_, err := Open(t.Context(), dir)
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version "+strconv.Itoa(newer)) {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, dbName)); string(after) != string(before) {
		t.Error("it was changed")
	}
}
