package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enclave/store/seal"
)

// TestFirstStartKilled: whenever the first start on a directory is killed, the next one
// works. Each image is what a kill leaves there before one write or sync of the database.
func TestFirstStartKilled(t *testing.T) {
	dir := stateDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &Store{dir: dir, heavy: make(chan struct{}, 1), failed: make(chan struct{})}
	if err := s.unseal(t.Context(), dir, options{}); err != nil {
		t.Fatal(err)
	}
	var images []string
	at, hot := 0, 0
	take := func() {
		if at++; at > 40 && at%16 != 0 { // the log grows; nothing new comes
			return
		}
		image := stateDir(t)
		if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
			t.Error(err)
		}
		if err := os.Chmod(image, 0o700); err != nil {
			t.Error(err)
		}
		images = append(images, image)
	}
	s.vfs.Inject(func(seal.At) seal.Fault { take(); return seal.NoFault })
	path := filepath.Join(dir, dbName)
	if err := inspect(t.Context(), s.vfs, path); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.write, err = connectPool(s.vfs, path, 1, "_txlock=immediate"); err != nil {
		t.Fatal(err)
	}
	if s.read, err = connectPool(s.vfs, path, readers, "_pragma=query_only(on)"); err != nil {
		t.Fatal(err)
	}
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	take()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, image := range images {
		had := strings.Join(entries(t, image), " ")
		if info, err := os.Stat(filepath.Join(image, dbName+"-journal")); err == nil && info.Size() > 0 {
			hot++
		}
		again, err := Open(t.Context(), image)
		if err != nil {
			t.Errorf("killed before operation %d, which left %s: %v", i, had, err)
			continue
		}
		if err := again.Close(); err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	t.Logf("%d starts after one that was killed, %d of them with a journal", len(images), hot)
	if hot == 0 {
		t.Error("none was killed before the log was there")
	}
}
