package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"enclave/store/seal"
)

// TestRestoreOfAnotherAfterOneInterrupted: what the first had given its place is not of the
// state that the second makes.
func TestRestoreOfAnotherAfterOneInterrupted(t *testing.T) {
	own := identity(t)
	from := rotatable(t, 3, WithIdentities(own))
	s, err := Open(t.Context(), from, WithIdentities(own))
	if err != nil {
		t.Fatal(err)
	}
	var first bytes.Buffer
	err = errors.Join(s.File("agent.json").Save([]byte("{}")), s.File("relay.json").Save([]byte("{}")))
	if err == nil {
		_, err = s.Backup(t.Context(), &first, BackupConfig{Made: start})
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	_, second, _ := backedUp(t, own)

	dir := stateDir(t)
	mine := filepath.Join(dir, "notes") // what no restore has brought stays
	cfg := RestoreConfig{Identities: []seal.Identity{own}, At: start}
	stopped := cfg
	stopped.Finish = func(work string) error { // nothing can take the place of relay.json
		return errors.Join(os.WriteFile(filepath.Join(work, "admin.token"), []byte("of the first"), 0o600),
			os.WriteFile(mine, []byte("mine"), 0o600), os.MkdirAll(filepath.Join(dir, "relay.json", "x"), 0o700))
	}
	if _, err := Restore(t.Context(), &first, dir, stopped); err == nil {
		t.Fatal("it was not interrupted")
	}
	for _, name := range []string{"agent.json", "admin.token"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("the interrupted restore should have given %s its place: %v", name, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "relay.json")); err != nil {
		t.Fatal(err)
	}
	// What cannot be taken back is not forgotten either, however often it is tried.
	list := filepath.Join(dir, restoring, places)
	said, err := os.ReadFile(list)
	if err == nil {
		err = os.WriteFile(list, said[:len(said)/2], 0o600)
	}
	for range 2 {
		if _, bad := Restore(t.Context(), bytes.NewReader(second), dir, cfg); bad == nil || err != nil {
			t.Fatalf("restored over what another had moved: %v, %v", bad, err)
		}
	}
	if err := os.WriteFile(list, said, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(second), dir, cfg); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, dir, 10, WithIdentities(own))
	for _, name := range []string{"agent.json", "relay.json", "admin.token", restoring, places} {
		if slices.Contains(entries(t, dir), name) {
			t.Errorf("%s of the first restore is in the state of the second", name)
		}
	}
	if b, err := os.ReadFile(mine); err != nil || string(b) != "mine" {
		t.Errorf("what no restore brought: %q, %v", b, err)
	}
}
