package store

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// CheckDir refuses a state directory that other users can enter or read: it holds
// the keys of the organisation. Windows has no such mode bits; there the access
// list of the profile directory decides.
func CheckDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("state directory %s: %w", dir, fs.ErrInvalid)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o; run: chmod 700 %s", ErrOpenToOthers, dir, mode, dir)
	}
	return nil
}

// makeDir makes the state directory when there is none, and checks it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return CheckDir(dir)
}
