//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the advisory lock of f. The kernel lets it go with the last
// descriptor, so a killed process leaves no lock behind.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
