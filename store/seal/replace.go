package seal

import (
	"errors"
	"os"
	"path/filepath"
)

// Leftover is the pattern of what a crash can leave of a file that was to replace the
// one at path.
func Leftover(path string) string { return "." + filepath.Base(path) + "-*" }

// ReplaceFile writes a new file of mode 0600 beside path, syncs it and renames it
// over path: a crash leaves the old file or the new one, whole.
func ReplaceFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), Leftover(path))
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return Rename(tmp.Name(), path)
}

// Rename moves a synced file over another and makes that durable.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}
