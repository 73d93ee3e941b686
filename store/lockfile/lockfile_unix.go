//go:build unix

package lockfile

import (
	"errors"
	"os"
	"syscall"
)

// Try takes the lock of f, or returns ErrHeld.
func Try(f *os.File) error {
	err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrHeld
	}
	return err
}

// Wait takes the lock of f when nobody else has it.
func Wait(f *os.File) error { return flock(f, syscall.LOCK_EX) }

// Release lets the lock of f go, which its Close does too.
func Release(f *os.File) error { return flock(f, syscall.LOCK_UN) }

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
